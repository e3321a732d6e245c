"""The laboratory of fault tests: a model of one layer, eight rows, folders in memory."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from jina.data.multimodal_dataset import MultimodalDataset
from jina.models import tiny_checkpoint
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from tests.faults.laboratory import Laboratory, Recipe, row_order

MEMORY = Path("/dev/shm")  # noqa: S108 - a kill needs no disk, and flushing one takes time


@pytest.fixture
def space():
    """A new folder, in memory where there is one for files."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory):
    """Forks runs on the smallest model there can be."""
    folder = tmp_path_factory.mktemp("laboratory")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny_checkpoint.TEXT_CONFIG, "num_hidden_layers", 1)
        patch.setitem(tiny_checkpoint.VISION_CONFIG, "depth", 1)
        tiny_checkpoint.build_tiny_checkpoint(folder / "model", ["a red square"], seed=0)
    negatives = ["a", "b", "c"]
    rows = [
        {"query": f"query {i}", "positive": f"positive {i}", "negative": negatives[: i % 3]}
        for i in range(8)
    ]
    file = folder / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = JinaEmbeddingsV4Model.from_pretrained(folder / "model", device="cpu", dtype="float32")
    return Laboratory(model, MultimodalDataset(file))


@pytest.fixture(scope="session")
def uninterrupted(laboratory, tmp_path_factory):
    """Return a function from a recipe to the digests and the rows of its undisturbed run."""

    found = {}

    def run(recipe: Recipe):
        if recipe not in found:
            folder = tmp_path_factory.mktemp("whole")
            found[recipe] = laboratory.finish(recipe, folder), row_order(folder)
        return found[recipe]

    return run
