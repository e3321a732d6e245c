"""Mine hard negatives: what a model takes for right answers, and that are none.

    rows ─┬─ queries ──► vectors ─┐
    corpus ─ documents ─► vectors ─┴─ top-k ─ without positives and their copies ─► Ranking
          Ranking ─ choose_negatives ─► rows with negatives, and in metadata where they come from

Contents are embedded once each, however many rows share them, and kept in a cache. A document is
one content: copies under other names are the same document.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from jina.retrieval.content import Content, ContentIndex, identify_images, item_content
from jina.retrieval.corpus import open_corpus
from jina.retrieval.corpus_embedding import EmbeddingSettings
from jina.retrieval.durable_files import publish
from jina.retrieval.errors import RetrievalError
from jina.retrieval.exact_search import exact_top_k
from jina.retrieval.mining_rows import (
    MiningRow,
    OutputRows,
    original_values,
    read_mining_rows,
    task_of,
)
from jina.retrieval.mining_vectors import ContentEmbedder
from jina.retrieval.negative_selection import (
    Negative,
    Ranking,
    SelectionRules,
    choose_negatives,
)
from jina.retrieval.progress import Progress
from jina.retrieval.single_vectors import SingleVectors

ROWS_A_MESSAGE = 5000


@dataclass(frozen=True, kw_only=True)
class MineJob:
    """What `python -m jina mine` is told.

    Attributes:
        files: JSONL files of training rows.
        output: The JSONL file to write.
        model: Folder of the checkpoint.
        rules: How negatives are chosen.
        corpus: Sources to mine in, as `open_corpus` takes them; by default the positives and
            negatives of the rows.
        task: The adapter; by default the one task that all rows have.
        image_base_dir: The folder image paths start from, of the rows, the corpus files and the
            output.
        dim: Size of the vectors that are compared, None for the full one.
        max_text_tokens: Longer texts are cut.
        is_exact: Compare with every document; otherwise with those an HNSW graph leads to.
        cache: A folder for vectors.
        overwrite: Whether `output` may be replaced.
    """

    files: Sequence[Path]
    output: Path
    model: Path
    rules: SelectionRules
    corpus: Sequence[Path] = ()
    task: str | None = None
    image_base_dir: Path | None = None
    dim: int | None = None
    max_text_tokens: int
    is_exact: bool = True
    cache: Path
    overwrite: bool = False


@dataclass(frozen=True)
class Document:
    """Something that may become a negative, and where it was first met."""

    content: Content
    id: str


@dataclass
class MineSummary:
    """What was mined.

    Attributes:
        rows: How many were written.
        documents: How many different things were compared with.
        negatives: How many were added.
        short: Rows that got fewer than wanted.
        excluded: Candidates left out, by reason.
        embedded: Contents embedded now; the others were in the cache.
    """

    rows: int = 0
    documents: int = 0
    negatives: int = 0
    short: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    embedded: int = 0

    def lines(self) -> Iterator[str]:
        """Yield what to tell the user."""
        yield f"{self.rows:,} rows, {self.documents:,} documents, {self.embedded:,} embedded now."
        for reason, count in self.excluded.items():
            yield f"Left out: {count:,} {reason}."
        share = f"{self.negatives / max(self.rows, 1):.2f} a row"
        yield f"{self.negatives:,} negatives, {share}; {self.short:,} rows got fewer than wanted."


def mine(job: MineJob) -> MineSummary:
    """Write the rows with hard negatives.

    Raises:
        RetrievalError: If rows, corpus or options are no good; nothing was written.
        CheckpointError: If the model is none.
    """
    _check(job)
    rows = read_mining_rows(job.files, job.image_base_dir)
    documents = _documents(job, rows)
    writer = OutputRows(
        job.image_base_dir or job.output.parent, rows, [d.content for d in documents]
    )
    settings = EmbeddingSettings(
        model=job.model,
        task=job.task or task_of(rows),
        dim=job.dim,
        max_text_tokens=job.max_text_tokens,
    )
    embedder = ContentEmbedder(settings, job.cache)
    summary = MineSummary(rows=len(rows), documents=len(documents))
    chosen = _Miner(rows, documents, embedder, job).mine(summary)
    lines = _lines(rows, documents, chosen, writer, embedder.provenance)
    job.output.parent.mkdir(parents=True, exist_ok=True)

    def write(path: Path) -> None:
        """Write all rows."""
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(lines)

    publish(job.output, write)
    summary.embedded = embedder.embedded
    return summary


class _Miner:
    """Ranks documents for the queries of rows and chooses negatives."""

    def __init__(
        self,
        rows: Sequence[MiningRow],
        documents: Sequence[Document],
        embedder: ContentEmbedder,
        job: MineJob,
    ) -> None:
        self._rows, self._job = rows, job
        self._index = ContentIndex(document.content for document in documents)
        self._positives: dict[tuple[bytes, bytes], dict[bytes, Content]] = defaultdict(dict)
        for row in rows:
            known = self._positives[row.query.parts]
            known |= {content.key: content for content in row.positives}
        queries = {row.query.key: row.query for row in rows}
        positives = {c.key: c for known in self._positives.values() for c in known.values()}
        self._query_vectors = _by_key(queries, embedder.embed([*queries.values()], "query"))
        self._positive_vectors = _by_key(
            positives, embedder.embed([*positives.values()], "passage")
        )
        self._documents = embedder.embed([document.content for document in documents], "passage")

    def mine(self, summary: MineSummary) -> list[tuple[float, list[Negative]]]:
        """Return for each row the score of its positive and the negatives chosen."""
        blocked = [self._blocked(row) for row in self._rows]
        reach = self._job.rules.last_rank + max(map(len, blocked))
        queries = np.stack([self._query_vectors[row.query.key] for row in self._rows])
        chosen, progress = [], Progress(len(self._rows), "rows")
        for number, (scores, found) in enumerate(self._search(queries, reach)):
            row = self._rows[number]
            is_free = ~np.isin(found, list(blocked[number]))
            summary.excluded["copies of a positive or the query"] += int((~is_free).sum())
            found, scores = found[is_free], scores[is_free]
            own = np.stack([self._positive_vectors[content.key] for content in row.positives])
            positive_score = float((own @ queries[number]).min())
            ranking = Ranking(found, scores, self._likeness(row, found))
            rules, excluded = self._job.rules, summary.excluded
            negatives = choose_negatives(
                ranking, positive_score, rules, row=number, excluded=excluded
            )
            summary.negatives += len(negatives)
            summary.short += len(negatives) < rules.count
            chosen.append((positive_score, negatives))
            if len(chosen) % ROWS_A_MESSAGE == 0:
                progress.advance(ROWS_A_MESSAGE)
        return chosen

    def _blocked(self, row: MiningRow) -> set[int]:
        """Return the documents that are positives of the query, or the query, or have been mined.

        All rows with this query count: their positives are right answers here, too.
        """
        positives = self._positives[row.query.parts].values()
        same = map(self._index.same_as, positives)
        equal = map(self._index.equal_to, (row.query, *row.negatives))
        return set(chain.from_iterable([*same, *equal]))

    def _search(self, queries: np.ndarray, top: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the best documents for each query."""
        if self._job.is_exact:
            return exact_top_k(queries, self._documents, top)
        graph = SingleVectors.new(self._documents.shape[1], "hnsw")
        graph.add(self._documents)
        return (graph.search(query[None], top)[0] for query in queries)

    def _likeness(self, row: MiningRow, documents: np.ndarray) -> np.ndarray:
        """Return the largest cosine of each document to a positive of the row's query."""
        positives = self._positives[row.query.parts]
        vectors = np.stack([self._positive_vectors[key] for key in positives])
        return (self._documents[documents] @ vectors.T).max(axis=1, initial=-1.0)


def _check(job: MineJob) -> None:
    """Refuse options that can't be followed, before anything is read."""
    job.rules.check()
    if job.output.exists() and not job.overwrite:
        raise RetrievalError(f"--output: exists; got {job.output}; add --overwrite")
    if job.output.resolve() in {file.resolve() for file in job.files}:
        raise RetrievalError(f"--output: is an input; got {job.output}; choose another name")
    if (count := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        advice = "start it without the launcher"
        raise RetrievalError(f"mine: runs in one process; got {count}; {advice}")


def _documents(job: MineJob, rows: Sequence[MiningRow]) -> list[Document]:
    """Return everything that may become a negative, each content once."""
    found: dict[bytes, Document] = {}
    if not job.corpus:
        for row in rows:
            for side in ("positives", "negatives"):
                for index, content in enumerate(getattr(row, side)):
                    name = f"{row.sample.where}: {side}[{index}]"
                    found.setdefault(content.key, Document(content, name))
        return list(found.values())
    corpora = [open_corpus(source, image_base_dir=job.image_base_dir) for source in job.corpus]
    images = [
        (corpus.root, item.item.image, item.id)
        for corpus in corpora
        for item in corpus
        if item.item.image is not None
    ]
    pixels = identify_images(images)
    for corpus in corpora:
        for item in corpus:
            content = item_content(item.item, corpus.root, pixels)
            found.setdefault(content.key, Document(content, item.id))
    return list(found.values())


def _lines(
    rows: Sequence[MiningRow],
    documents: Sequence[Document],
    chosen: Sequence[tuple[float, list[Negative]]],
    writer: OutputRows,
    provenance: dict[str, Any],
) -> Iterator[str]:
    """Yield the lines of the output."""
    for values, row, (positive_score, negatives) in zip(
        original_values(rows), rows, chosen, strict=True
    ):
        contents = [documents[negative.document].content for negative in negatives]
        mined = {
            **provenance,
            "positive_score": round(positive_score, 6),
            "negatives": [
                {
                    "id": documents[negative.document].id,
                    "rank": negative.rank,
                    "score": round(negative.score, 6),
                }
                for negative in negatives
            ],
        }
        yield writer.line(values, row, contents, mined)


def _by_key(contents: dict[bytes, Content], vectors: np.ndarray) -> dict[bytes, np.ndarray]:
    return dict(zip(contents, vectors, strict=True))
