"""What the rows of an index have in common: duplicates, false negatives, overlaps between files.

Everything is told by identity, so it holds for equal texts and equal images and for nothing that
is only alike. Identities have 64 bits: of a billion, two different ones would agree once in 37
times.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

from jina.data.records import TASKS
from jina.data.row_index import Items, RowIndex

HARD_NEGATIVES = " + hard negatives"
MAX_EXAMPLES = 3
_KINDS = ("", "text", "image", "text and image")


class Shared(NamedTuple):
    """What several rows have in common.

    Attributes:
        rows: How many rows share something with another.
        contents: How many different things are shared.
        examples: Pairs of such rows, a few if nothing else is said.
    """

    rows: int
    contents: int
    examples: list[tuple[int, int]]


class Overlap(NamedTuple):
    """What two groups of rows have in common.

    Attributes:
        images: Pictures in both.
        texts: Texts in both, of items without an image.
        rows: Rows of the second group with such a picture or text.
        examples: A few pairs of rows, one of each group, that share one.
    """

    images: int
    texts: int
    rows: int
    examples: list[tuple[int, int]]


def count_shapes(index: RowIndex) -> Counter[str]:
    """Count the rows of each shape, such as "image → text + hard negatives"."""
    queries = _kinds(index.queries)
    if not len(queries):
        return Counter()
    found = np.bitwise_or.reduceat(1 << _kinds(index.positives), index.positives.offsets[:-1])
    codes = queries << 8 | found << 1 | (index.negatives.counts > 0)
    shapes: Counter[str] = Counter()
    for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
        kinds = [kind for bit, kind in enumerate(_KINDS) if code >> 1 & 1 << bit]
        negatives = HARD_NEGATIVES if code & 1 else ""
        shapes[f"{_KINDS[code >> 8]} → {' / '.join(sorted(kinds))}{negatives}"] += int(count)
    return shapes


def count_names(numbers: np.ndarray, names: tuple[str, ...]) -> Counter[str]:
    """Count the rows of each source, language or task."""
    counts = np.bincount(numbers, minlength=len(names)).tolist()
    return Counter({name: count for name, count in zip(names, counts, strict=True) if count})


def count_tasks(index: RowIndex) -> Counter[str]:
    """Count the rows of each task."""
    return count_names(index.tasks, TASKS)


def duplicate_rows(index: RowIndex) -> Shared:
    """Find rows with the query and the positives of another row, in whatever order.

    All of them but one for each content could be left out.
    """
    return _shared(_row_keys(index), np.arange(len(index)))


def shared_queries(index: RowIndex) -> Shared:
    """Find rows with the query of another row but other positives."""
    rows = _first_rows(index)
    return _shared(index.queries.identities[rows], rows)


def shared_positives(index: RowIndex) -> Shared:
    """Find rows with a positive of another row but another query, or other positives beside it."""
    is_first = np.zeros(len(index), bool)
    is_first[_first_rows(index)] = True
    kept = is_first[index.positives.rows]
    return _shared(index.positives.identities[kept], index.positives.rows[kept])


def wrong_negatives(index: RowIndex) -> Shared:
    """Find rows with a hard negative that they, or another row of their query, have as positive.

    The examples are all of them, a row with the positive before a row with the negative.
    """
    right, wrong = (_pair_keys(index, items) for items in (index.positives, index.negatives))
    kept = np.isin(wrong, right)
    wrong, rows = wrong[kept], index.negatives.rows[kept]
    order = np.argsort(right, kind="stable")
    answers = index.positives.rows[order[np.searchsorted(right, wrong, sorter=order)]]
    examples = list(zip(answers.tolist(), rows.tolist(), strict=True))
    return Shared(len(np.unique(rows)), len(np.unique(wrong)), examples)


def query_negatives(index: RowIndex) -> Shared:
    """Find rows with a hard negative that is their query; the examples are all of them."""
    rows = index.negatives.rows
    rows = np.unique(rows[index.negatives.identities == index.queries.identities[rows]])
    contents = np.unique(index.queries.identities[rows])
    return Shared(len(rows), len(contents), [(row, row) for row in rows.tolist()])


def find_overlap(index: RowIndex, first: np.ndarray, second: np.ndarray) -> Overlap:
    """Find the contents that two groups of rows share, given as masks over all rows."""
    counts, rows, examples = [], [], []
    for kind in ("images", "texts"):
        contents, owners = _contents(index, kind)
        mine, other = contents[first[owners]], contents[second[owners]]
        shared = np.intersect1d(mine, other)
        counts.append(len(shared))
        touched = second[owners] & np.isin(contents, shared)
        rows.append(owners[touched])
        examples += [
            tuple(int(owners[(contents == one) & group[owners]][0]) for group in (first, second))
            for one in shared[:MAX_EXAMPLES]
        ]
    return Overlap(counts[0], counts[1], len(np.unique(np.concatenate(rows))), examples)


def _contents(index: RowIndex, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the identities of all images, or all texts without an image, and their rows."""
    contents, rows = [], []
    for items in (index.queries, index.positives, index.negatives):
        kept = (items.widths > 0) == (kind == "images")
        contents.append((items.images if kind == "images" else items.identities)[kept])
        rows.append(items.rows[kept])
    return np.concatenate(contents), np.concatenate(rows)


def _kinds(items: Items) -> np.ndarray:
    """Return the place in `_KINDS` of each item."""
    return (items.text_bytes > 0) + 2 * (items.widths > 0).astype(np.int64)


def _shared(contents: np.ndarray, rows: np.ndarray) -> Shared:
    """Find the rows that share a content with another row; both arrays have one entry an item."""
    order = np.lexsort((rows, contents))
    contents, rows = contents[order], rows[order]
    is_new = np.ones(len(rows), bool)
    is_new[1:] = (contents[1:] != contents[:-1]) | (rows[1:] != rows[:-1])
    contents, rows = contents[is_new], rows[is_new]
    follows = np.zeros(len(rows), bool)
    follows[1:] = contents[1:] == contents[:-1]
    is_shared = follows.copy()
    is_shared[:-1] |= follows[1:]
    pairs = zip(rows[:-1][follows[1:]].tolist(), rows[follows].tolist(), strict=True)
    return Shared(
        rows=len(np.unique(rows[is_shared])),
        contents=len(np.unique(contents[is_shared])),
        examples=sorted(pairs)[:MAX_EXAMPLES],
    )


def _first_rows(index: RowIndex) -> np.ndarray:
    """Return the rows without those that say the same as an earlier one."""
    return np.sort(np.unique(_row_keys(index), return_index=True)[1])


def _row_keys(index: RowIndex) -> np.ndarray:
    """Return a number for each row that rows of equal query and equal positives share."""
    if not len(index):
        return np.empty(0, np.uint64)
    positives = _mixed(index.positives.identities)
    together = np.add.reduceat(positives, index.positives.offsets[:-1])
    return _mixed(index.queries.identities) * np.uint64(3) + _mixed(together)


def _pair_keys(index: RowIndex, items: Items) -> np.ndarray:
    """Return a number for each item that the same item beside the same query shares."""
    queries = _mixed(index.queries.identities) * np.uint64(3)
    return queries[items.rows] + _mixed(items.identities)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Scramble 64-bit numbers, so that sums of them collide no more than chance has it."""
    mixed = values.view(np.uint64) if values.dtype == np.int64 else values
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ mixed >> np.uint64(31)
