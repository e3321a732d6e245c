"""A checkpoint from a stranger: nothing in it runs, and nothing that doesn't fit is loaded."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from jina.models.checkpoint import ADAPTER_WEIGHTS, CheckpointError
from jina.training.checkpointing import (
    FILES,
    MANIFEST,
    OPTIMIZER,
    RANDOM,
    STATE,
    TRAINER_STATE,
    _manifest_bytes,
    open_checkpoint,
)
from tests.faults.laboratory import Recipe

FOREIGN = (
    "optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth", "scaler.pt",
    "training_args.bin", "pytorch_model.bin", "adapter_model.bin", "adapters/adapter_model.bin",
    "adapters/adapter_model.pt", "model.pkl", "loss.pt",
)  # fmt: skip


class Command:
    """Unpickled, it runs a command that leaves a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


@pytest.fixture
def checkpoint(laboratory, space):
    """A checkpoint after two of three steps."""
    laboratory.finish(Recipe(steps=2, limit=None), space / "out")
    return space / "out" / "checkpoint-2"


@pytest.fixture
def trainer(laboratory, space):
    """A trainer of this process, for what is refused before it changes anything."""
    return laboratory.trainer(Recipe(steps=3), space / "out")


def forge(folder):
    """Write a manifest that vouches for whatever the files are now."""
    manifest = json.loads((folder / MANIFEST).read_text())["manifest"]
    for name in FILES:
        data = (folder / name).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        manifest["files"][name] = {"bytes": len(data), "sha256": digest}
    (folder / MANIFEST).write_bytes(_manifest_bytes(manifest))


def pickles(trace):
    """The ways that torch and Python write a pickle."""
    yield pickle.dumps(Command(trace))
    file = Path(f"{trace}.pt")
    torch.save({"state": Command(trace)}, file)
    yield file.read_bytes()


def resume(laboratory, folder):
    """Resume in a child; return whether it refused and what it said."""
    code = laboratory.wait(laboratory.start(Recipe(steps=3, limit=None), folder.parent))
    return code, laboratory.error(folder.parent)


def test_the_command_would_run_if_anything_unpickled_it(space):
    pickle.loads(pickle.dumps(Command(space / "trace")))  # noqa: S301 - the control
    assert (space / "trace").exists()


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_pickle_in_place_of_a_file_never_runs(laboratory, checkpoint, space, name):
    """Vouched for or not, as Python or torch writes it: 26 files."""
    good = {n: (checkpoint / n).read_bytes() for n in (*FILES, MANIFEST)}
    for number, hostile in enumerate(pickles(space / "trace")):
        (checkpoint / name).write_bytes(hostile)
        with pytest.raises(CheckpointError, match=name):
            open_checkpoint(checkpoint)
        if name != MANIFEST:
            forge(checkpoint)
            assert open_checkpoint(checkpoint).step == 2  # all digests are right
            if number == 0:
                code, said = resume(laboratory, checkpoint)
                assert code == 70
                assert "CheckpointError" in said
        for file, data in good.items():
            (checkpoint / file).write_bytes(data)
    assert not (space / "trace").exists()


def test_pickles_under_the_names_that_trainers_read_are_neither_run_nor_kept_quiet(
    laboratory, checkpoint, space
):
    for name in FOREIGN:
        (checkpoint / name).write_bytes(pickle.dumps(Command(space / "trace")))
        with pytest.raises(CheckpointError, match=name):
            open_checkpoint(checkpoint)
        (checkpoint / name).unlink()
    for name in FOREIGN:
        (checkpoint / name).write_bytes(pickle.dumps(Command(space / "trace")))
    assert resume(laboratory, checkpoint)[0] == 0  # from checkpoint-1
    assert not (space / "trace").exists()


# --- adapters and states that don't fit ----------------------------------------------------------


def without_one(tensors):
    tensors.popitem()


def with_one_more(tensors):
    tensors["other"] = torch.zeros(1)


def renamed(tensors):
    name, tensor = tensors.popitem()
    tensors[f"{name}x"] = tensor


def misshapen(tensors):
    name, tensor = tensors.popitem()
    tensors[name] = tensor[:-1].contiguous()


def transposed(tensors):
    name = next(name for name, tensor in tensors.items() if len(set(tensor.shape)) == 2)
    tensors[name] = tensors[name].T.contiguous()


def one_value(value):
    def damage(tensors):
        name, tensor = tensors.popitem()
        tensor.view(-1)[-1] = value
        tensors[name] = tensor

    damage.__name__ = f"one value {value}"
    return damage


def of_integers(tensors):
    name, tensor = tensors.popitem()
    tensors[name] = tensor.to(torch.int32)


def of_another_task(tensors):
    for name in list(tensors):
        tensors[name.replace(".retrieval.", ".code.")] = tensors.pop(name)


def empty(tensors):
    tensors.clear()


def half(tensors):
    for name in list(tensors)[::2]:
        del tensors[name]


ADAPTER_DAMAGES = [
    without_one, with_one_more, renamed, misshapen, transposed, one_value(float("nan")),
    one_value(float("inf")), one_value(float("-inf")), of_integers, of_another_task, empty, half,
]  # fmt: skip


@pytest.mark.parametrize("damage", ADAPTER_DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_adapters_are_not_loaded_even_with_right_digests(checkpoint, trainer, damage):
    torch.manual_seed(7)  # not the seed that would draw the same adapters again
    file = checkpoint / ADAPTER_WEIGHTS
    tensors = load_file(file)
    damage(tensors)
    save_file(tensors, file)
    forge(checkpoint)
    before = {n: p.detach().clone() for n, p in trainer.model.trained_parameters().items()}
    with pytest.raises(CheckpointError, match="adapters"):
        trainer._load_from_checkpoint(str(checkpoint))
    after = trainer.model.trained_parameters()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_control_undamaged_adapters_are_loaded(checkpoint, trainer):
    before = {n: p.detach().clone() for n, p in trainer.model.trained_parameters().items()}
    trainer._load_from_checkpoint(str(checkpoint))
    stored = load_file(checkpoint / ADAPTER_WEIGHTS)
    after = trainer.model.trained_parameters()
    assert all(torch.equal(after[name], tensor) for name, tensor in stored.items())
    assert not all(torch.equal(after[name], tensor) for name, tensor in before.items())
    for name, tensor in before.items():
        after[name].data.copy_(tensor)  # the model is every test's


def without(key):
    def change(values):
        del values[key]

    return change


def put(*keys, value):
    def change(values):
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (STATE, without("optimizer")),
        (STATE, without("scheduler")),
        (STATE, without("data")),
        (STATE, put("data", "updates_in_epoch", value=1)),
        (STATE, put("scheduler", "step", value="x")),
        (STATE, put("optimizer", "groups", value=[])),
        (STATE, put("optimizer", "numbers", value={"other|step": 1})),
        (TRAINER_STATE, put("global_step", value=1)),
        (TRAINER_STATE, put("more", value=1)),
    ],
)
def test_states_that_no_run_saves_are_refused(laboratory, checkpoint, name, change):
    values = json.loads((checkpoint / name).read_text())
    change(values)
    (checkpoint / name).write_text(json.dumps(values))
    forge(checkpoint)
    code, said = resume(laboratory, checkpoint)
    assert code == 70
    assert f"CheckpointError: {checkpoint / name}: " in said


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        (OPTIMIZER, {"temperature.logarithm|exp_avg": torch.tensor(float("nan"))}),
        (OPTIMIZER, {"other|exp_avg": torch.ones(1)}),
        (RANDOM, {"torch": torch.zeros(1, 3, dtype=torch.uint8)}),
        (RANDOM, {}),
    ],
)
def test_tensors_that_no_run_saves_are_refused(laboratory, checkpoint, name, tensors):
    (checkpoint / name).write_bytes(save(tensors))
    forge(checkpoint)
    code, said = resume(laboratory, checkpoint)
    assert code == 70
    assert f"CheckpointError: {checkpoint / name}" in said
