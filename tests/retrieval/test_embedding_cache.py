"""Vectors are found by content and settings alone, and outlive the process that made them."""

import numpy as np
import pytest

from jina.retrieval.embedding_cache import EmbeddingCache, content_key

SETTINGS = {"model": "m", "task": "retrieval"}


def keys(*texts):
    return [content_key(text, b"") for text in texts]


@pytest.fixture
def cache(tmp_path):
    cache = EmbeddingCache(tmp_path, SETTINGS, 4)
    cache.add(keys("a", "b"), np.arange(8, dtype=np.float32).reshape(2, 4))
    cache.add(keys("c"), np.full((1, 4), 9, np.float32))
    return cache


def test_vectors_come_back_in_the_order_asked_for(cache, tmp_path):
    for opened in (cache, EmbeddingCache(tmp_path, SETTINGS, 4)):
        assert opened.get(keys("c", "a", "c"))[:, 0].tolist() == [9, 0, 9]
        assert len(opened) == 3
        assert keys("b")[0] in opened
        assert keys("d")[0] not in opened


@pytest.mark.parametrize(
    ("settings", "dim"), [({**SETTINGS, "model": "n"}, 4), ({**SETTINGS, "x": 1}, 4)]
)
def test_other_settings_find_nothing(cache, tmp_path, settings, dim):
    assert len(EmbeddingCache(tmp_path, settings, dim)) == 0


def test_a_key_tells_contents_apart_and_nothing_else():
    contents = [(None, b""), ("", b""), ("a", b""), ("a ", b""), ("a", b"p"), (None, b"p")]
    contents += [("e\u0301", b""), ("\u00e9", b""), ("a|", b"p"), ("a", b"|p"), ("1:a", b"")]
    assert len({content_key(*content) for content in contents}) == len(contents)
    assert content_key("a", b"p") == content_key("a", b"p")


def test_a_damaged_part_is_left_aside_and_made_again(cache, tmp_path, caplog):
    part = next(file for file in tmp_path.rglob("*.npy") if len(np.load(file)) == 2)
    part.write_bytes(part.read_bytes()[:-7])
    again = EmbeddingCache(tmp_path, SETTINGS, 4)
    assert "is damaged" in caplog.text
    assert [key in again for key in keys("a", "b", "c")] == [False, False, True]
    again.add(keys("a", "b"), np.ones((2, 4), np.float32))
    assert EmbeddingCache(tmp_path, SETTINGS, 4).get(keys("b")).tolist() == [[1, 1, 1, 1]]
