"""train.py: complete, interrupted and resumed runs."""

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
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jina.export.model_card import read_card_facts
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model, JinaEmbeddingsV4Processor
from jina.training.jina_trainer import JinaEmbeddingTrainer

ROOT = Path(__file__).parents[2]


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
