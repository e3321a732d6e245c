"""Which texts and images a parity check takes, and how the checkpoint embeds them."""

import pytest
import torch

from jina.data.image_loading import ImageError, load_image
from jina.data.validation import DataError
from jina.export.parity_items import BOTH, IMAGE, PASSAGE, QUERY, read_parity_items
from jina.export.reference import embed_items


def test_each_text_is_taken_as_query_and_passage_and_each_image_alone_and_with_a_text(
    rows, write_rows, tmp_path
):
    items = read_parity_items(write_rows([*rows, *rows]), None, 3)
    assert [item.kind for item in items] == [QUERY] * 3 + [PASSAGE] * 3 + [IMAGE] * 3 + [BOTH] * 3
    texts = ["a red square", "a green square", "a blue square"]
    assert [item.text for item in items[:6]] == texts * 2
    assert [item.text for item in items[9:]] == texts
    assert items[7].image.tobytes() == load_image(tmp_path / "green.png").tobytes()
    assert items[10].image is items[7].image


def test_a_bad_row_is_named(write_rows):
    with pytest.raises(DataError, match=r"train\.jsonl:1: "):
        read_parity_items(write_rows([{"query": " "}]), None, 3)


def test_rows_without_images_are_refused(write_rows):
    file = write_rows([{"query": "a", "positive": "b"}])
    with pytest.raises(DataError, match="got 2 texts and 0 images"):
        read_parity_items(file, None, 3)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="nothing there"):
        read_parity_items(tmp_path / "none.jsonl", None, 3)


def test_images_stay_in_their_folder(write_rows, tmp_path, rows):
    file = write_rows([{**rows[0], "query_image": "../red.png"}])
    with pytest.raises(ImageError):
        read_parity_items(file, tmp_path / "inner", 3)


def test_the_checkpoint_embeds_items_as_encode_does(rows, write_rows, jina_model):
    items = read_parity_items(write_rows(rows), None, 4)
    found = embed_items(jina_model, items, "retrieval")
    texts, images = [i.text for i in items[:4]], [i.image for i in items[8:12]]
    expected = [
        *jina_model.encode_text(texts, "retrieval", prompt_name="query"),
        *jina_model.encode_text(texts, "retrieval", prompt_name="passage"),
        *jina_model.encode_image(images, "retrieval"),
    ]
    got = [vectors.single for vectors in found[:12]]
    torch.testing.assert_close(torch.stack(got), torch.stack(expected), rtol=0, atol=1e-6)
    tokens = jina_model.encode_image(images, "retrieval", return_multivector=True)
    torch.testing.assert_close(found[8].multi, tokens[0], rtol=0, atol=1e-6)
    assert not torch.allclose(found[0].single, found[4].single, atol=1e-3)
