"""Mine hard negatives: what a model takes for right answers, and that are none.

    rows ─┬─ queries ──► vectors ─┐
    corpus ─ documents ─► vectors ─┴─ top-k ─ without positives and their copies ─► Ranking
          Ranking ─ choose_negatives ─► rows with negatives, and in metadata where they come from

Contents are embedded once each, however many rows share them, and kept in a cache. A document is
one content: copies under other names are the same document.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jina.retrieval.corpus_embedding import EmbeddingSettings
from jina.retrieval.durable_files import publish
from jina.retrieval.errors import RetrievalError
from jina.retrieval.mining_rankings import (
    Document,
    Rankings,
    documents_of_rows,
    documents_of_sources,
)
from jina.retrieval.mining_rows import (
    MiningRow,
    OutputRows,
    original_values,
    read_mining_rows,
    task_of,
)
from jina.retrieval.mining_vectors import ContentEmbedder
from jina.retrieval.negative_selection import (
    NEAR_DUPLICATES,
    TOO_CLOSE,
    Negative,
    SelectionRules,
    choose_negatives,
)
from jina.retrieval.progress import Progress

ROWS_A_MESSAGE = 5000

# The score of a row's positive, and its negatives.
Chosen = tuple[float, list[Negative]]


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
        max_pixels: Larger images shrink to it; None for what the checkpoint says.
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
    max_pixels: int | None = None
    is_exact: bool = True
    cache: Path
    overwrite: bool = False


# What sets the limit behind a reason for leaving candidates out.
LIMIT_OPTIONS = {
    NEAR_DUPLICATES: "--near-duplicate",
    TOO_CLOSE: "--relative-margin and --absolute-margin",
}


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
        if not self.negatives and self.excluded.total():
            option = LIMIT_OPTIONS[max(self.excluded, key=self.excluded.__getitem__)]
            yield f"No negatives: mine with a model that tells these apart, or change {option}."


def mine(job: MineJob) -> MineSummary:
    """Write the rows with hard negatives.

    Raises:
        RetrievalError: If rows, corpus or options are no good; nothing was written.
        CheckpointError: If the model is none.
    """
    _check(job)
    rows = read_mining_rows(job.files, job.image_base_dir)
    if job.corpus:
        documents = documents_of_sources(job.corpus, job.image_base_dir)
    else:
        documents = documents_of_rows(rows)
    writer = OutputRows(
        job.image_base_dir or job.output.parent, rows, [d.content for d in documents]
    )
    settings = EmbeddingSettings(
        model=job.model,
        task=job.task or task_of(rows),
        dim=job.dim,
        max_text_tokens=job.max_text_tokens,
        max_pixels=job.max_pixels,
    )
    embedder = ContentEmbedder(settings, job.cache)
    summary = MineSummary(rows=len(rows), documents=len(documents))
    chosen = _choose(Rankings(rows, documents, embedder), job, summary)
    lines = _lines(rows, documents, chosen, writer, embedder.provenance)
    job.output.parent.mkdir(parents=True, exist_ok=True)

    def write(path: Path) -> None:
        """Write all rows."""
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(lines)

    publish(job.output, write)
    summary.embedded = embedder.embedded
    return summary


def _choose(rankings: Rankings, job: MineJob, summary: MineSummary) -> list[Chosen]:
    """Return for each row the score of its positive and the negatives chosen."""
    chosen: list[Chosen] = []
    progress, rules = Progress(summary.rows, "rows"), job.rules
    ranked = rankings.ranked(rules.last_rank, is_exact=job.is_exact)
    for row, (positive_score, ranking) in enumerate(ranked):
        negatives = choose_negatives(
            ranking, positive_score, rules, row=row, excluded=summary.excluded
        )
        summary.negatives += len(negatives)
        summary.short += len(negatives) < rules.count
        chosen.append((positive_score, negatives))
        if len(chosen) % ROWS_A_MESSAGE == 0:
            progress.advance(ROWS_A_MESSAGE)
    return chosen


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


def _lines(
    rows: Sequence[MiningRow],
    documents: Sequence[Document],
    chosen: Sequence[Chosen],
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
