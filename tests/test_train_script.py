"""`python train.py` as a user runs it: what it writes, what it refuses, how it exits."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from jina.__main__ import main as jina_command
from jina.export.model_card import read_card_facts
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model, JinaEmbeddingsV4Processor
from jina.retrieval.report_page.run_record import ReportError
from jina.training.jina_trainer import JinaEmbeddingTrainer

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(tmp_path, tiny_folder, rows, write_rows):
    """A configuration of three quick steps on eight rows."""
    settings = {
        "model": {"base_model_path": str(tiny_folder)},
        "data": {"train": str(write_rows(rows)), "eval": None},
        "training": {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-3,
            "max_steps": 3,
            "use_cpu": True,
        },
    }
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(settings))  # JSON is YAML
    return file


@pytest.fixture
def run(config, caplog):
    """Return a function that runs train.py in this process: exit code and what it said."""

    def run_script(*arguments):
        caplog.clear()
        code = train.main(["--config", str(config), *arguments])
        return code, caplog.text

    return run_script


def test_a_run_exits_with_0_and_writes_a_complete_checkpoint(run, tmp_path, tiny_folder):
    code, printed = run()
    assert code == 0
    small = {
        str(file.relative_to(tiny_folder)) for file in tiny_folder.rglob("*") if file.is_file()
    }
    written = {str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*")}
    assert small <= written
    assert "in-batch negatives per query             3" in printed
    assert "trainable, vision tower                  0" in printed
    assert "training.max_steps                       3  (config.yaml)" in printed
    assert "step 3/3  loss" in printed
    assert f'from_pretrained("{tmp_path / "out"}")' in printed


def test_the_two_line_sketch_runs_as_written(run, tmp_path):
    run()
    model = JinaEmbeddingsV4Model.from_pretrained(tmp_path / "out")
    vectors = model.get_single_vector_embeddings(texts=["hello world"], task_label="retrieval")
    assert vectors.shape == (1, 128)
    assert JinaEmbeddingsV4Processor.from_pretrained(tmp_path / "out").tokenizer


def test_a_dry_run_takes_one_step_and_writes_nothing(run, tmp_path):
    code, printed = run("--dry-run")
    assert code == 0
    assert "step 1/1  loss" in printed
    assert "one step done, nothing saved" in printed
    assert not (tmp_path / "out").exists()


def test_a_new_adapter_of_another_rank_trains_and_fits_the_official_layout(run, tmp_path):
    code, printed = run("--set", "lora.init=new", "--set", "lora.r=4", "--set", "lora.alpha=16")
    assert code == 0
    assert "rank 4, alpha 16" in printed
    saved = JinaEmbeddingsV4Model.from_pretrained(tmp_path / "out")
    assert saved.adapter_settings["retrieval"].rank == 32


def test_resume_goes_on_from_the_newest_checkpoint(run):
    every_step = ("--set", "training.save_steps=1")
    assert run(*every_step, "--set", "training.max_steps=2")[0] == 0
    longer = ("--allow-change", "training.max_steps", "--overwrite")
    code, printed = run(*every_step, "--resume", *longer)
    assert code == 0
    assert "step 3/3" in printed
    assert "step 2/3" not in printed


def test_an_unfinished_run_goes_on_by_itself_and_ends_with_the_same_adapter(
    run, tmp_path, monkeypatch
):
    """The uninterrupted run, one that is stopped by SIGTERM in its second step, and a control."""

    def adapter(name):
        return load_file(tmp_path / name / "adapters/adapter_model.safetensors")

    assert run("--set", f"training.output_dir={tmp_path / 'whole'}")[0] == 0
    step = JinaEmbeddingTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(JinaEmbeddingTrainer, "training_step", interrupted)
    code, printed = run()
    assert code == 143
    assert "step 1: saved and stopped; got SIGTERM" in printed
    assert not (tmp_path / "out" / "adapters").exists()
    monkeypatch.undo()
    code, printed = run("--set", "training.logging_steps=3")  # which changes nothing
    assert code == 0
    assert f"Going on from {tmp_path / 'out' / 'checkpoint-1'}." in printed
    assert run("--set", f"training.output_dir={tmp_path / 'x'}", "--set", "training.seed=1")[0] == 0
    whole, resumed, other = map(adapter, ("whole", "out", "x"))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    assert not all(torch.equal(other[name], tensor) for name, tensor in whole.items())


def test_a_changed_run_is_refused_by_name_started_over_or_allowed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(JinaEmbeddingTrainer, "save_model", raise_interrupt)
    assert run("--set", "training.save_steps=2")[0] == 130  # before the model is saved
    assert (tmp_path / "out" / "checkpoint-3").is_dir()
    monkeypatch.undo()
    changed = ("--set", "training.learning_rate=0.002")
    code, printed = run(*changed)
    assert code == 2
    assert "training.learning_rate: was 0.001, is 0.002" in printed
    assert "--allow-change training.learning_rate" in printed
    code, printed = run(*changed, "--allow-change", "training.learning_rate")
    assert code == 0
    assert "The result is no longer that of the uninterrupted run." in printed
    code, printed = run(*changed, "--resume", "never")
    assert code == 2
    assert "holds a finished model" in printed
    code, printed = run(*changed, "--resume", "never", "--overwrite")
    assert code == 0
    assert "checkpoint-3 of an earlier run is deleted" in printed


def test_after_going_on_card_and_tracker_tell_the_whole_run(
    run, held_out, fresh_events, tmp_path, monkeypatch
):
    tracked = (*held_out, "--set", "training.report_to=tensorboard")
    with monkeypatch.context() as patch:
        patch.setattr(JinaEmbeddingTrainer, "save_model", raise_interrupt)
        assert run(*tracked, "--set", "training.save_steps=2")[0] == 130
    shutil.rmtree(tmp_path / "out/checkpoint-3")
    assert not (tmp_path / "out/README.md").exists()
    code, printed = run(*tracked, "--set", "training.save_steps=2")
    assert code == 0
    assert "Going on from" in printed
    told = read_card_facts(tmp_path / "out")
    assert told["configuration"]["training"]["max_steps"] == 3
    assert told["data"]["train: rows"] == 8
    assert {*told["metrics"]["image→text, single-128, ndcg@5"]} == {"before", "after"}
    (events,) = (tmp_path / "out/runs").iterdir()
    scalars = EventAccumulator(str(events)).Reload().Scalars("train/contrastive_loss")
    assert [event.step for event in scalars] == [1, 2, 3]
    log = json.loads((tmp_path / "out/run/trainer_state.json").read_text())["log_history"]
    losses = [entry["contrastive_loss"] for entry in log if "contrastive_loss" in entry]
    assert [event.value for event in scalars] == pytest.approx(losses)


def test_a_push_without_a_token_is_refused_with_everything_else(run, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    asked = ("--set", "training.push_to_hub=true", "--set", "training.hub_model_id=me/model")
    code, printed = run(*asked, "--resume", "--dry-run")
    assert code == 2
    assert "training.push_to_hub: pushing needs a token in the environment" in printed
    code, printed = run(*asked, "--resume")
    assert code == 2
    assert "needs a token" in printed
    assert "no checkpoint to go on from" in printed


def test_a_hub_that_refuses_ends_the_run_before_anything_is_deleted(run, tmp_path, monkeypatch):
    class Refusing:
        def __init__(self, token):
            pass

        def create_repo(self, *_, **__):
            raise OSError("403 Forbidden")

    assert run()[0] == 0
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr("jina.training.hub.HfApi", Refusing)
    asked = ("--set", "training.push_to_hub=true", "--set", "training.hub_model_id=me/model")
    code, printed = run(*asked, "--overwrite")
    assert code == 2
    assert "training.hub_model_id: me/model: the hub refuses; got OSError: 403" in printed
    assert (tmp_path / "out/adapters/adapter_model.safetensors").is_file()


def raise_interrupt(*args):
    raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_turns_bad_while_training_is_named_and_the_checkpoints_stand(
    run, tmp_path, monkeypatch, workers
):
    step = JinaEmbeddingTrainer.training_step

    def spoiling(self, *args, **kwargs):
        if self.state.global_step == 1:
            for file in tmp_path.glob("*.png"):
                file.write_bytes(b"not a picture")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(JinaEmbeddingTrainer, "training_step", spoiling)
    settings = ("max_steps=12", "save_steps=1", f"dataloader_num_workers={workers}")
    code, printed = run(*(part for s in settings for part in ("--set", f"training.{s}")))
    assert code == 4
    assert re.search(r"train.jsonl:\d: query_image: .*it has changed since the check", printed)
    assert "Traceback" not in printed
    assert re.search(r"checkpoint-\d is safe", printed)


def test_two_runs_at_once_in_one_folder_are_refused(run, tmp_path):
    """The lock is of a process, so the other run is one."""
    script = (
        "import fcntl, sys\n"
        f"stream = open({str(tmp_path / 'out' / '.lock')!r}, 'w')\n"
        "fcntl.lockf(stream, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    )
    (tmp_path / "out").mkdir()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as other:
        assert other.stdout.readline() == b"held\n"
        code, printed = run()
        other.stdin.close()
    assert code == 2
    assert "another run writes to it" in printed


# --- the check before training -------------------------------------------------------------------


def test_a_second_start_checks_nothing_again_until_something_changes(run, checked, tmp_path):
    assert run("--dry-run")[0] == 0
    assert checked == {"parse_line": 8, "load_image": 8}
    _, first = run("--dry-run")
    assert checked == {"parse_line": 8, "load_image": 8}
    Image.new("RGB", (56, 112), "red").save(tmp_path / "red.png")
    _, second = run("--dry-run")
    assert checked == {"parse_line": 16, "load_image": 16}
    assert "vision tokens per image                  6 to 6" in first
    assert "vision tokens per image                  6 to 8" in second


def test_headers_are_enough_where_the_user_says_so(run, checked):
    assert run("--dry-run", "--set", "data.check_images=headers")[0] == 0
    assert checked == {"parse_line": 8, "read_header": 8}


def test_bad_rows_are_skipped_within_the_budget_and_reported(run, rows, write_rows, tmp_path):
    rows.insert(3, {"query_image": "missing.png", "positive": "missing"})
    file = write_rows(rows)
    skipping = ("--set", "data.on_bad_sample=skip", "--set", "data.max_bad_fraction=0.12")
    for _ in range(2):  # checked, and from the cache
        code, printed = run(*skipping, "--overwrite")
        assert code == 0
        assert "train                                    8 rows, 8 distinct images" in printed
        assert "train, bad rows skipped                  1, see python -m jina validate" in printed
        assert f"{file}:4: query_image: missing.png: does not exist" in printed


def test_bad_rows_over_the_budget_and_bad_files_are_refused(run, rows, write_rows, tmp_path):
    rows.insert(3, {"query_image": "missing.png", "positive": "missing"})
    file = write_rows(rows)
    code, printed = run("--set", "data.on_bad_sample=skip")
    assert code == 2
    assert (
        "data.max_bad_fraction: too many rows to skip; got 1 bad ones of 9, over 0.01 of all"
        in printed
    )
    assert f"{file}:4: query_image: missing.png: does not exist" in printed
    file.write_text("")
    code, printed = run("--set", "data.on_bad_sample=skip", "--set", "data.max_bad_fraction=0.9")
    assert code == 2
    assert f"{file}: is empty" in printed


def test_control_without_skip_one_bad_row_stops_the_run(run, rows, write_rows):
    rows.insert(3, {"query_image": "missing.png", "positive": "missing"})
    write_rows(rows)
    code, printed = run("--set", "data.max_bad_fraction=0.5")
    assert code == 2
    assert "train.jsonl:4: query_image: missing.png: does not exist" in printed
    assert "too many rows" not in printed


# --- held-out rows and the report ----------------------------------------------------------------


@pytest.fixture
def held_out(write_rows, rows):
    """Flags of a run with held-out rows."""
    file = write_rows(rows, "eval.jsonl")
    return ("--set", f"data.eval={file}", "--set", "training.per_device_eval_batch_size=4")


def test_a_run_with_held_out_rows_ends_with_a_report(run, held_out, tmp_path):
    code, printed = run(*held_out, "--set", "evaluation.every_steps=2")
    assert code == 0
    assert [printed.count(f"held-out {step}/3") for step in range(4)] == [1, 0, 1, 1]
    start, end = map(printed.index, ("Held-out rows, before training", "Held-out rows, after"))
    assert printed.index("Settings that differ") < start  # what is measured is known by then
    assert "single-128 " in printed[start:end]
    assert "  change  " in printed[end:]
    out = tmp_path / "out"
    assert f"Report: {out / 'run/report.html'}" in printed
    before, after = (
        json.loads((out / f"eval/{name}/metrics.json").read_text()) for name in ("before", "after")
    )
    assert "difference" in after["results"][0]
    assert "difference" not in before["results"][0]
    first = json.loads((out / "run/trainer_state.json").read_text())["log_history"][0]
    assert first["step"] == 0  # the adapter goes on from the checkpoint's, so both are the base
    assert first["eval_ndcg@5"] == before["results"][0]["metrics"]["ndcg@5"]["value"]
    report = (out / "run/report.html").read_bytes()
    assert jina_command(["report", str(out), "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_bytes() == report


def test_what_a_run_notes_is_no_part_of_its_checkpoint(run, held_out, tmp_path):
    assert run(*held_out)[0] == 0
    again = ("--set", f"model.base_model_path={tmp_path / 'out'}", "--set", "data.eval=null")
    assert run(*again, "--set", f"training.output_dir={tmp_path / 'next'}")[0] == 0
    assert (tmp_path / "next/config.json").is_file()
    assert not (tmp_path / "next/run").exists()
    assert not list((tmp_path / "next").rglob("*.html"))


def test_without_held_out_rows_there_is_no_report(run, tmp_path):
    code, printed = run()
    assert code == 0
    assert "held-out" not in printed
    assert not (tmp_path / "out/run").exists()


def test_a_dry_run_measures_nothing(run, held_out, tmp_path):
    code, printed = run(*held_out, "--dry-run")
    assert code == 0
    assert "held-out" not in printed
    assert not (tmp_path / "out").exists()


def test_a_report_that_fails_leaves_the_saved_model_and_exit_code_0(
    run, held_out, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise ReportError("page: is broken; got nothing; mend it")

    monkeypatch.setattr("jina.training.run_evaluation.write_report", fail)
    code, printed = run(*held_out)
    assert code == 0
    assert "report isn't complete: page: is broken" in printed
    assert (tmp_path / "out/config.json").is_file()


# --- what is refused -----------------------------------------------------------------------------


def test_every_bad_line_and_image_is_listed_before_anything_is_loaded(
    run, rows, write_rows, tmp_path
):
    (tmp_path / "torn.png").write_bytes((tmp_path / "red.png").read_bytes()[:40])
    rows[1] = {"query_image": "torn.png", "positive": "torn"}
    rows[3] = {"query": "no answer"}
    rows[5] = {"query_image": "missing.png", "positive": "missing"}
    file = write_rows(rows)
    code, printed = run("--set", "model.base_model_path=.")
    assert code == 2
    assert "not a Jina Embeddings V4 checkpoint" in printed
    assert [f"{file}:{line}:" in printed for line in range(1, 9)] == [
        False, True, False, True, False, True, False, False,
    ]  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_an_image_that_leaves_its_text_no_room_is_named_with_the_numbers(run, rows, write_rows):
    rows[2] = {**rows[2], "query": "what colour is this?"}
    write_rows(rows)
    assert run("--dry-run")[0] == 0
    code, printed = run("--set", "data.max_text_tokens=16")
    assert code == 2
    assert "train.jsonl:3: query_image: leaves the text beside it no room; got 6 vision" in printed
    assert printed.count("no room") == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.base_model_path=null", "local_paths.yaml"),
        ("model.base_model_path=null", "make demo"),
        ("model.base_model_path=/no/such/folder", "make demo"),
        ("model.base_model_path=.", "not a Jina Embeddings V4 checkpoint"),
        ("model.base_model_path=.", "make demo"),
        ("training.learning_rat=1", "learning_rate"),
        ("training.per_device_train_batch_size=16", "fewer rows than training."),
        ("lora.tasks=[code]", "add it to lora.tasks or move the row"),
        ("data.source_temperature=2.0", "data.one_source_per_batch"),
    ],
)
def test_bad_settings_exit_with_2_and_say_what_to_do(run, override, words):
    code, printed = run("--set", override)
    assert code == 2
    assert words in printed


@pytest.mark.parametrize(
    ("word", "meant"), [("--dryrun", "--dry-run"), ("--conf", "--config"), ("--resmue", "--resume")]
)
def test_a_misspelt_option_is_told_the_right_one_and_exits_with_2(run, capsys, word, meant):
    with pytest.raises(SystemExit) as stop:
        run(word)
    assert stop.value.code == 2
    assert f"{word}: is unknown; got {word}; did you mean {meant}?" in capsys.readouterr().err


def test_help_fits_80_columns_and_explains_every_option(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        run("--help")
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(len(line) <= 80 for line in said.splitlines())
    assert "a setting in place of the file's" in said


def test_all_that_a_run_lacks_is_said_at_once(run, config):
    code, printed = run(
        "--resume",
        "--set", "model.base_model_path=/no/such/folder",
        "--set", "training.per_device_train_batch_size=16",
        "--set", f"data.eval={config}",
    )  # fmt: skip
    assert code == 2
    for words in ("no such folder", "fewer rows", "no checkpoint to go on from", f"{config}:1:"):
        assert words in printed


def test_a_diverging_run_exits_with_3_and_saves_nothing(run, tmp_path):
    code, printed = run("--set", "training.learning_rate=1e30", "--set", "training.max_grad_norm=0")
    assert code == 3
    assert "is not finite" in printed
    assert not (tmp_path / "out" / "config.json").exists()


def test_the_tiny_checkpoint_command_refuses_a_folder_in_use(tmp_path, caplog):
    assert jina_command(["tiny-checkpoint", "--output", str(tmp_path / "new")]) == 0
    assert jina_command(["tiny-checkpoint", "--output", str(tmp_path / "new")]) == 2
    assert "not empty" in caplog.text


# --- as a process --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_demo_finds_pictures_by_words_it_was_taught_and_leaves_other_tasks_alone(tmp_path):
    command = [sys.executable, "train.py", "--config", "examples/new_language/config.yaml"]
    command += ["--set", f"training.output_dir={tmp_path / 'out'}"]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    results = json.loads((tmp_path / "out/eval/after/metrics.json").read_text())["results"]
    changes = {
        result["reversed"]: result["difference"]["ndcg@10"]["low"]
        for result in results
        if (result["vectors"], result["size"]) == ("single", 192)
    }
    assert set(changes) == {False, True}
    assert min(changes.values()) > 0
    base, trained = (
        JinaEmbeddingsV4Model.from_pretrained(folder, dtype="float32")
        for folder in (ROOT / "data/tiny_jina", tmp_path / "out")
    )
    for task, is_equal in (("text-matching", True), ("code", True), ("retrieval", False)):
        vectors = (model.encode_text("kurbağa", task=task) for model in (base, trained))
        assert torch.equal(*vectors) == is_equal, task


@pytest.mark.slow
def test_two_processes_share_a_feature_cache_with_the_next_run(config, run, tmp_path):
    settings = ["--set", "data.vision_cache=disk"]
    alone = run(*settings, "--dry-run")[1]
    assert f"{tmp_path / 'cache' / 'vision'}" in alone
    assert "0 of 8 images known" in alone
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2"]
    two = ["--set", "training.per_device_train_batch_size=2"]
    command = [sys.executable, *launcher, ROOT / "train.py", "--config", config, *settings, *two]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(  # noqa: S603 - our own command
        command, env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    assert len([*(tmp_path / "cache" / "vision").rglob("*.features")]) == 3
    assert "8 of 8 images known" in run(*settings, "--overwrite")[1]


@pytest.mark.slow
def test_two_processes_train_the_adapter_that_one_trains(config, tmp_path):
    """Plain gradient descent without dropout, so that only the order of sums differs."""
    settings = json.loads(config.read_text())
    settings["lora"] = {"dropout": 0.0}
    settings["training"] |= {"optim": "sgd", "learning_rate": 0.05, "save_steps": 3}
    config.write_text(json.dumps(settings))

    settings["data"]["eval"] = settings["data"]["train"]
    settings["training"]["per_device_eval_batch_size"] = 4
    config.write_text(json.dumps(settings))

    def adapter(name, *launcher, batch_size):
        flags = {
            "training.output_dir": tmp_path / name,
            "training.per_device_train_batch_size": batch_size,
        }
        arguments = [part for key, value in flags.items() for part in ("--set", f"{key}={value}")]
        command = [sys.executable, *launcher, ROOT / "train.py", "--config", config, *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(  # noqa: S603 - our own command
            command, env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        assert f"in-batch negatives per query             {3}" in done.stdout
        assert done.stdout.count("step 3/3") == 1  # the first process speaks for both
        return load_file(tmp_path / name / "checkpoint-3/adapters/adapter_model.safetensors")

    two = adapter("two", "-m", "torch.distributed.run", "--nproc-per-node=2", batch_size=2)
    one = adapter("one", batch_size=4)
    start = load_file(settings["model"]["base_model_path"] + "/adapters/adapter_model.safetensors")
    assert max((one[name] - start[name]).abs().max() for name in one) > 1e-4
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-6)
    for file in ("eval/before/per_query.jsonl", "run/report.html"):
        assert (tmp_path / "two" / file).is_file()
    figures, others = (
        json.loads((tmp_path / name / "run/trainer_state.json").read_text())["log_history"][0]
        for name in ("one", "two")
    )
    ranked = {name: value for name, value in figures.items() if "ndcg" in name}
    assert ranked  # of the same weights, so to the bit
    assert ranked == {name: value for name, value in others.items() if "ndcg" in name}
    before, same = (tmp_path / name / "eval/before/per_query.jsonl" for name in ("one", "two"))
    assert before.read_bytes() == same.read_bytes()
