"""The configuration of a run: what is accepted, what is refused and what the refusal says."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from transformers import TrainingArguments

from jina.training.config_sections import (
    FIXED_TRAINING_VALUES,
    LIMITED_TRAINING_TYPES,
    OUR_TRAINING_DEFAULTS,
    OUR_TRAINING_FIELDS,
    LoraSection,
    TrainingSection,
)
from jina.training.config_sources import LOCAL_PATH_SETTINGS
from jina.training.training_config import (
    FIELDS,
    SECTIONS,
    ConfigError,
    JinaTrainingConfig,
    load_config,
)
from jina.training.yaml_loading import parse_yaml

ROOT = Path(__file__).parents[2]
DEMO_FILES = ("data/demo/train.jsonl", "data/demo/eval.jsonl")
HF_FIELDS = {field.name: field for field in dataclasses.fields(TrainingArguments)}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with the demo files, which is also the working directory."""
    for file in DEMO_FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def load(project):
    """Load a configuration given as text, in the project."""

    def load_text(text="", overrides=()):
        Path("project_config.yaml").write_text(text, encoding="utf-8")
        return load_config("project_config.yaml", overrides)

    return load_text


@pytest.fixture
def problems(load):
    """The problems of a configuration that must be refused."""

    def problems_of(text="", overrides=()):
        with pytest.raises(ConfigError) as caught:
            load(text, overrides)
        return caught.value.problems

    return problems_of


def section_and_name(key):
    section, _, name = key.partition(".")
    return section, name


# --- names ---------------------------------------------------------------------------------------


def misspell(name):
    """Drop a letter, or double one where that gives another name."""
    dropped = [name[:i] + name[i + 1 :] for i in range(len(name) // 2, len(name))]
    doubled = [name[:i] + name[i] + name[i:] for i in range(len(name))]
    taken = {key.partition(".")[2] for key in FIELDS}
    return next(word for word in (*dropped, *doubled) if word and word not in taken)


@pytest.mark.parametrize("key", FIELDS)
def test_each_misspelt_key_is_refused_and_the_right_one_named(problems, key):
    section, name = section_and_name(key)
    wrong = misspell(name)
    (problem,) = problems(f"{section}:\n  {wrong}: 1\n")
    assert problem.startswith(f"project_config.yaml:2: {section}.{wrong}: unknown key; got ")
    assert problem.endswith(f"did you mean {name}?")


@pytest.mark.parametrize("key", FIELDS)
def test_each_key_in_a_foreign_section_is_sent_home(problems, key):
    section, name = section_and_name(key)
    foreign = "loss" if section != "loss" else "training"
    (problem,) = problems("", [f"{foreign}.{name}=1"])
    assert problem.endswith(f"{name} belongs to {section}:")


@pytest.mark.parametrize("section", SECTIONS)
def test_each_misspelt_section_is_refused_and_the_right_one_named(problems, section):
    (problem,) = problems(f"{section[:-1]}:\n  x: 1\n")
    assert problem.endswith(f"did you mean {section}?")


# --- values --------------------------------------------------------------------------------------

WRONG_VALUES = [
    ("model.base_model_path", "5"),
    ("model.base_model_path", "''"),
    ("model.base_model_path", "[a]"),
    ("model.dtype", "bf16"),
    ("model.dtype", "null"),
    ("model.attn_implementation", "sdpa"),
    ("lora.tasks", "retrieval"),
    ("lora.tasks", "[retreival]"),
    ("lora.tasks", "[]"),
    ("lora.tasks", "null"),
    ("lora.init", "true"),
    ("lora.r", "16.0"),
    ("lora.r", "'16'"),
    ("lora.r", "0"),
    ("lora.r", "true"),
    ("lora.r", "016"),
    ("lora.alpha", "0"),
    ("lora.alpha", "'32'"),
    ("lora.alpha", ".inf"),
    ("lora.dropout", "1"),
    ("lora.dropout", "-0.1"),
    ("lora.dropout", "false"),
    ("data.train", "null"),
    ("data.train", "[]"),
    ("data.train", "[a.jsonl, 5]"),
    ("data.train", "{a: b}"),
    ("data.eval", "7"),
    ("data.eval", "false"),
    ("data.image_base_dir", "1.5"),
    ("data.min_pixels", "783"),
    ("data.max_pixels", "1e6"),
    ("data.max_pixels", "602_112"),
    ("data.image_size", "450"),
    ("data.image_size", "0"),
    ("data.max_text_tokens", "32769"),
    ("data.max_text_tokens", "null"),
    ("data.max_text_tokens", "8k"),
    ("data.check_images", "deep"),
    ("data.check_images", "true"),
    ("data.on_bad_sample", "ignore"),
    ("data.on_bad_sample", "null"),
    ("data.max_bad_fraction", "1"),
    ("data.max_bad_fraction", "-0.1"),
    ("data.max_bad_fraction", "1%"),
    ("data.vision_cache", "ram"),
    ("data.vision_cache", "true"),
    ("data.vision_cache_gib", "0"),
    ("data.vision_cache_gib", "32GiB"),
    ("loss.temperature", "0"),
    ("loss.temperature", "-0.02"),
    ("loss.temperature", ".nan"),
    ("loss.temperature", "1e999"),
    ("loss.temperature", "true"),
    ("loss.temperature", "2:30"),
    ("loss.symmetric", "yes"),
    ("loss.symmetric", "1"),
    ("loss.symmetric", "'true'"),
    ("evaluation.every_steps", "0"),
    ("evaluation.every_steps", "1.5"),
    ("evaluation.every_steps", "steps"),
    ("evaluation.direction", "back"),
    ("training.output_dir", "null"),
    ("training.learning_rate", "'1e-5'"),
    ("training.learning_rate", "0"),
    ("training.learning_rate", "-1e-5"),
    ("training.learning_rate", ".inf"),
    ("training.learning_rate", "[1e-5]"),
    ("training.per_device_train_batch_size", "1"),
    ("training.per_device_train_batch_size", "32.0"),
    ("training.per_device_eval_batch_size", "1"),
    ("training.gradient_accumulation_steps", "0"),
    ("training.num_train_epochs", "0"),
    ("training.num_train_epochs", "three"),
    ("training.max_steps", "1e3"),
    ("training.warmup_steps", "-1"),
    ("training.weight_decay", "-0.1"),
    ("training.adam_beta1", "'0.9'"),
    ("training.optim", "adamw"),
    ("training.optim", "5"),
    ("training.lr_scheduler_type", "cosin"),
    ("training.lr_scheduler_type", "true"),
    ("training.lr_scheduler_kwargs", "[1]"),
    ("training.eval_strategy", "off"),
    ("training.eval_strategy", "false"),
    ("training.save_strategy", "step"),
    ("training.hub_strategy", "never"),
    ("training.debug", "[overflow]"),
    ("training.bf16", "yes"),
    ("training.bf16", "1"),
    ("training.tf32", "on"),
    ("training.seed", "010"),
    ("training.seed", "null"),
    ("training.save_total_limit", "0"),
    ("training.save_steps", "0"),
    ("training.logging_steps", "0"),
    ("training.dataloader_num_workers", "-1"),
    ("training.dataloader_num_workers", "two"),
    ("training.report_to", "tensorbord"),
    ("training.report_to", "[none, wnadb]"),
    ("training.report_to", "[auto, wandb]"),
    ("training.report_to", "all"),
    ("training.report_to", "clearml"),
    ("training.hub_strategy", "every_save"),
    ("training.hub_always_push", "true"),
    ("training.run_name", "5"),
    ("training.train_sampling_strategy", "group_by_length"),
    ("training.liger_kernel_config", "{rope: 1}"),
]


@pytest.mark.parametrize(("key", "text"), WRONG_VALUES)
def test_a_wrong_value_is_refused_with_its_key_and_line(problems, key, text):
    section, name = section_and_name(key)
    (problem,) = problems(f"# a comment\n{section}:\n  {name}: {text}\n")
    assert problem.startswith(f"project_config.yaml:3: {key}: ")
    assert problem.count("; ") >= 2
    assert "Input should" not in problem


RIGHT_VALUES = [
    ("model.base_model_path", "/some/where", "/some/where"),
    ("model.dtype", "bfloat16", "bfloat16"),
    ("model.attn_implementation", "packed_sdpa", "packed_sdpa"),
    ("lora.tasks", "[text-matching, code]", ["text-matching", "code"]),
    ("lora.init", "new", "new"),
    ("lora.dropout", "0", 0.0),
    ("data.train", "[data/demo/eval.jsonl]", ["data/demo/eval.jsonl"]),
    ("data.eval", "null", None),
    ("data.image_base_dir", "data/demo", "data/demo"),
    ("data.min_pixels", "784", 784),
    ("data.max_pixels", "602112", 602112),
    ("data.image_size", "448", 448),
    ("data.max_text_tokens", "32768", 32768),
    ("data.check_images", "headers", "headers"),
    ("data.on_bad_sample", "skip", "skip"),
    ("data.max_bad_fraction", "0", 0.0),
    ("data.vision_cache", "disk", "disk"),
    ("data.vision_cache", "off", "off"),
    ("data.vision_cache_gib", "0.5", 0.5),
    ("loss.temperature", "1", 1.0),
    ("loss.temperature", "5e-2", 0.05),
    ("loss.symmetric", "true", True),
    ("evaluation.every_steps", "50", 50),
    ("evaluation.direction", "both", "both"),
    ("training.learning_rate", "1e-5", 1e-5),
    ("training.learning_rate", "1", 1.0),
    ("training.per_device_train_batch_size", "2", 2),
    ("training.optim", "adafactor", "adafactor"),
    ("training.lr_scheduler_type", "linear", "linear"),
    ("training.lr_scheduler_kwargs", "{num_cycles: 2}", {"num_cycles": 2}),
    ("training.eval_strategy", "epoch", "epoch"),
    ("training.save_strategy", "no", "no"),
    ("training.save_total_limit", "null", None),
    ("training.warmup_steps", "100", 100.0),
    ("training.debug", "underflow_overflow", "underflow_overflow"),
    ("training.bf16", "false", False),
    ("training.report_to", "[none]", ["none"]),
    ("training.average_tokens_across_devices", "false", False),
]


@pytest.mark.parametrize(("key", "text", "value"), RIGHT_VALUES)
@pytest.mark.parametrize("by_override", [False, True])
def test_a_right_value_is_accepted_from_file_and_override(load, key, text, value, by_override):
    section, name = section_and_name(key)
    file_text = "" if by_override else f"{section}:\n  {name}: {text}\n"
    config = load(file_text, [f"{key}={text}"] if by_override else [])
    given = getattr(getattr(config, section), name)
    assert given == value
    assert type(given) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "nearest"),
    [
        ("lora.tasks", "[retreival]", "retrieval"),
        ("lora.tasks", "[text_matching]", "text-matching"),
        ("model.dtype", "bfloat", "bfloat16"),
        ("model.attn_implementation", "flash_attn_2", "flash_attention_2"),
        ("training.optim", "adamw_torc", "adamw_torch"),
        ("training.lr_scheduler_type", "Cosine", "cosine"),
        ("training.save_strategy", "epochs", "epoch"),
        ("training.report_to", "[wandb, tensorbord]", "tensorboard"),
    ],
)
def test_a_misspelt_choice_names_the_nearest(problems, key, text, nearest):
    (problem,) = problems("", [f"{key}={text}"])
    assert f"{key}: unknown choice" in problem
    assert problem.endswith(f"did you mean {nearest}?")


def test_a_choice_like_none_lists_them_all(problems):
    (problem,) = problems("lora:\n  tasks: [xyzzy]\n")
    assert problem.endswith("use one of retrieval, text-matching, code")


def test_a_range_is_explained_in_words(problems):
    (problem,) = problems("training:\n  per_device_train_batch_size: 1\n")
    assert problem == (
        "project_config.yaml:2: training.per_device_train_batch_size: must be greater than or "
        "equal to 2; got 1; a batch of one has no in-batch negatives"
    )


def test_a_path_under_the_home_folder_is_expanded_and_others_stay(load, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    config = load("model:\n  base_model_path: ~/jina\n")
    assert config.model.base_model_path == "/home/someone/jina"
    assert load("model:\n  base_model_path: ./a/../b\n").model.base_model_path == "./a/../b"


# --- what is fixed, and what belongs together ----------------------------------------------------


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


# --- layers and where a value came from ----------------------------------------------------------


def test_without_settings_the_defaults_hold_and_nothing_is_changed(load):
    config = load()
    assert config == JinaTrainingConfig()
    assert config.changed_settings() == []


def test_each_layer_overrides_the_one_before(load):
    def output_dir(text, overrides=()):
        config = load(text, overrides)
        changed = {key: origin for key, _, origin in config.changed_settings()}
        return config.training.output_dir, changed.get("training.output_dir")

    text = "training:\n  output_dir: from/project\n"
    assert output_dir("") == ("outputs/models/finetuned", None)
    assert output_dir(text) == ("from/project", "project_config.yaml")
    Path("local_paths.yaml").write_text("output_dir: from/local\n")
    assert output_dir(text) == ("from/local", "local_paths.yaml")
    assert output_dir(text, ["training.output_dir=from/flag"]) == ("from/flag", "--set")


def test_local_paths_are_looked_up_beside_the_configuration(project):
    folder = project / "elsewhere"
    folder.mkdir()
    (folder / "run.yaml").write_text("")
    (project / "local_paths.yaml").write_text("output_dir: wrong\n")
    assert load_config(folder / "run.yaml").changed_settings() == []
    (folder / "local_paths.yaml").write_text("output_dir: right\n")
    assert load_config(folder / "run.yaml").training.output_dir == "right"


def test_changed_settings_leave_out_what_equals_its_default(load):
    text = "loss:\n  temperature: 0.02\n  symmetric: true\ntraining:\n  num_train_epochs: 1\n"
    changed = load(text, ["training.seed=42", "training.weight_decay=1e-2"]).changed_settings()
    assert changed == [
        ("loss.symmetric", True, "project_config.yaml"),
        ("training.weight_decay", 0.01, "--set"),
    ]


def test_an_override_back_to_the_default_is_no_change(load):
    assert load("loss:\n  temperature: 0.1\n", ["loss.temperature=0.02"]).changed_settings() == []


# --- transformers' arguments ---------------------------------------------------------------------


def test_arguments_carry_our_defaults_the_fixed_values_and_the_users(load):
    arguments = load("training:\n  weight_decay: 0.1\n").training_arguments(bf16=False)
    expected = {name: value for name, (value, _) in FIXED_TRAINING_VALUES.items()}
    del expected["fsdp"], expected["fsdp_config"]  # transformers normalizes them
    expected |= OUR_TRAINING_DEFAULTS | {"weight_decay": 0.1, "report_to": ["tensorboard"]}
    for name, value in expected.items():
        assert getattr(arguments, name) == value, name


def test_every_default_of_ours_differs_from_transformers_own_or_is_fixed():
    for name, field in TrainingSection.model_fields.items():
        if name in OUR_TRAINING_FIELDS:
            continue
        ours = field.get_default(call_default_factory=True)
        hf = HF_FIELDS[name]
        theirs = hf.default if hf.default is not dataclasses.MISSING else hf.default_factory()
        if name in OUR_TRAINING_DEFAULTS:
            assert ours != theirs, f"{name}: a row that changes nothing"
        elif name not in FIXED_TRAINING_VALUES:
            assert ours == theirs, name


def test_our_tables_name_only_fields_of_training_arguments():
    tables = (OUR_TRAINING_DEFAULTS, FIXED_TRAINING_VALUES, LIMITED_TRAINING_TYPES)
    assert all(name in HF_FIELDS for table in tables for name in table)
    assert HF_FIELDS.keys().isdisjoint(OUR_TRAINING_FIELDS)
    assert set(TrainingSection.model_fields) == {*HF_FIELDS, *OUR_TRAINING_FIELDS}


@pytest.mark.parametrize(
    ("text", "follows_model"),
    [("", True), ("bf16: false", False), ("fp16: false", True)],
)
def test_bf16_follows_the_model_unless_the_user_names_a_precision(load, text, follows_model):
    config = load(f"training:\n  use_cpu: true\n  {text}\n")
    assert config.training_arguments(bf16=True).bf16 is follows_model
    assert config.training_arguments(bf16=False).bf16 is False


def test_the_users_bf16_outweighs_the_models(load):
    config = load("training:\n  use_cpu: true\n  bf16: true\n")
    assert config.training_arguments(bf16=False).bf16 is True


def test_gradient_checkpointing_works_under_its_old_name_but_not_under_both(load, problems):
    text = "training:\n  gradient_checkpointing: true\n"
    with pytest.warns(FutureWarning):
        assert load(text).training_arguments(bf16=False).activation_checkpointing is True
    assert load().training_arguments(bf16=False).activation_checkpointing is False
    [problem] = problems(f"{text}  activation_checkpointing: false\n")
    assert "training.gradient_checkpointing: the old name" in problem


def test_evaluation_steps_become_transformers_own(load):
    arguments = load("evaluation:\n  every_steps: 7\n").training_arguments(bf16=False)
    assert (arguments.eval_strategy, arguments.eval_steps) == ("steps", 7)
    assert load().training_arguments(bf16=False).eval_strategy == "no"


def test_building_arguments_writes_nothing(load, project):
    before = sorted(project.rglob("*"))
    config = load()
    config.training_arguments(bf16=False)
    assert sorted(project.rglob("*")) == sorted({*before, project / "project_config.yaml"})


# --- the object ----------------------------------------------------------------------------------


def test_a_loaded_configuration_can_not_be_changed(load):
    config = load()
    with pytest.raises(ValidationError):
        config.loss.temperature = 1.0
    with pytest.raises(ValidationError):
        config.loss = None


def test_a_section_built_in_code_is_as_strict():
    assert LoraSection(tasks=["code"]).tasks == ["code"]
    with pytest.raises(ValidationError):
        LoraSection(taks=["code"])
    with pytest.raises(ValidationError):
        TrainingSection(remove_unused_columns=True)


def test_data_files_are_lists_of_paths_in_any_case(load):
    data = load("data:\n  train: [data/demo/train.jsonl, data/demo/eval.jsonl]\n  eval:\n").data
    assert data.train_files == [Path(file) for file in DEMO_FILES]
    assert data.eval_files == []
    assert load().data.eval_files == [Path("data/demo/eval.jsonl")]


def test_the_base_model_is_required_with_the_way_to_set_it(load, project):
    with pytest.raises(ConfigError, match="not set; got null; copy local_paths.example.yaml"):
        load().require_base_model_path()
    with pytest.raises(ConfigError, match="make demo"):
        load().require_base_model_path()
    wrong = load("model:\n  base_model_path: nowhere\n")
    with pytest.raises(ConfigError, match=r"project_config.yaml:2: .* no such folder.*make demo"):
        wrong.require_base_model_path()
    right = load("", ["model.base_model_path=data"])
    assert right.require_base_model_path() == Path("data")


# --- the shipped files ---------------------------------------------------------------------------


def test_the_shipped_configuration_loads_and_shows_the_defaults(project):
    shutil.copy(ROOT / "project_config.yaml", project)
    assert load_config("project_config.yaml").changed_settings() == []


def test_the_shipped_configuration_shows_each_of_our_settings():
    shown = parse_yaml((ROOT / "project_config.yaml").read_text("utf-8"), source="x").value
    assert list(shown) == list(SECTIONS)
    for name, section in SECTIONS.items():
        if name == "training":
            assert set(OUR_TRAINING_DEFAULTS) <= set(shown[name])
        else:
            assert list(shown[name]) == list(section.model_fields)


def test_the_example_of_local_paths_sets_nothing_until_uncommented(load):
    example = (ROOT / "local_paths.example.yaml").read_text("utf-8")
    Path("local_paths.yaml").write_text(example)
    assert load().changed_settings() == []
    keys = [line.removeprefix("# ") for line in example.splitlines() if "/" in line and ":" in line]
    values = parse_yaml("\n".join(key for key in keys if ": /" in key), source="x").value
    assert list(values) == list(LOCAL_PATH_SETTINGS)


def test_each_of_our_settings_has_a_description():
    sections = [section for name, section in SECTIONS.items() if name != "training"]
    assert all(field.description for section in sections for field in section.model_fields.values())
