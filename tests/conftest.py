"""Fixtures for every test: no network, one thread, the conformance checkpoint and what is known.

`tests/fixtures/jina_v4_tiny` is a tiny checkpoint in the official layout, with what the official
code computed on it; see its README.
"""

import gc
import json
import os
import socket
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.summary.writer.event_file_writer import AtomicCounter

FIXTURE_FOLDER = Path(__file__).parent / "fixtures" / "jina_v4_tiny"
NO_NETWORK = Path(__file__).parent / "no_network"
COLOURS = ["red", "green", "blue", "black", "orange", "purple", "cyan", "yellow"]

torch.set_num_threads(1)  # the models are tiny, and sums come out the same on any machine


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Fail a test that connects to anything but a socket of this machine's file system."""
    for name in ("connect", "connect_ex"):
        connect = getattr(socket.socket, name)

        def guarded(self, address, connect=connect):
            if self.family != socket.AF_UNIX:
                pytest.fail(f"a test tried to reach {address}")
            return connect(self, address)

        monkeypatch.setattr(socket.socket, name, guarded)


@pytest.fixture(scope="session", autouse=True)
def no_network_for_children(tmp_path_factory):
    """Fail the last test if a process that a test started reached for another machine."""
    attempts = tmp_path_factory.mktemp("network") / "attempts"
    path = [str(NO_NETWORK), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        patch.setenv("NETWORK_ATTEMPTS", str(attempts))
        yield
    assert not attempts.exists(), attempts.read_text()


@pytest.fixture(scope="session", autouse=True)
def imports_are_no_garbage():
    """Keep all that was imported out of garbage collections: each training run makes one."""
    gc.freeze()


@pytest.fixture(scope="session")
def fixture_folder():
    """The conformance checkpoint; not to be written to."""
    return FIXTURE_FOLDER


@pytest.fixture(scope="session")
def golden():
    """What the official code computed: `arrays` by name, and the inputs they came from."""
    info = json.loads((FIXTURE_FOLDER / "golden.json").read_text(encoding="utf-8"))
    with np.load(FIXTURE_FOLDER / "golden.npz") as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
    images = [FIXTURE_FOLDER / name for name in info["images"]]
    return SimpleNamespace(arrays=arrays, texts=info["texts"], images=images, train=info["train"])


@pytest.fixture(scope="session")
def fresh_model():
    """Return a function that loads a model of one's own, in float32 unless told otherwise."""
    from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model

    def load(folder=FIXTURE_FOLDER, **options):
        return JinaEmbeddingsV4Model.from_pretrained(
            folder, **{"dtype": "float32", "device": "cpu", **options}
        )

    return load


@pytest.fixture(scope="session")
def jina_model(fresh_model):
    """One model for all tests that only look at it; changing it fails the last test."""
    model = fresh_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    yield model
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not model.training
    assert not model.trained_tasks


@pytest.fixture(scope="session")
def loaded_images(golden):
    """The golden images as upright RGB."""
    from jina.data.image_loading import load_image

    return [load_image(path) for path in golden.images]


@pytest.fixture(scope="session")
def sequences(golden, loaded_images, jina_model):
    """The golden texts as queries, the golden images, and both in turns."""
    processor = jina_model.processor
    texts = [processor.text_sequence(text, prompt="Query") for text in golden.texts]
    images = [processor.image_sequence(image) for image in loaded_images]
    mixed = [item for pair in zip(texts, images, strict=False) for item in pair]
    return SimpleNamespace(text=texts, image=images, mixed=mixed)


@pytest.fixture(scope="session")
def relative_error():
    """Return a function from two dictionaries of tensors to the worst relative error."""

    def worst(found, expected):
        assert found.keys() == expected.keys()
        return max(
            float((found[name] - tensor).norm() / tensor.norm())
            for name, tensor in expected.items()
        )

    return worst


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A checkpoint of random weights, float32, rank 32; not to be written to."""
    from jina.models.tiny_checkpoint import build_tiny_checkpoint

    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    build_tiny_checkpoint(folder, [f"a {colour} square" for colour in COLOURS], seed=0)
    return folder


@pytest.fixture
def rows(tmp_path):
    """Eight rows, each with an image of one colour and its name."""
    found = []
    for colour in COLOURS:
        Image.new("RGB", (56, 84), colour).save(tmp_path / f"{colour}.png")
        found.append({"query_image": f"{colour}.png", "positive": f"a {colour} square"})
    return found


@pytest.fixture
def write_rows(tmp_path):
    """Return a function that writes rows as a JSONL file."""

    def write(rows, name="train.jsonl"):
        file = tmp_path / name
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return file

    return write


@pytest.fixture
def decoded(monkeypatch):
    """The images that a data set decodes from now on, in this process."""
    from jina.data import multimodal_dataset

    names, load_image = [], multimodal_dataset.load_image

    def load(source, **options):
        names.append(source)
        return load_image(source, **options)

    monkeypatch.setattr(multimodal_dataset, "load_image", load)
    return names


@pytest.fixture
def checked(monkeypatch):
    """How many lines the check parses from now on, and how many images it opens."""
    from jina.data.checking import row_check

    counts = Counter()
    for name in ("load_image", "read_header", "parse_line"):
        really = getattr(row_check, name)

        def counting(*arguments, name=name, really=really, **options):
            counts[name] += 1
            return really(*arguments, **options)

        monkeypatch.setattr(row_check, name, counting)
    return counts


@pytest.fixture
def fresh_events(monkeypatch):
    """Event files are numbered as in a process of its own: tensorboard reads them by name."""
    module = "tensorboard.summary.writer.event_file_writer._global_uid"
    monkeypatch.setattr(module, AtomicCounter(0))
