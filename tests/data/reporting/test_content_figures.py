"""What rows have in common, against a slow count, with a control for each."""

import json
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image

from jina.data.reporting.content_figures import (
    count_names,
    count_shapes,
    count_tasks,
    duplicate_rows,
    find_overlap,
    query_negatives,
    shared_positives,
    shared_queries,
    wrong_negatives,
)
from jina.data.validation import scan


@pytest.fixture
def index_of(tmp_path):
    """Return a function that gives the index of rows; images 0.png to 3.png are there."""
    for number in range(4):
        Image.new("RGB", (28, 28), (number, 0, 0)).save(tmp_path / f"{number}.png")
    Image.open(tmp_path / "0.png").save(tmp_path / "same-as-0.bmp")

    def build(*rows):
        file = tmp_path / "a.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = scan([file], deep=True)
        assert len(found.index) == len(rows)
        return found.index

    return build


def pair(query, *positives, **more):
    return {"query": query, "positive": list(positives), **more}


def random_rows(seed, count=60):
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    words = [str(number) for number in range(draw.choice([5, 20, 100]))]
    return [
        pair(
            draw.choice(words),
            *draw.choices(words, k=draw.randrange(1, 3)),
            negative=draw.choices(words, k=draw.randrange(3)),
        )
        for _ in range(count)
    ]


def slow_groups(entries):
    """Return the rows and the contents of (content, row) entries that several rows share."""
    rows_of = defaultdict(set)
    for content, row in entries:
        rows_of[content].add(row)
    shared = [rows for rows in rows_of.values() if len(rows) > 1]
    return len(set().union(*shared)), len(shared)


def test_shapes_tasks_and_sources_are_counted(index_of):
    index = index_of(
        pair("a", "b", source="s"),
        pair("a", "b", negative=["c"], task="code"),
        {"query_image": "0.png", "positive": "a", "source": "s"},
        {"query_image": "0.png", "query": "a", "positive_image": ["1.png", "2.png"]},
        {"query": "a", "positive": ["b", None], "positive_image": [None, "1.png"]},
        {"query": "a", "positive": ["b", "c", None], "positive_image": [None, "1.png", "2.png"]},
    )
    assert count_shapes(index) == Counter(
        {
            "text → text": 1,
            "text → text + hard negatives": 1,
            "image → text": 1,
            "text and image → image": 1,
            "text → image / text": 1,
            "text → image / text / text and image": 1,
        }
    )
    assert count_tasks(index) == Counter({"retrieval": 5, "code": 1})
    assert count_names(index.sources, index.source_names) == Counter({"s": 2, "(none)": 4})


def test_without_rows_there_is_nothing_in_common(index_of):
    index = index_of()
    assert count_shapes(index) == count_tasks(index) == Counter()
    for find in (
        duplicate_rows,
        shared_queries,
        shared_positives,
        wrong_negatives,
        query_negatives,
    ):
        assert find(index) == (0, 0, [])
    nobody = np.zeros(0, bool)
    assert find_overlap(index, nobody, nobody) == (0, 0, 0, [])


def test_rows_of_equal_query_and_positives_are_duplicates_in_any_order(index_of):
    found = duplicate_rows(
        index_of(
            pair("a", "b", "c"),
            pair("a", "c", "b", source="other", negative=["d"]),
            {"query_image": "0.png", "positive": "x"},
            {"query_image": "same-as-0.bmp", "positive": "x"},
        )
    )
    assert found == (4, 2, [(0, 1), (2, 3)])


def test_control_rows_that_differ_in_anything_are_no_duplicates(index_of):
    rows = [
        pair("a", "b"),
        pair("b", "a"),
        pair("a", "b", "b"),
        pair("a", "b", "c"),
        pair("a", "c"),
    ]
    rows += [{"query_image": f"{number}.png", "positive": "b"} for number in range(3)]
    rows += [{"query": "a", "query_image": "0.png", "positive": "b"}]
    assert duplicate_rows(index_of(*rows)) == (0, 0, [])


def test_rows_that_share_a_query_or_a_positive_are_found(index_of):
    index = index_of(
        pair("a", "1"), pair("a", "2"), pair("b", "2"), pair("c", "3"), pair("d", "4", "3")
    )
    assert shared_queries(index) == (2, 1, [(0, 1)])
    assert shared_positives(index) == (4, 2, [(1, 2), (3, 4)])


def test_control_a_repeated_row_shares_nothing_more(index_of):
    index = index_of(pair("a", "1"), pair("b", "2"), pair("a", "1"), pair("c", "3", "3"))
    assert duplicate_rows(index).rows == 2
    assert shared_queries(index) == shared_positives(index) == (0, 0, [])


def test_a_right_answer_among_the_negatives_is_found_also_across_rows(index_of):
    index = index_of(
        pair("a", "1", negative=["x", "2"]),
        pair("a", "2"),
        pair("b", "3", negative=["3"]),
        pair("c", "4", negative=["1", "2", "3"]),
    )
    assert wrong_negatives(index) == (2, 2, [(1, 0), (2, 2)])


def test_every_place_of_a_right_answer_among_the_negatives_is_named(index_of):
    index = index_of(*(pair(str(n), "a", negative=["b", "a"]) for n in range(20)))
    assert wrong_negatives(index) == (20, 20, [(row, row) for row in range(20)])


def test_a_query_among_its_own_negatives_is_found(index_of):
    index = index_of(
        pair("a", "1", negative=["a", "b", "a"]),
        pair("b", "2", negative=["a"]),
        {"query_image": "0.png", "positive": "a", "negative_image": "same-as-0.bmp"},
        pair("a", "3", negative=["a"]),
    )
    assert query_negatives(index) == (3, 2, [(0, 0), (2, 2), (3, 3)])
    assert wrong_negatives(index).rows == 0


def test_control_the_answer_to_another_query_is_a_fair_negative(index_of):
    assert wrong_negatives(index_of(pair("a", "1", negative=["2"]), pair("b", "2"))) == (0, 0, [])


@pytest.mark.parametrize("seed", range(12))
def test_random_rows_are_counted_as_a_slow_count_has_them(index_of, seed):
    rows = random_rows(seed)
    index = index_of(*rows)
    keys = [(row["query"], tuple(sorted(row["positive"]))) for row in rows]
    assert duplicate_rows(index)[:2] == slow_groups(zip(keys, range(60), strict=True))
    first = sorted({key: number for number, key in reversed(list(enumerate(keys)))}.values())
    assert shared_queries(index)[:2] == slow_groups((rows[n]["query"], n) for n in first)
    assert shared_positives(index)[:2] == slow_groups(
        (text, n) for n in first for text in rows[n]["positive"]
    )
    right = {(row["query"], text) for row in rows for text in row["positive"]}
    wrong = [
        (number, (row["query"], text))
        for number, row in enumerate(rows)
        for text in row["negative"]
        if (row["query"], text) in right
    ]
    counts = len({number for number, _ in wrong}), len({key for _, key in wrong})
    assert wrong_negatives(index)[:2] == counts
    half = np.arange(60) < 30
    texts = [
        {t for row in part for t in (row["query"], *row["positive"], *row["negative"])}
        for part in (rows[:30], rows[30:])
    ]
    overlap = find_overlap(index, half, ~half)
    assert (overlap.images, overlap.texts) == (0, len(texts[0] & texts[1]))
    assert overlap.rows == sum(
        bool({row["query"], *row["positive"], *row["negative"]} & texts[0]) for row in rows[30:]
    )


def test_the_overlap_of_two_groups_names_images_texts_and_rows(index_of):
    rows = [
        {"query_image": "0.png", "positive": "zero"},
        {"query_image": "1.png", "positive": "one"},
        {"query": "a", "query_image": "2.png", "positive": "two"},
        {"query_image": "same-as-0.bmp", "positive": "nought"},
        {"query_image": "3.png", "positive": "three", "negative": "one"},
        {"query": "b", "query_image": "2.png", "positive": "zwei"},
        {"query": "a", "positive": "dos"},
    ]
    first = np.array([True, True, True, False, False, False, False])
    found = find_overlap(index_of(*rows), first, ~first)
    # The "a" that goes with a picture is not the text "a".
    assert found[:3] == (2, 1, 3)
    assert sorted(found.examples) == [(0, 3), (1, 4), (2, 5)]
    apart = np.array([False, False, False, False, True, False, False])
    assert find_overlap(index_of(*rows), apart, first)[:2] == (0, 1)


def test_control_groups_of_different_contents_do_not_overlap(index_of):
    index = index_of(pair("a", "b"), pair("c", "d"), {"query_image": "0.png", "positive": "e"})
    groups = np.array([True, False, False]), np.array([False, True, True])
    assert find_overlap(index, *groups) == (0, 0, 0, [])


def test_keys_of_sequential_identities_do_not_collide(index_of):
    rows = [pair(str(number), str(number % 100)) for number in range(3000)]
    assert duplicate_rows(index_of(*rows)).rows == 0
