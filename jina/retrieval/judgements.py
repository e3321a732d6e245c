"""From checked rows to what is asked, what may be found and what is right, by content.

    rows of a task ─► pairs (query, positive, grade) ─► Direction("image→text"), …
                  └─► documents: every positive and every hard negative

A direction has the queries of one kind (text, image, text+image) and the documents of one kind; a
query with positives of two kinds is in two directions. Equal contents are one query, or one
document, which is relevant to every query that has it in any row. A hard negative is a document,
and relevant to nothing by itself. Reversed directions ask with each positive for its queries.

Only the row index is read, so this costs some 50 bytes an item.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jina.data.records import TASKS
from jina.data.row_index import Items, RowIndex

KINDS = ("", "text", "image", "text+image")  # by has_text + 2 * has_image


@dataclass(frozen=True, eq=False)
class Direction:
    """Queries, documents and what is right.

    Attributes:
        task: the adapter that embeds both sides.
        asked: kind of the queries.
        found: kind of the documents.
        is_reversed: whether the rows' positives ask for their queries.
        queries: (Q,) uint64 identities, ascending.
        documents: (D,) uint64 identities, ascending.
        pairs: (P, 2) places of a query and of a document that was judged for it.
        grades: (P,) relevance of each pair: 1 unless the row has a score; 0 is not relevant.
        members: (M, 2) places of a query and the number of a row it stands in.
    """

    task: str
    asked: str
    found: str
    is_reversed: bool
    queries: np.ndarray
    documents: np.ndarray
    pairs: np.ndarray
    grades: np.ndarray
    members: np.ndarray

    @property
    def name(self) -> str:
        """What is asked with and what is found, such as `text→image`."""
        return f"{self.asked}→{self.found}"

    @property
    def digest(self) -> str:
        """A digest of queries, documents and grades: only equal ones can be compared."""
        return digest_of(self.queries, self.documents, self.pairs, self.grades)

    def has_answer(self) -> np.ndarray:
        """Return (Q,) whether any document is relevant to a query."""
        found = np.zeros(len(self.queries), bool)
        found[self.pairs[self.grades > 0, 0]] = True
        return found

    def own_copies(self) -> np.ndarray:
        """Return (Q,) the document that is a copy of the query and not its answer; -1 for none.

        It would be the first of every ranking, and nobody looks for what they have.
        """
        places = np.searchsorted(self.documents, self.queries)
        places[places == len(self.documents)] = 0
        own = np.where(self.documents[places] == self.queries, places, -1)
        right = self.pairs[self.grades > 0]
        own[right[own[right[:, 0]] == right[:, 1], 0]] = -1
        return own


def digest_of(*arrays: np.ndarray) -> str:
    """Return a digest that equal arrays share."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def item_id(identity: int) -> str:
    """Return an identity as run files have it; the order of these strings is that of numbers."""
    return f"{int(identity):016x}"


def kinds_of(items: Items) -> np.ndarray:
    """Return the place in `KINDS` of each item."""
    return (items.text_bytes > 0) + 2 * (items.widths > 0)


def directions_of(
    index: RowIndex, grades: np.ndarray, *, task: str, both: bool
) -> Iterator[Direction]:
    """Sort the rows of a task into directions.

    Args:
        index: of all rows.
        grades: (rows,) relevance of a row's positives; negative for rows that take no part.
        task: whose rows count.
        both: yield reversed directions, too.
    """
    takes_part = (index.tasks == TASKS.index(task)) & (grades >= 0)
    rows = index.positives.rows
    pairs = _Pairs(
        rows=rows,
        queries=_identities(index.queries)[rows],
        query_kinds=kinds_of(index.queries)[rows],
        documents=_identities(index.positives),
        document_kinds=kinds_of(index.positives),
        grades=grades[rows],
    ).where(takes_part[rows])
    negatives = takes_part[index.negatives.rows]
    corpus = np.concatenate([pairs.documents, _identities(index.negatives)[negatives]])
    kinds = np.concatenate([pairs.document_kinds, kinds_of(index.negatives)[negatives]])
    yield from _directions(pairs, corpus, kinds, task=task, is_reversed=False)
    if both:
        swapped = pairs.swapped()
        corpus, kinds = swapped.documents, swapped.document_kinds
        yield from _directions(swapped, corpus, kinds, task=task, is_reversed=True)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """A query and one of its positives, (P,) each."""

    rows: np.ndarray
    queries: np.ndarray
    query_kinds: np.ndarray
    documents: np.ndarray
    document_kinds: np.ndarray
    grades: np.ndarray

    def where(self, chosen: np.ndarray) -> "_Pairs":
        """Return the chosen pairs."""
        return _Pairs(**{name: column[chosen] for name, column in vars(self).items()})

    def swapped(self) -> "_Pairs":
        """Return the same pairs with what is found as what is asked."""
        return _Pairs(
            rows=self.rows,
            queries=self.documents,
            query_kinds=self.document_kinds,
            documents=self.queries,
            document_kinds=self.query_kinds,
            grades=self.grades,
        )


def _directions(
    pairs: _Pairs, corpus: np.ndarray, corpus_kinds: np.ndarray, *, task: str, is_reversed: bool
) -> Iterator[Direction]:
    """Yield a direction for each two kinds that meet in a pair."""
    for asked in np.unique(pairs.query_kinds):
        for found in np.unique(pairs.document_kinds[pairs.query_kinds == asked]):
            meet = (pairs.query_kinds == asked) & (pairs.document_kinds == found)
            chosen = pairs.where(meet)
            queries, query_places = np.unique(chosen.queries, return_inverse=True)
            documents = np.unique(corpus[corpus_kinds == found])
            places = np.stack([query_places, np.searchsorted(documents, chosen.documents)], axis=1)
            judged, grades = _highest(places, chosen.grades)
            members = np.unique(np.stack([query_places, chosen.rows], axis=1), axis=0)
            kinds = {"asked": KINDS[asked], "found": KINDS[found]}
            yield Direction(
                task=task,
                **kinds,
                is_reversed=is_reversed,
                queries=queries,
                documents=documents,
                pairs=judged,
                grades=grades,
                members=members,
            )


def _highest(pairs: np.ndarray, grades: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each pair once, with the highest of its grades."""
    distinct, places = np.unique(pairs, axis=0, return_inverse=True)
    highest = np.zeros(len(distinct), np.int64)
    np.maximum.at(highest, places.reshape(-1), grades)
    return distinct, highest


def _identities(items: Items) -> np.ndarray:
    """Return identities as numbers that sort like the strings of `item_id`."""
    return items.identities.view(np.uint64)
