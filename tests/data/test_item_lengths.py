"""How long items are from their sizes alone, and rows whose images can't fit."""

import json

import numpy as np
import pytest
from PIL import Image

from jina.data.item_lengths import (
    Measures,
    images_without_room,
    item_tokens,
    row_tokens,
    text_room,
    vision_tokens,
)
from jina.data.multimodal_dataset import DataError, DataPolicy, MultimodalDataset
from jina.data.validation import scan

MEASURES = Measures(
    vision_tokens=lambda width, height: width * height // 784,
    max_vision_tokens=100,
    min_pixels=784,
    max_pixels=100 * 784,
    max_text_tokens=20,
    text_tokens=None,
    origin="a test",
    image_prompt_tokens=6,
    max_tokens=60,
)
SIZES = {"small": (56, 28), "large": (196, 56), "huge": (280, 168)}  # 2, 14 and 60 tokens


@pytest.fixture
def file_of(tmp_path):
    """Return a function that writes rows; images small.png, large.png and huge.png are there."""
    for name, size in SIZES.items():
        Image.new("RGB", size).save(tmp_path / f"{name}.png")

    def write(*rows, name="a"):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    return write


def test_an_item_has_the_tokens_of_image_text_and_prompts_up_to_the_limit(file_of):
    index = scan([file_of(
        {"query": "a" * 8, "positive": "b" * 100, "negative": ["c" * 4, None],
         "negative_image": ["small.png", "large.png"]},
        {"query": "d" * 100, "query_image": "small.png", "positive": "e" * 4},
    )]).index  # fmt: skip
    rate = {"tokens_per_byte": 0.25}
    assert item_tokens(index.queries, MEASURES, **rate).tolist() == [2 + 2, 6 + 2 + 12]
    assert item_tokens(index.positives, MEASURES, **rate).tolist() == [20, 2 + 1]
    assert item_tokens(index.negatives, MEASURES, **rate).tolist() == [6 + 2 + 1, 6 + 14]
    assert row_tokens(index, MEASURES).tolist() == [4 + 20 + 9 + 20, 20 + 3]
    assert text_room(index.negatives, MEASURES).tolist() == [12, 0]


def test_images_are_measured_once_for_each_size(file_of):
    asked = []

    def count(width, height):
        asked.append((width, height))
        return width * height

    rows = [{"query_image": f"{name}.png", "positive": "a"} for name in ("small", "huge", "small")]
    items = scan([file_of(*rows, {"query": "b", "positive": "c"})]).index.queries
    assert vision_tokens(items, count).tolist() == [56 * 28, 280 * 168, 56 * 28, 0]
    assert sorted(asked) == [(56, 28), (280, 168)]


def test_an_image_that_fills_a_limit_is_named_with_its_place_and_the_numbers(file_of):
    file = file_of(
        {"query": "fits", "query_image": "small.png", "positive_image": "large.png"},
        {"query": "a", "query_image": "large.png", "positive": "b"},
        {"query": "a", "positive": ["b", None, "c"],
         "positive_image": [None, "large.png", "large.png"]},
        {"query": "a", "positive": "b", "negative_image": "huge.png"},
    )  # fmt: skip
    found = scan([file])
    said = [str(problem) for problem in images_without_room([file], found.index, MEASURES)]
    beside = "leaves the text beside it no room; got 14 vision tokens for data.max_text_tokens 20"
    assert said == [
        f"{file}:2: query_image: {beside}; raise that or lower data.max_pixels",
        f"{file}:3: positive_image[2]: {beside}; raise that or lower data.max_pixels",
        f"{file}:4: negative_image: is longer than the model reads; "
        "got 60 vision tokens for 60; lower data.max_pixels",
    ]


def test_rows_refused_later_are_gone_from_the_index_and_named_in_order(file_of):
    first = file_of({"query": "a"}, {"query": "a", "positive": "b"}, {"query": "c"}, name="b")
    crowded = {"query": "a", "query_image": "large.png", "positive": "b"}
    second = file_of(crowded, {"query": "q", "positive": "p", "source": "s"}, crowded, name="a")
    found = scan([first, second])
    refused = found.refusing(images_without_room(found.files, found.index, MEASURES))
    places = [(problem.file, problem.line) for problem in refused.problems]
    assert places == [(str(first), 1), (str(first), 3), (str(second), 1), (str(second), 3)]
    assert [refused.where(row) for row in range(len(refused.index))] == [
        f"{first}:2",
        f"{second}:2",
    ]
    assert (refused.rows, refused.refused, found.refused) == (6, 4, 2)
    alone = scan([file_of({"query": "q", "positive": "p"}, name="c")]).index
    kept = refused.index.only(np.array([False, True]))
    for side in ("queries", "positives", "negatives"):
        own, other = getattr(kept, side), getattr(alone, side)
        assert own.identities.tolist() == other.identities.tolist()
        assert own.offsets.tolist() == other.offsets.tolist()
    assert [kept.source_names[number] for number in kept.sources] == ["s"]


def test_a_data_set_skips_such_rows_like_any_bad_one_or_refuses_them_with_the_others(file_of):
    crowded = {"query": "a", "query_image": "large.png", "positive": "b"}
    file = file_of({"query": "a", "positive": "b"}, crowded, {"query": "no answer"})
    skip = DataPolicy(skips_bad_rows=True, max_bad_fraction=0.7)
    dataset = MultimodalDataset(file, policy=skip, measures=MEASURES)
    assert (len(dataset), dataset.summary.skipped) == (1, 2)
    assert dataset.summary.shapes == {"text → text": 1}
    assert [reason.split(": ")[1] for reason in dataset.summary.skipped_because] == [
        "query_image",
        "positive",
    ]
    with pytest.raises(DataError) as refusal:
        MultimodalDataset(file, measures=MEASURES)
    assert [problem.split(":")[1] for problem in refusal.value.problems] == ["2", "3"]
    too_many = DataPolicy(skips_bad_rows=True, max_bad_fraction=0.5)
    with pytest.raises(DataError, match="too many rows to skip; got 2 bad ones of 3"):
        MultimodalDataset(file, policy=too_many, measures=MEASURES)
    assert len(MultimodalDataset(file, policy=skip)) == 2  # without limits it fits
