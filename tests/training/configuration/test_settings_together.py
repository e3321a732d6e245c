"""Settings that are fixed, exclude each other, need each other or hold a secret."""

from pathlib import Path

import pytest
import yaml

from jina.training.config_sections import FIXED_TRAINING_VALUES
from jina.training.training_config import ConfigError, JinaTrainingConfig


@pytest.mark.parametrize("name", FIXED_TRAINING_VALUES)
def test_a_fixed_value_can_be_written_but_not_changed(load, problems, name):
    value, reason = FIXED_TRAINING_VALUES[name]
    other = not value if isinstance(value, bool) else "something"
    (problem,) = problems("", [f"training.{name}={yaml.safe_dump(other).split()[0]}"])
    assert f"--set: training.{name}: must stay " in problem and problem.endswith(reason)
    same = yaml.safe_dump(value).split("\n")[0]
    assert getattr(load("", [f"training.{name}={same}"]).training, name) == value


def test_zero_is_not_taken_for_false(problems):
    (problem,) = problems("training:\n  remove_unused_columns: 0\n")
    assert "must stay false; got 0" in problem


CONFLICTS = [
    ("lora: {r: 16}", "lora.r", "lora.init: new"),
    ("lora: {alpha: 16, init: continue}", "lora.alpha", "lora.init: new"),
    ("data: {image_size: 448, max_pixels: 1000000}", "data.image_size", "data.max_pixels"),
    ("data: {image_size: 448, min_pixels: 784}", "data.image_size", "data.min_pixels"),
    ("data: {min_pixels: 2000, max_pixels: 1000}", "data.min_pixels", "data.max_pixels"),
    ("data: {eval: }\nevaluation: {every_steps: 5}", "evaluation.every_steps", "data.eval"),
    ("data: {eval: }\ntraining: {eval_strategy: epoch}", "training.eval_strategy", "data.eval"),
    (
        "evaluation: {every_steps: 5}\ntraining: {eval_steps: 6}",
        "training.eval_steps",
        "evaluation.every_steps",
    ),
    (
        "evaluation: {every_steps: 5}\ntraining: {eval_strategy: epoch}",
        "training.eval_strategy",
        "evaluation.every_steps",
    ),
    ("loss: {weights: {single: 0, multi: 0}}", "loss.weights", "single or multi"),
    (
        "loss: {weights: {single: 0, kl: 0}, matryoshka_dims: [128]}",
        "loss.matryoshka_dims",
        "weights.single",
    ),
    ("loss: {matryoshka_dims: [128, 256, 128]}", "loss.matryoshka_dims", "name each once"),
    (
        "training: {tokens_per_micro_batch: 1000, tokens_with_graph: 999}",
        "training.tokens_with_graph",
        "training.tokens_per_micro_batch",
    ),
    (
        "training: {tokens_per_micro_batch: null, tokens_with_graph: 999}",
        "training.tokens_with_graph",
        "training.tokens_per_micro_batch",
    ),
    (
        "data: {train: [data/demo/train.jsonl, data/demo/../demo/train.jsonl], eval: null}",
        "data.train",
        "a file twice",
    ),
]


@pytest.mark.parametrize(("text", "key", "other"), CONFLICTS)
def test_settings_that_exclude_each_other_are_both_named(problems, text, key, other):
    (problem,) = problems(text)
    assert f": {key}: " in problem
    assert other in problem


@pytest.mark.parametrize(
    "text",
    [
        "lora: {init: new, r: 16, alpha: 32}",
        "data: {min_pixels: 1000, max_pixels: 1000}",
        "data: {image_size: 448, min_pixels: null}",
        "data: {eval: }\ntraining: {eval_strategy: 'no'}",
        "evaluation: {every_steps: 5}",
        "evaluation: {every_steps: null}\ntraining: {eval_strategy: steps, eval_steps: 6}",
        "loss: {weights: {single: 0, kl: 0}}",
        "loss: {matryoshka_dims: [128, 256]}",
        "training: {tokens_per_micro_batch: 1000, tokens_with_graph: 1000}",
        "data: {train: [data/demo/train.jsonl, data/demo/eval.jsonl], eval: null}",
    ],
)
def test_settings_that_go_together_are_accepted(load, text):
    assert isinstance(load(text), JinaTrainingConfig)


def test_a_wrong_value_does_not_cause_a_second_complaint(problems):
    (problem,) = problems("lora:\n  init: nwe\n  r: 16\n")
    assert "did you mean new?" in problem


def test_a_tracker_that_is_not_installed_is_refused(problems, monkeypatch):
    module = "jina.training.training_config.get_available_reporting_integrations"
    monkeypatch.setattr(module, lambda: ["wandb"])
    (problem,) = problems("training:\n  report_to: [wandb, mlflow]\n")
    assert "the tracker is not installed; got mlflow" in problem


@pytest.mark.parametrize(
    ("text", "is_installed", "trackers"),
    [
        ("", True, ["tensorboard"]),
        ("report_to: auto", True, ["tensorboard"]),
        ("report_to: auto", False, []),
        ("report_to: none", True, []),
        ("report_to: [none]", True, []),
        ("report_to: null", True, []),
    ],
)
def test_auto_is_tensorboard_where_it_is_installed(load, monkeypatch, text, is_installed, trackers):
    module = "jina.training.tracked_arguments.is_tensorboard_available"
    monkeypatch.setattr(module, lambda: is_installed)
    arguments = load(f"training:\n  use_cpu: true\n  {text}\n").training_arguments(bf16=False)
    assert arguments.report_to == trackers


def test_a_push_needs_the_name_of_a_repository_and_is_not_left_to_the_trainer(load, problems):
    (problem,) = problems("training:\n  push_to_hub: true\n")
    assert "training.hub_model_id: not set; got null; name the repository" in problem
    config = load("training:\n  push_to_hub: true\n  hub_model_id: me/model\n")
    assert config.training.push_to_hub
    assert not config.training_arguments(bf16=False).push_to_hub


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr_scheduler_type: reduce_lr_on_plateau", "requires an eval strategy"),
        ("load_best_model_at_end: true", "save and eval strategy to match"),
        ("dataloader_prefetch_factor: 2", "dataloader_num_workers"),
        ("logging_steps: 1.5", "must be an integer"),
        ("debug: xyzzy", "xyzzy"),
        ("accelerator_config: {xyzzy: 1}", "xyzzy"),
        ("accelerator_config: nowhere.json", "nowhere.json"),
    ],
)
def test_what_transformers_refuses_is_a_problem_too(problems, text, words):
    (problem,) = problems(f"training:\n  {text}\n")
    assert problem.startswith("project_config.yaml: training: TrainingArguments refuses")
    assert words in problem


def test_bf16_without_hardware_for_it_is_refused(load, problems, monkeypatch):
    has_bf16 = "transformers.training_args.is_torch_bf16_gpu_available"
    monkeypatch.setattr(has_bf16, lambda: False)
    (problem,) = problems("training:\n  bf16: true\n")
    assert "doesn't support bf16" in problem
    with pytest.raises(ConfigError, match="^training: TrainingArguments refuses .* support bf16"):
        load().training_arguments(bf16=True)
    monkeypatch.setattr(has_bf16, lambda: True)
    assert load().training_arguments(bf16=True).bf16


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("eval_ndcg@7", "did you mean eval_ndcg@"),
        ("ndgc@5", "did you mean eval_ndcg@5"),
        ("eval_dim128_recal@10", "did you mean eval_recall@10"),
        ("xyz", "use eval_loss, eval_ndcg@1, eval_ndcg@5"),
        ("eval_dim128_loss", "use eval_loss, eval_ndcg@1, eval_ndcg@5"),
    ],
)
def test_a_metric_that_no_evaluation_has_is_refused_before_the_run(problems, metric, words):
    (problem,) = problems(overrides=[f"training.metric_for_best_model={metric}"])
    assert "training.metric_for_best_model: no figure of an evaluation; got" in problem
    assert words in problem


def test_multi_vectors_have_a_metric_where_they_are_trained(load, problems):
    multi = "training.metric_for_best_model=eval_multi_ndcg@5"
    load(overrides=[multi])
    (problem,) = problems(overrides=[multi, "loss.weights={multi: 0.0, kl: 0.0}"])
    assert "no figure of an evaluation" in problem
    for name in ("ndcg@5", "eval_loss", "eval_spearman", "eval_dim128_ndcg@5"):
        args = load(overrides=[f"training.metric_for_best_model={name}"]).training_arguments(
            bf16=False
        )
        assert args.greater_is_better == (name != "eval_loss")


def test_the_base_model_is_measured_first_where_there_are_held_out_rows(load, problems):
    def is_on(*overrides):
        return load(overrides=overrides).training_arguments(bf16=False).eval_on_start

    assert is_on()
    assert not is_on("data.eval=null")
    assert not is_on("training.eval_on_start=false")
    (problem,) = problems(overrides=["data.eval=null", "training.eval_on_start=true"])
    assert "there is nothing to evaluate: data.eval is null" in problem


def test_rows_of_ones_own_are_not_measured_on_the_demos(load, problems):
    own = "data: {train: [data/demo/eval.jsonl]}"
    (problem,) = problems(own)
    assert problem.startswith("project_config.yaml: data.eval: left out beside rows of your own")
    assert problem.endswith("; name your held-out rows, or write eval: null")
    assert load(own, ["data.eval=null"]).data.eval_files == []
    assert load(own, ["data.eval=data/demo/train.jsonl"]).data.eval_files
    assert load().data.eval_files  # the demo's rows beside the demo's rows


def test_missing_data_files_are_all_named(problems):
    text = "data:\n  train: [data/demo/train.jsonl, a.jsonl, b.jsonl]\n  eval: c.jsonl\n"
    found = problems(text + "  image_base_dir: nowhere\n")
    assert [problem.split("; ")[1] for problem in found] == [
        "got a.jsonl",
        "got b.jsonl",
        "got c.jsonl",
        "got nowhere",
    ]
    assert all(str(Path.cwd()) in problem for problem in found)


@pytest.mark.parametrize(
    "line",
    [
        "training: {hub_token: canary}",
        "data: {train: 'https://user:canary@host/a.jsonl'}",
        "training: {run_name: 'wss://me:canary@tracker'}",
        "training: {run_name: hf_canarycanarycanary}",
        "training: {hub_tokn: canary}",
        "wandb: {api_key: canary}",
    ],
)
def test_a_secret_is_refused_and_never_shown(problems, line):
    (problem,) = problems(line)
    assert "canary" not in problem
    (problem,) = problems(line.replace("canary", "other"))
    assert "other" not in problem


def test_the_environment_is_where_a_secret_belongs(problems):
    (problem,) = problems("training:\n  hub_token: abc\n")
    assert "put it in the environment" in problem


def test_all_problems_of_all_kinds_are_reported_at_once(problems):
    Path("local_paths.yaml").write_text("base_model: /x\nimage_base_dir: nowhere\n")
    text = (
        "lora:\n  r: 16\n  tsk: code\n"
        "data:\n  train: a.jsonl\n"
        "training:\n  learning_rate: '1e-5'\n  seed: 1\n  seed: 2\n  hub_token: x\n"
        "  load_best_model_at_end: true\n"
        "los:\n  temperature: 1\n"
    )
    found = problems(text, ["training.optim=adamw_torc", "seed=1"])
    starts = {problem.split("; got")[0] for problem in found}
    assert starts == {
        "project_config.yaml:2: lora.r: only a new adapter can be given a shape, "
        "and lora.init is continue",
        "project_config.yaml:3: lora.tsk: unknown key",
        "project_config.yaml:5: data.train: no such file",
        "project_config.yaml: data.eval: left out beside rows of your own, which the demo's say "
        "nothing about",
        "project_config.yaml:7: training.learning_rate: must be a number",
        "project_config.yaml:9: training.seed: given twice",
        "project_config.yaml:10: training.hub_token: a secret does not belong here",
        "project_config.yaml:12: los: unknown section",
        "project_config.yaml: training: TrainingArguments refuses the values",
        "local_paths.yaml:1: base_model: unknown key",
        "local_paths.yaml:2: data.image_base_dir: no such folder",
        "--set: training.optim: unknown choice",
        "--set: seed: not section.key=value",
    }
    assert len(found) == len(starts)
