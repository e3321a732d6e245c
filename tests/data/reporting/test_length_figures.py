"""Lengths of texts and images, in tokens or bytes, counted by hand."""

import json

import pytest
from PIL import Image

from jina.data.item_lengths import Measures
from jina.data.reporting import length_figures
from jina.data.reporting.length_figures import image_figures, text_figures, tokens_per_row
from jina.data.validation import scan


def words(item, task, prompt_name):
    """Count words, and two for the prompt of a text without an image."""
    assert (task, prompt_name) in (("retrieval", "query"), ("retrieval", "passage"))
    return len(item.text.split()) + 2 * (item.image is None)


def measures(**changes):
    given = {
        "vision_tokens": lambda width, height: width * height // 784,
        "max_vision_tokens": 16,
        "min_pixels": 784,
        "max_pixels": 16 * 784,
        "max_text_tokens": 10,
        "text_tokens": words,
        "origin": "a test",
    }
    return Measures(**given | changes)


@pytest.fixture
def scan_of(tmp_path):
    """Return a function that scans rows, and one that makes an image for them."""

    def image(width, height):
        Image.new("RGB", (width, height)).save(tmp_path / f"{width}x{height}.png")
        return f"{width}x{height}.png"

    def check(*rows):
        file = tmp_path / "a.jsonl"
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return scan([file])

    check.image = image
    return check


def test_texts_of_all_sides_are_counted_in_tokens(scan_of):
    found = scan_of(
        {"query": "one", "positive": ["one two", "one two three"], "negative": "x " * 9},
        {"query": "one two three", "positive": "one"},
    )
    figures = text_figures(found, measures())
    assert (figures["unit"], figures["texts"], figures["measured"]) == ("tokens", 6, 6)
    assert (figures["minimum"], figures["median"], figures["maximum"]) == (3, 4.5, 11)
    assert figures["histogram"] == [
        {"from": 2, "to": 3, "count": 2},
        {"from": 4, "to": 7, "count": 3},
        {"from": 8, "to": 15, "count": 1},
    ]
    assert (figures["limit"], figures["cut"]) == (10, 1)
    assert figures["tokens_per_byte"] == 19 / (3 + 7 + 13 + 18 + 13 + 3)


def test_without_a_tokenizer_bytes_are_counted_and_said_to_be_bytes(scan_of):
    found = scan_of({"query": "猫", "positive": ["ab", "x" * 11]})
    figures = text_figures(found, measures(text_tokens=None))
    assert (figures["unit"], figures["minimum"], figures["maximum"]) == ("bytes", 2, 11)
    assert figures["perhaps_cut"] == 1
    assert "cut" not in figures


def test_the_image_beside_a_text_takes_of_its_room(scan_of):
    image = scan_of.image(56, 28)
    found = scan_of(
        {"query": "one two three", "query_image": image, "positive": "x " * 8},
        {"query": "one two three", "positive": ["a b", "a b c"], "positive_image": [image] * 2},
    )
    limit = measures(image_prompt_tokens=6)  # two of ten tokens are left
    assert text_figures(found, limit)["cut"] == 2
    assert text_figures(found, measures(image_prompt_tokens=5))["cut"] == 0
    in_bytes = text_figures(found, measures(image_prompt_tokens=6, text_tokens=None))
    assert in_bytes["perhaps_cut"] == 5
    assert text_figures(found, limit)["tokens_per_byte"] == (3 + 8 + 3 + 2 + 3) / (13 * 2 + 24)


def test_of_many_rows_some_are_measured_and_all_that_may_be_cut(scan_of, monkeypatch):
    monkeypatch.setattr(length_figures, "MEASURED_ROWS", 10)
    rows = [{"query": "a", "positive": f"b {number}"} for number in range(100)]
    rows[33]["positive"] = "b " * 9
    rows[37]["positive"] = "b" * 100
    figures = text_figures(scan_of(*rows), measures())
    assert (figures["texts"], figures["measured"]) == (200, 20)
    assert (figures["cut"], figures["maximum"]) == (1, 11)


def test_images_are_counted_one_by_one_against_both_limits(scan_of):
    small, large, fit = (scan_of.image(*size) for size in ((20, 28), (112, 168), (56, 56)))
    found = scan_of(
        {"query_image": small, "positive_image": [large, fit]},
        {"query_image": fit, "positive": "a"},
    )
    figures = image_figures(found, measures())
    assert (figures["images"], figures["distinct"]) == (4, 3)
    assert (figures["enlarged"], figures["shrunk"], figures["limit"]) == (1, 1, 16)
    assert (figures["minimum"], figures["median"], figures["maximum"]) == (0, 4, 24)
    one_size = image_figures(found, measures(min_pixels=None, max_pixels=None))
    assert "shrunk" not in one_size


def test_files_without_texts_or_images_have_no_lengths(scan_of):
    image = scan_of.image(28, 28)
    only_texts = scan_of({"query": "a", "positive": "b"})
    assert image_figures(only_texts, measures())["histogram"] == []
    only_images = scan_of({"query_image": image, "positive_image": image})
    for count in (words, None):
        assert text_figures(only_images, measures(text_tokens=count))["histogram"] == []
    nothing = scan_of({"query": "a"})
    assert len(nothing.index) == 0
    assert text_figures(nothing, measures())["histogram"] == []
    assert tokens_per_row(nothing.index, measures(), tokens_per_byte=1)["queries"] == 0


def test_a_row_has_the_tokens_of_its_items_and_their_prompts(scan_of):
    image = scan_of.image(56, 28)
    found = scan_of(
        {"query": "abcd", "positive_image": image, "negative": ["x" * 1000, "ab"]},
        {"query": "ab", "query_image": image, "positive": "abcdef"},
    )
    tokens = tokens_per_row(found.index, measures(max_text_tokens=20), tokens_per_byte=0.5)
    assert tokens == {
        "queries": ((2 + 2) + (2 + 12 + 1)) / 2,
        "positives": ((2 + 12) + (3 + 2)) / 2,
        "negatives": (20 + (1 + 2)) / 2,
    }
