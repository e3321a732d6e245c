"""Items on the page: small, encoded anew, within the page's size."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jina.data.multimodal_dataset import MultimodalDataset
from jina.retrieval.item_collections import ItemReader
from jina.retrieval.judgements import item_id
from jina.retrieval.report_page.pictures import MAX_TEXT, SIDE, Pictures, data_uri, heat_uri


def decoded(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.fixture
def reader(tmp_path):
    """Rows with a large picture that carries a secret, and a long text."""
    secret = PngInfo()
    secret.add_text("Comment", "secret-of-the-camera")
    Image.effect_noise((800, 400), 50).save(tmp_path / "large.png", pnginfo=secret)
    rows = [{"query": "x" * 5000, "positive_image": "large.png"}, {"query": "b", "positive": "c"}]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ItemReader(MultimodalDataset(file))


def names_of(reader):
    index = reader.dataset.index
    sides = (index.queries.identities, index.positives.identities)
    return [[item_id(one) for one in side.view(np.uint64)] for side in sides]


def test_a_picture_is_small_and_carries_nothing_of_its_file(reader):
    _, (name, _) = names_of(reader)
    view = Pictures(reader).view(name)
    image = decoded(view.picture)
    assert image.format == "WEBP"
    assert image.size == (SIDE, SIDE // 2)
    assert b"secret-of-the-camera" not in base64.b64decode(view.picture.partition(",")[2])
    assert view.where == "rows.jsonl:1: positive[0]"


def test_a_long_text_is_shortened(reader):
    (name, short), _ = names_of(reader)
    text = Pictures(reader).view(name).text
    assert len(text) == MAX_TEXT
    assert text.endswith("…")
    assert Pictures(reader).view(short).text == "b"


def test_a_picture_that_has_gone_is_said_so(reader, tmp_path):
    (tmp_path / "large.png").unlink()
    _, (name, _) = names_of(reader)
    view = Pictures(reader).view(name)
    assert view.picture is None
    assert "does not exist" in view.note


def test_no_more_pictures_than_there_is_room_for(reader):
    _, (name, _) = names_of(reader)
    one = len(Pictures(reader).view(name).picture)
    pictures = Pictures(reader, room=3 * one)
    views = [pictures.view(name) for _ in range(5)]
    assert [view.picture is not None for view in views] == [True] * 3 + [False] * 2
    assert views[-1].note == "left out, as the page is full"


def test_heat_is_clear_where_cold_and_opaque_where_hot():
    image = decoded(heat_uri([[0.0, 0.5, 1.0], [1.0, 0.0, 0.0]]))
    assert image.size == (3, 2)
    alpha = np.asarray(image)[:, :, 3]
    assert alpha.tolist() == [[0, 100, 200], [200, 0, 0]]


def test_a_small_picture_is_not_enlarged():
    assert decoded(data_uri(Image.new("RGB", (20, 10)))).size == (20, 10)
