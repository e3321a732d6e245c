"""What several tests of the model share: packed batches, folders to damage, measures of error."""

import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from jina.models.packing import pack


@pytest.fixture(scope="session")
def embed():
    """Return a function from model and sequences to single vectors (N, H) and multi (T, D)."""

    def single_and_multi(model, items, task="retrieval"):
        batch = pack(items)
        states = model.hidden_states(batch, task)
        return model.single_vectors(states, batch), model.multi_vectors(states)

    return single_and_multi


@pytest.fixture
def folder_copy(fixture_folder, tmp_path):
    """A copy of the conformance checkpoint to do as one likes with."""
    unneeded = shutil.ignore_patterns("golden*", "images", "README.md")
    return shutil.copytree(fixture_folder, tmp_path / "copy", ignore=unneeded)


@pytest.fixture(scope="session")
def edit():
    """Functions that change a checkpoint folder: fields, tensors, the number of weight files."""

    def fields(file, **changes):
        """Set fields of a JSON file; `None` takes one out."""
        values = json.loads(file.read_text(encoding="utf-8")) | changes
        kept = {name: value for name, value in values.items() if value is not None}
        file.write_text(json.dumps(kept), encoding="utf-8")

    def tensors(file, change):
        """Rewrite a safetensors file with what `change` makes of its tensors."""
        save_file({name: t.contiguous() for name, t in change(load_file(file)).items()}, file)

    def to_shards(folder):
        """Split the weight file in two, with an index."""
        stored = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        weight_map = {}
        for part in (0, 1):
            name = f"model-{part + 1:05}-of-00002.safetensors"
            names = sorted(stored)[part::2]
            weight_map |= dict.fromkeys(names, name)
            save_file({name: stored[name] for name in names}, folder / name)
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return SimpleNamespace(fields=fields, tensors=tensors, to_shards=to_shards)


@pytest.fixture(scope="session")
def is_equal():
    """Return a function that tells whether two dictionaries hold the same tensors, bit for bit."""

    def compare(found, expected):
        return found.keys() == expected.keys() and all(
            found[name].dtype == t.dtype and torch.equal(found[name], t)
            for name, t in expected.items()
        )

    return compare


class Payload:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.fixture
def booby_trapped(folder_copy, tmp_path):
    """A sound folder with pickles and code in it that leave a file behind when they run."""
    sprung = tmp_path / "sprung"
    trap, code = pickle.dumps(Payload(sprung)), f"open({str(sprung)!r}, 'w')\n"
    pickles = {
        "pytorch_model.bin", "training_args.bin", "optimizer.pt", "x.pkl", "y.pickle",
        "adapters/adapter_model.bin",
    }  # fmt: skip
    for name in pickles:
        (folder_copy / name).write_bytes(trap)
    for name in ("modeling_jina_embeddings_v4.py", "configuration_jina_embeddings_v4.py"):
        (folder_copy / name).write_text(code)
    return SimpleNamespace(folder=folder_copy, trap=trap, code=code, sprung=sprung, pickles=pickles)
