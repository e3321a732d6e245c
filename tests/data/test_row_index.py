"""`RowIndex`: what rows hold, in arrays, however they were put together."""

import json
import unicodedata

import numpy as np
import pytest

from jina.data.checking.image_headers import ImageFacts
from jina.data.records import parse_line
from jina.data.row_index import (
    NO_IMAGE,
    NO_SOURCE,
    RowColumns,
    RowIndex,
    as_number,
    column_types,
    item_identity,
    join,
)

PICTURE = ImageFacts(640, 480, b"p" * 16)
ROWS = [
    ({"query": "a", "positive": ["b", "cé"]}, [NO_IMAGE] * 3),
    ({"query_image": "a.png", "positive": "b", "negative": ["x", "y"], "source": "s"},
     [PICTURE, NO_IMAGE, NO_IMAGE, NO_IMAGE]),
    ({"query": "a", "query_image": "a.png", "positive": "b", "task": "code"}, [PICTURE, NO_IMAGE]),
]  # fmt: skip


def columns_of(rows):
    columns = RowColumns()
    for line, (row, images) in enumerate(rows, start=1):
        sample = parse_line(json.dumps(row).encode(), file="a", line=line)
        columns.add(sample, images, start=100 * line, checksum=line, language="Latin script")
    return columns


def index_of(columns, **names):
    names = {"source_names": [NO_SOURCE, "s"], "language_names": ["Latin script"], **names}
    return RowIndex.from_columns(columns, **names)


@pytest.fixture
def index():
    return index_of(columns_of(ROWS).columns())


def test_every_row_and_item_has_its_place(index):
    assert len(index) == 3
    assert index.lines.tolist() == [1, 2, 3]
    assert index.starts.tolist() == [100, 200, 300]
    assert index.tasks.tolist() == [0, 0, 2]
    assert [index.source_names[number] for number in index.sources] == [NO_SOURCE, "s", NO_SOURCE]
    assert [side.counts.tolist() for side in (index.queries, index.positives, index.negatives)] == [
        [1, 1, 1], [2, 1, 1], [0, 2, 0],
    ]  # fmt: skip
    assert index.positives.rows.tolist() == [0, 0, 1, 2]
    assert index.positives.text_bytes.tolist() == [1, 3, 1, 1]
    assert index.queries.widths.tolist() == [0, 640, 640]
    assert index.queries.heights.tolist() == [0, 480, 480]


def test_identities_are_those_a_batch_has(index):
    values, offsets = index.positive_identities
    own = values[offsets[0] : offsets[1]].tolist()
    assert own == [as_number(item_identity(text, b"")) for text in ("b", "cé")]
    queries = [item_identity("a", b""), item_identity(None, b"p" * 16)]
    queries.append(item_identity("a", b"p" * 16))
    assert index.query_identities.tolist() == [as_number(identity) for identity in queries]
    assert len(set(index.query_identities.tolist())) == 3
    image = as_number(b"p" * 16)
    assert index.queries.images.tolist() == [0, image, image]


def test_a_row_has_the_whole_identity_of_each_image(index):
    assert [index.images_of(row) for row in range(3)] == [images for _, images in ROWS]
    assert index.row_with_image(PICTURE.identity) == 1
    assert index.row_with_image(b"p" * 15 + b"q") is None  # another one with the same first half
    assert index.row_with_image(bytes(16)) is None


def test_an_identity_knows_texts_by_their_letters_and_images_apart_from_texts():
    decomposed = unicodedata.normalize("NFD", "café")
    assert item_identity("café", b"") == item_identity(decomposed, b"")
    assert item_identity("café", b"") != item_identity("cafe", b"")
    assert item_identity("a", b"bc") != item_identity("ab", b"c")
    assert item_identity(None, b"") == item_identity("", b"")


def test_parts_joined_are_the_whole(index):
    whole = index.columns()
    for cut in range(4):
        columns = join([columns_of(rows).columns() for rows in (ROWS[:cut], ROWS[cut:])])
        assert columns.keys() == whole.keys() == column_types().keys()
        for name, column in columns.items():
            assert column.dtype == whole[name].dtype == column_types()[name]
            # Lines and places of names count anew in each part.
            if name not in ("lines", "starts", "checksums", "sources"):
                assert column.tolist() == whole[name].tolist(), name


def test_joining_empties_the_parts_and_nothing_joined_is_an_index_without_rows():
    part = columns_of(ROWS).columns()
    join([part])
    assert part == {}
    empty = index_of(join([]))
    assert len(empty) == 0
    assert empty.positives.rows.tolist() == []


def test_a_row_costs_its_columns_and_nothing_else(index):
    row, item = 4 + 4 + 8 + 4 + 1 + 1 + 4 + 4, 8 + 8 + 8 + 4 + 4 + 4
    assert index.nbytes == 3 * row + 9 * item + 3 * (3 + 1) * 8
    assert {column.dtype.hasobject for column in index.columns().values()} == {False}
    assert np.issubdtype(index.query_identities.dtype, np.int64)


def test_the_positives_of_a_query_are_gathered_from_all_rows():
    texts = [("X", ["a", "b"]), ("Y", ["b"]), ("X", ["c", "b"]), ("X", ["d"]), ("X", ["a"])]
    rows = [({"query": q, "positive": p}, [NO_IMAGE] * (1 + len(p))) for q, p in texts]
    graded = {"query": "X", "positive": "far", "task": "text-matching", "score": 0}
    index = index_of(columns_of([*rows, (graded, [NO_IMAGE] * 2)]).columns())
    names = {as_number(item_identity(text, b"")): text for text in ("a", "b", "c", "d", "far")}
    found = [
        {names[number] for number in index.positives_elsewhere(row).tolist()}
        for row in range(len(index))
    ]
    assert found[:5] == [{"c", "d"}, set(), {"a", "d"}, {"a", "b", "c"}, {"b", "c", "d"}]
