"""Embed a corpus into Parquet shards; a job that was killed goes on where it was.

    corpus ─ a shard at a time, dealt to processes ─ CorpusEmbedder ─► shard-00000.parquet, …

Each process makes every n-th shard alone, so that nobody waits for anybody, and a shard has the
same content whoever makes it. A second start skips shards that are there and makes the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from jina.retrieval.corpus import Corpus, CorpusItem, open_corpus
from jina.retrieval.corpus_embedding import CorpusEmbedder, EmbeddingSettings
from jina.retrieval.embedded_folder import EmbeddedFolder
from jina.retrieval.errors import RetrievalError, library
from jina.retrieval.processes import Processes
from jina.retrieval.progress import Progress

# Arrow counts the numbers of a file in 31 bits: so many rows of 8,192 tokens fit.
MAX_SHARD_ROWS = 2_000


@dataclass(frozen=True, kw_only=True)
class EmbedJob:
    """What `python -m jina embed` is told.

    Attributes:
        source: A `.jsonl` or `.txt` file or a folder of images.
        output: The folder for the shards.
        settings: How items become vectors.
        side: The side of training rows that counts.
        image_base_dir: The folder image paths start from.
        dtype: Type of the vectors in the files.
        shard_rows: Items of a shard.
        skips_bad_images: Leave out, and tell of, pictures that can't be decoded.
        cache: A folder to remember digests of weights in.
    """

    source: Path
    output: Path
    settings: EmbeddingSettings
    side: str | None = None
    image_base_dir: Path | None = None
    dtype: str = "float32"
    shard_rows: int = 1000
    skips_bad_images: bool = False
    cache: Path | None = None


@dataclass
class EmbedSummary:
    """What an `embed` did.

    Attributes:
        rows: Items of the corpus.
        shards: Files that make up the job.
        made: Shards that this process made.
        left: Shards that are still missing, because other processes make them.
        skipped: What is wrong with each item that was left out, now or before.
    """

    rows: int
    shards: int
    made: int
    left: int
    skipped: list[str]


def embed(job: EmbedJob, processes: Processes | None = None) -> EmbedSummary:
    """Embed what isn't embedded yet.

    Args:
        job: What to embed, how and where to.
        processes: Who shares the shards; by default those the launcher started.

    Raises:
        RetrievalError: If source, settings or folder are no good, before anything is embedded; or
            if an image can't be decoded, after the shards before it were written.
    """
    library("pyarrow.parquet", "python -m jina embed")
    if not 1 <= job.shard_rows <= MAX_SHARD_ROWS:
        got = f"got {job.shard_rows}; use 1 to {MAX_SHARD_ROWS:,}"
        raise RetrievalError(f"--shard-rows: out of range; {got}")
    processes = processes or Processes.current()
    settings = job.settings.resolved(job.cache)
    corpus = open_corpus(job.source, side=job.side, image_base_dir=job.image_base_dir)
    manifest = {
        **settings,
        "model_folder": str(job.settings.model.absolute()),
        "dtype": job.dtype,
        "source": str(job.source.absolute()),
        "source_digest": corpus.digest,
        "side": job.side,
        "image_root": str(corpus.root),
        "rows": len(corpus),
        "shard_rows": job.shard_rows,
    }
    folder = EmbeddedFolder.claim(job.output, manifest)
    mine = [n for n in folder.missing() if n % processes.count == processes.rank]
    if mine:
        _make(mine, corpus, folder, job, is_told=processes.is_first)
    left, skipped = len(folder.missing()), folder.skipped()
    return EmbedSummary(len(corpus), len(folder), len(mine), left, skipped)


def _make(
    numbers: Sequence[int],
    corpus: Corpus,
    folder: EmbeddedFolder,
    job: EmbedJob,
    *,
    is_told: bool,
) -> None:
    """Make some shards."""
    embedder, skipped = CorpusEmbedder(job.settings), 0
    progress = Progress(sum(map(folder.rows_of, numbers)))
    for number, items in _shards(corpus, job.shard_rows, numbers):
        try:
            batch, bad = embedder.embed(items, corpus.root, skips_bad_images=job.skips_bad_images)
        except RetrievalError as error:
            advice = "Mend them and begin anew, or go on without such images: --on-bad-image skip."
            raise RetrievalError(*error.problems, advice) from error
        folder.write(number, batch, skipped=bad)
        skipped += len(bad)
        if is_told:
            progress.advance(len(items), attention=skipped)


def _shards(
    corpus: Corpus, size: int, wanted: Sequence[int]
) -> Iterator[tuple[int, list[CorpusItem]]]:
    """Yield the wanted shards of a corpus, reading past the others."""
    stream, numbers = iter(corpus), set(wanted)
    for number in range(max(wanted) + 1):
        items = list(islice(stream, size))
        if number in numbers:
            yield number, items
