"""A checkpoint from a stranger: nothing in it runs, and nothing that doesn't fit is loaded."""

import hashlib
import io
import json
import os
import pickle
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save, save_file

from jina.models.checkpoint import ADAPTER_WEIGHTS, CheckpointError
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
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
KEPT_FOR_OTHERS = ("merges.txt", "tokenizer_config.json", "vocab.json")  # all is in tokenizer.json
GENERATORS = ("torch", "python", "numpy")


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


def hostile_files(trace):
    """Pickles as Python and torch write them, and YAML that names a command."""
    yield pickle.dumps(Command(trace))
    file = Path(f"{trace}.pt")
    torch.save({"state": Command(trace)}, file)
    yield file.read_bytes()
    yield f"!!python/object/apply:os.system ['touch {trace}']".encode()


def resume(laboratory, folder):
    """Resume in a child; return whether it refused and what it said."""
    code = laboratory.wait(laboratory.start(Recipe(steps=3, limit=None), folder.parent))
    return code, laboratory.error(folder.parent)


def test_control_each_command_runs_if_its_reader_is_a_careless_one(space):
    trace = space / "trace"
    pickled, zipped, text = hostile_files(trace)
    readers = (
        lambda: pickle.loads(pickled),  # noqa: S301
        lambda: torch.load(io.BytesIO(zipped), weights_only=False),
        lambda: yaml.unsafe_load(text),  # noqa: S506
    )
    for read in readers:
        read()
        assert trace.exists()
        trace.unlink()


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_nothing_in_place_of_a_checkpoints_file_ever_runs(laboratory, checkpoint, space, name):
    """Vouched for by the manifest or not: 39 cases."""
    good = {n: (checkpoint / n).read_bytes() for n in (*FILES, MANIFEST)}
    for number, hostile in enumerate(hostile_files(space / "trace")):
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


def test_nothing_in_place_of_a_models_file_ever_runs(tiny_folder, space):
    """27 cases."""
    names = sorted(str(f.relative_to(tiny_folder)) for f in tiny_folder.rglob("*") if f.is_file())
    assert len(names) == 9
    copy = shutil.copytree(tiny_folder, space / "model")
    for name in names:
        good = (copy / name).read_bytes()
        for hostile in hostile_files(space / "trace"):
            (copy / name).write_bytes(hostile)
            is_read = name not in KEPT_FOR_OTHERS
            refused = pytest.raises(CheckpointError, match=Path(name).name)
            with refused if is_read else nullcontext():
                JinaEmbeddingsV4Model.from_pretrained(copy, device="cpu")
        (copy / name).write_bytes(good)
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
        *((RANDOM, {each: lambda rows: rows.sub_(rows).sub_(1)}) for each in GENERATORS),
    ],
)
def test_tensors_that_no_run_saves_are_refused(laboratory, checkpoint, name, tensors):
    stored = load_file(checkpoint / name)
    for key, value in tensors.items():
        if callable(value):  # a state of the right shape
            tensors = {**stored, key: value(stored[key])}
    (checkpoint / name).write_bytes(save(tensors))
    forge(checkpoint)
    code, said = resume(laboratory, checkpoint)
    assert code == 70
    assert f"CheckpointError: {checkpoint / name}" in said
