"""`train.py` on a disk that is full, wherever it is met: told, exit code 4, nothing is lost."""

import errno
import json
import os
import resource
import shutil
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

import train
from jina.models.checkpoint import ADAPTER_WEIGHTS
from jina.retrieval import evaluation
from jina.training.checkpointing import saved_steps
from jina.training.jina_trainer import JinaEmbeddingTrainer

FAULT = 4


@pytest.fixture
def run(tmp_path, tiny_folder, rows, write_rows, caplog):
    """Return a function that trains two steps into a folder: exit code and what was said."""
    settings = {
        "model": {"base_model_path": str(tiny_folder)},
        "data": {"train": str(write_rows(rows)), "eval": str(write_rows(rows[:4], "eval.jsonl"))},
        "training": {
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 4,
            "learning_rate": 1e-3,
            "max_steps": 2,
            "save_steps": 1,
            "use_cpu": True,
        },
        "evaluation": {"every_steps": 1},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(settings))

    def train_into(name, *changes):
        caplog.clear()
        output = ("--set", f"training.output_dir={tmp_path / name}", *changes)
        return train.main(["--config", str(tmp_path / "config.yaml"), *output]), caplog.text

    return train_into


@contextmanager
def largest_file(size):
    """Let the kernel refuse every longer file of this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refuse_link(*_):
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))  # as on another file system


@pytest.mark.slow
def test_where_the_finished_model_is_written(run, tmp_path, tiny_folder, monkeypatch):
    """The kernel refuses the weights of the base, longer than a whole checkpoint's."""
    monkeypatch.setattr(os, "link", refuse_link)
    with largest_file((tiny_folder / "model.safetensors").stat().st_size - 1):
        code, said = run("out")
    assert code == FAULT
    assert f"{tmp_path / 'out'}: a file can't be read or written; got [Errno 27]" in said
    assert "checkpoint-2 is safe" in said
    assert not (tmp_path / "out" / ADAPTER_WEIGHTS).exists()
    assert [run(name)[0] for name in ("out", "whole")] == [0, 0]
    one, other = (load_file(tmp_path / name / ADAPTER_WEIGHTS) for name in ("out", "whole"))
    assert all(torch.equal(other[key], tensor) for key, tensor in one.items())


@pytest.mark.slow
@pytest.mark.parametrize(("time", "steps"), [(1, []), (4, [1])])
def test_where_held_out_rows_are_measured(run, tmp_path, monkeypatch, time, steps):
    """Before training, and after its second step, which is saved only then."""
    store, calls = evaluation.store_vectors, []

    def fill(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2 * time:  # queries, then documents
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return store(*args, **kwargs)

    monkeypatch.setattr(evaluation, "store_vectors", fill)
    code, said = run("out")
    assert code == FAULT
    assert "No space left on device" in said
    assert saved_steps(tmp_path / "out") == steps
    monkeypatch.undo()
    assert run("out")[0] == 0


def test_a_folder_that_vanishes_is_not_made_anew_by_an_evaluation(run, tmp_path, monkeypatch):
    step = JinaEmbeddingTrainer.training_step

    def vanish(self, *args, **kwargs):
        shutil.rmtree(tmp_path / "out")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(JinaEmbeddingTrainer, "training_step", vanish)
    code, said = run("out", "--set", "training.report_to=none")  # tensorboard's thread would fail
    assert code == FAULT
    assert "No such file or directory" in said
    assert "nothing has been saved yet" in said
    assert not (tmp_path / "out").exists()
