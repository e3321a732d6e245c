"""Rank documents for the query of each row, without those that are right answers.

    rows, sources ─► documents, each content once ─ vectors, top-k ─► Ranking, Ranking, …

All rows with one query share their positives: what answers it in one row is no negative in
another. Copies of a positive under other names, and a positive without its text or image, are out,
too.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from jina.retrieval.content import Content, ContentIndex, identify_images, item_content
from jina.retrieval.corpus import open_corpus
from jina.retrieval.exact_search import exact_top_k
from jina.retrieval.mining_rows import MiningRow
from jina.retrieval.mining_vectors import ContentEmbedder
from jina.retrieval.negative_selection import Ranking
from jina.retrieval.single_vectors import SingleVectors


@dataclass(frozen=True)
class Document:
    """Something that may become a negative, and where it was first met."""

    content: Content
    id: str


def documents_of_rows(rows: Sequence[MiningRow]) -> list[Document]:
    """Return the positives and negatives of all rows, each content once."""
    found: dict[bytes, Document] = {}
    for row in rows:
        for side in ("positives", "negatives"):
            for index, content in enumerate(getattr(row, side)):
                name = f"{row.sample.where}: {side}[{index}]"
                found.setdefault(content.key, Document(content, name))
    return list(found.values())


def documents_of_sources(sources: Sequence[Path], image_base_dir: Path | None) -> list[Document]:
    """Return what some sources hold, each content once.

    Raises:
        RetrievalError: With everything that is wrong with them.
    """
    corpora = [open_corpus(source, image_base_dir=image_base_dir) for source in sources]
    images = [
        (corpus.root, item.item.image, item.id)
        for corpus in corpora
        for item in corpus
        if item.item.image is not None
    ]
    pixels = identify_images(images)
    found: dict[bytes, Document] = {}
    for corpus in corpora:
        for item in corpus:
            content = item_content(item.item, corpus.root, pixels)
            found.setdefault(content.key, Document(content, item.id))
    return list(found.values())


class Rankings:
    """The documents as each row's query ranks them.

    Args:
        rows: Whose queries.
        documents: What is ranked.
        embedder: Makes the vectors of both.
    """

    def __init__(
        self,
        rows: Sequence[MiningRow],
        documents: Sequence[Document],
        embedder: ContentEmbedder,
    ) -> None:
        self._rows = rows
        self._index = ContentIndex(document.content for document in documents)
        self._positives: dict[tuple[bytes, bytes], dict[bytes, Content]] = defaultdict(dict)
        for row in rows:
            known = self._positives[row.query.parts]
            known |= {content.key: content for content in row.positives}
        queries = {row.query.key: row.query for row in rows}
        positives = {c.key: c for known in self._positives.values() for c in known.values()}
        self._queries = _by_key(queries, embedder, "query")
        self._answers = _by_key(positives, embedder, "passage")
        self._documents = embedder.embed([document.content for document in documents], "passage")

    def ranked(self, last_rank: int, *, is_exact: bool) -> Iterator[tuple[float, Ranking]]:
        """Yield for each row the score of its positive, the lowest of several, and its ranking.

        Args:
            last_rank: How many documents to rank at least, where there are so many.
            is_exact: Compare with every document; otherwise with those an HNSW graph leads to.
        """
        blocked = [self._blocked(row) for row in self._rows]
        reach = last_rank + max(map(len, blocked))
        queries = np.stack([self._queries[row.query.key] for row in self._rows])
        for number, (scores, found) in enumerate(self._search(queries, reach, is_exact)):
            row = self._rows[number]
            is_free = ~np.isin(found, list(blocked[number]))
            own = np.stack([self._answers[content.key] for content in row.positives])
            found, scores = found[is_free], scores[is_free]
            likeness = self._likeness(row, found)
            yield float((own @ queries[number]).min()), Ranking(found, scores, likeness)

    def _blocked(self, row: MiningRow) -> set[int]:
        """Return the documents that are right answers, the query, or negatives already."""
        positives = self._positives[row.query.parts].values()
        same = map(self._index.same_as, positives)
        equal = map(self._index.equal_to, (row.query, *row.negatives))
        return set(chain.from_iterable([*same, *equal]))

    def _search(
        self, queries: np.ndarray, top: int, is_exact: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the best documents for each query."""
        if is_exact:
            return exact_top_k(queries, self._documents, top)
        graph = SingleVectors.new(self._documents.shape[1], "hnsw")
        graph.add(self._documents)
        return (graph.search(query[None], top)[0] for query in queries)

    def _likeness(self, row: MiningRow, documents: np.ndarray) -> np.ndarray:
        """Return the largest cosine of each document to a positive of the row's query."""
        vectors = np.stack([self._answers[key] for key in self._positives[row.query.parts]])
        return (self._documents[documents] @ vectors.T).max(axis=1, initial=-1.0)


def _by_key(
    contents: dict[bytes, Content], embedder: ContentEmbedder, role: str
) -> dict[bytes, np.ndarray]:
    """Return the vectors of contents under their keys."""
    return dict(zip(contents, embedder.embed([*contents.values()], role), strict=True))
