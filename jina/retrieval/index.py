"""Fill and trim an index: sources are embedded into it, finished shards are taken over.

    SRC ─ corpus ─ CorpusEmbedder ─┐
    folder of `embed` ─ shards ────┴─► store.add        ids ─► store.delete

An index is made with its first addition and keeps the settings of that one: model, task, sizes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from jina.retrieval.corpus import Corpus, open_corpus
from jina.retrieval.corpus_embedding import CorpusEmbedder, EmbeddingSettings, absolute_images
from jina.retrieval.embedded_folder import EmbeddedFolder
from jina.retrieval.entries import repeated
from jina.retrieval.errors import RetrievalError
from jina.retrieval.fingerprint import model_fingerprint
from jina.retrieval.progress import Progress
from jina.retrieval.stores import IndexSettings, Store
from jina.retrieval.vector_files import VectorBatch

ITEMS_AT_A_TIME = 512
MAX_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Addition:
    """What to embed and add.

    Attributes:
        sources: Files and folders, as `open_corpus` takes them.
        settings: How items become vectors.
        kind: Of a new index, `exact` or `hnsw`.
        dtype: Of the multi vectors of a new index.
        side: The side of training rows that counts.
        image_base_dir: The folder image paths start from.
        skips_bad_images: Leave out, and tell of, pictures that can't be decoded.
        cache: A folder to remember digests of weights in.
    """

    sources: Sequence[Path]
    settings: EmbeddingSettings
    kind: str = "exact"
    dtype: str = "float32"
    side: str | None = None
    image_base_dir: Path | None = None
    skips_bad_images: bool = False
    cache: Path | None = None


@dataclass
class AddSummary:
    """How many rows were added, and what is wrong with the items left out."""

    added: int = 0
    skipped: list[str] = field(default_factory=list)


OpenStore = Callable[[IndexSettings], Store]


def add_sources(addition: Addition, open_store: OpenStore) -> AddSummary:
    """Embed sources and add them to an index: all of them, or none if anything is wrong.

    Args:
        addition: What to add.
        open_store: Makes the index, or opens it if it has the given settings.
    """
    if "single" not in addition.settings.vectors or addition.settings.role != "passage":
        raise ValueError("an index holds single vectors of passages; got other settings")
    values = addition.settings.resolved(addition.cache)
    corpora = [
        open_corpus(source, side=addition.side, image_base_dir=addition.image_base_dir)
        for source in addition.sources
    ]
    store = open_store(
        _index_settings(values, addition.settings.model, addition.kind, addition.dtype)
    )
    _refuse_taken(corpora, store)
    embedder, summary = CorpusEmbedder(addition.settings), AddSummary()
    summary.added = store.add(_embedded(corpora, embedder, addition, summary))
    return summary


def add_embedded(
    folder: Path, open_store: OpenStore, *, model: Path | None, kind: str, dtype: str
) -> AddSummary:
    """Add all shards of a finished `embed` to an index.

    Args:
        folder: Where they lie.
        open_store: Makes the index, or opens it if it has the given settings.
        model: Where searches will look for the model, None for where it was when embedding.
        kind: Of a new index.
        dtype: Of the multi vectors of a new index.
    """
    embedded = EmbeddedFolder(folder)
    values = embedded.manifest
    if values["role"] != "passage" or "single" not in values["vectors"]:
        got = f"got {values['vectors']} of role {values['role']}"
        raise RetrievalError(f"{folder}: isn't for an index; {got}; embed single vectors again")
    shards = embedded.read()
    hint = Path(values["model_folder"]) if model is None else model
    store = open_store(_index_settings(values, hint, kind, dtype))
    root = values["image_root"]
    added = store.add(absolute_images(batch, root) for batch in shards)
    return AddSummary(added, embedded.skipped())


def settings_of(
    store_settings: IndexSettings, model: Path, cache: Path | None
) -> EmbeddingSettings:
    """Return how to embed for an index that is there.

    Raises:
        RetrievalError: If the model isn't the one whose vectors the index holds.
    """
    found = model_fingerprint(model, cache)
    if found != store_settings.model:
        raise RetrievalError(
            f"{model}: isn't the model of the index; got fingerprint {found[:16]} instead of "
            f"{store_settings.model[:16]}; give that one, or make another index"
        )
    return EmbeddingSettings(
        model=model,
        task=store_settings.task,
        vectors=store_settings.vectors,
        dim=store_settings.dim,
        max_text_tokens=store_settings.max_text_tokens,
        max_pixels=store_settings.max_pixels,
    )


def _refuse_taken(corpora: Sequence[Corpus], store: Store) -> None:
    """Say that ids are taken before hours are spent on embedding."""
    ids = [item.id for corpus in corpora for item in corpus]
    if taken := [*repeated(ids), *store.present(ids)]:
        got = ", ".join(taken[:MAX_SHOWN])
        raise RetrievalError(
            f"ids: {len(taken):,} are taken already; got {got}; "
            "delete them first, or give the items ids of their own in a .jsonl file"
        )


def _index_settings(values: dict[str, Any], model: Path, kind: str, dtype: str) -> IndexSettings:
    """Return the settings of an index for vectors that were made in a certain way."""
    return IndexSettings(
        model=values["model"],
        model_folder=str(model.absolute()),
        task=values["task"],
        max_text_tokens=values["max_text_tokens"],
        max_pixels=values["max_pixels"],
        dim=values["dim"],
        multi_dim=values["multi_dim"],
        kind=kind,
        dtype=dtype,
    )


def _embedded(
    corpora: Sequence[Corpus], embedder: CorpusEmbedder, addition: Addition, summary: AddSummary
) -> Iterator[VectorBatch]:
    """Embed corpora a few hundred items at a time."""
    progress = Progress(sum(map(len, corpora)))
    for corpus in corpora:
        stream = iter(corpus)
        while items := list(islice(stream, ITEMS_AT_A_TIME)):
            batch, bad = embedder.embed(
                items, corpus.root, skips_bad_images=addition.skips_bad_images
            )
            summary.skipped += bad
            yield absolute_images(batch, corpus.root)
            progress.advance(len(items), attention=len(summary.skipped))
