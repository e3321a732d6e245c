"""`python train.py` as a user runs it: what it writes, what it refuses, how it exits."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import train
from jina.__main__ import main as jina_command
from jina.data.checking import row_check
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model, JinaEmbeddingsV4Processor

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
    code, printed = run(*every_step, "--resume")
    assert code == 0
    assert "step 3/3" in printed
    assert "step 2/3" not in printed


# --- the check before training -------------------------------------------------------------------


def count_checks(monkeypatch):
    """Count the lines that are parsed for the check and the images that are opened for it."""
    counts = Counter()
    for name in ("parse_line", "load_image", "read_header"):
        really = getattr(row_check, name)

        def counting(*arguments, name=name, really=really, **options):
            counts[name] += 1
            return really(*arguments, **options)

        monkeypatch.setattr(row_check, name, counting)
    return counts


def test_a_second_start_checks_nothing_again_until_something_changes(run, monkeypatch, tmp_path):
    counts = count_checks(monkeypatch)
    assert run("--dry-run")[0] == 0
    assert counts == {"parse_line": 8, "load_image": 8}
    _, first = run("--dry-run")
    assert counts == {"parse_line": 8, "load_image": 8}
    Image.new("RGB", (56, 112), "red").save(tmp_path / "red.png")
    _, second = run("--dry-run")
    assert counts == {"parse_line": 16, "load_image": 16}
    assert "vision tokens per image                  6 to 6" in first
    assert "vision tokens per image                  6 to 8" in second


def test_headers_are_enough_where_the_user_says_so(run, monkeypatch):
    counts = count_checks(monkeypatch)
    assert run("--dry-run", "--set", "data.check_images=headers")[0] == 0
    assert counts == {"parse_line": 8, "read_header": 8}


def test_bad_rows_are_skipped_within_the_budget_and_reported(run, rows, write_rows, tmp_path):
    rows.insert(3, {"query_image": "missing.png", "positive": "missing"})
    file = write_rows(rows)
    skipping = ("--set", "data.on_bad_sample=skip", "--set", "data.max_bad_fraction=0.12")
    for _ in range(2):  # checked, and from the cache
        code, printed = run(*skipping)
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
def test_the_demo_learns_its_training_rows(tmp_path):
    tiny, out = tmp_path / "tiny", tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "jina",
        "tiny-checkpoint",
        "--output",
        str(tiny),
        "--seed",
        "0",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    settings = (f"model.base_model_path={tiny}", f"training.output_dir={out}")
    command = [sys.executable, "train.py", "--config", "data/demo/demo_config.yaml"]
    command += [part for setting in settings for part in ("--set", setting)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    newest = max(out.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    losses = [entry["contrastive_loss"] for entry in history if "contrastive_loss" in entry]
    assert losses[-1] < losses[0] / 3


@pytest.mark.slow
def test_two_processes_train_the_adapter_that_one_trains(config, tmp_path):
    """Plain gradient descent without dropout, so that only the order of sums differs."""
    settings = json.loads(config.read_text())
    settings["lora"] = {"dropout": 0.0}
    settings["training"] |= {"optim": "sgd", "learning_rate": 0.05, "save_steps": 3}
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
