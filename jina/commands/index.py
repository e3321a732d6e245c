"""Make an index of texts and images, add to it, delete from it, or say what it holds.

--add takes what `embed` takes: FILE.jsonl, FILE.txt or folders of images; --embedded takes folders
that `embed` wrote. The first addition makes the index; later ones keep its settings. Nothing is
ever rebuilt.
"""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from jina.commands.embedding_options import (
    BAD_INPUT,
    VECTORS,
    add_model_options,
    add_source_options,
)
from jina.commands.store_options import Place, add_store_options, chosen_model
from jina.retrieval.corpus_embedding import EmbeddingSettings
from jina.retrieval.errors import RetrievalError
from jina.retrieval.index import (
    Addition,
    AddSummary,
    add_embedded,
    add_sources,
    settings_of,
)
from jina.retrieval.stores import KINDS
from jina.retrieval.vector_files import DTYPES

__all__ = ["BAD_INPUT", "add_options", "run"]

logger = logging.getLogger("smartembed")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `index`."""
    add_store_options(parser)
    parser.add_argument(
        "--add", type=Path, nargs="+", default=[], metavar="SRC", help="embed these"
    )
    parser.add_argument(
        "--embedded", type=Path, nargs="+", default=[], metavar="DIR", help="add these vectors"
    )
    parser.add_argument("--delete", nargs="+", default=[], metavar="ID", help="remove these first")
    parser.add_argument(
        "--kind", choices=KINDS, help="of a new index (default: exact; qdrant: hnsw)"
    )
    parser.add_argument(
        "--vectors",
        choices=[name for name in VECTORS if "single" in name],
        metavar="KINDS",
        help="of a new index: single or single,multi (default: single)",
    )
    parser.add_argument(
        "--precision", choices=DTYPES, help="of its multi vectors (default: float32)"
    )
    add_model_options(parser, is_required=False)
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """Delete, add and report."""
    place = Place(options)
    if options.delete:
        logger.info("Deleted %s items.", f"{place.open().delete(options.delete):,}")
    if options.add:
        _tell(add_sources(_addition(options, place), place.make))
    for folder in options.embedded:
        _tell(_add_embedded(folder, options, place))
    store = place.open()
    settings = store.settings
    logger.info(
        "%s: %s items, %s search, %s vectors, task %s, model %s.",
        *(options.index, f"{len(store):,}", settings.kind, " and ".join(settings.vectors)),
        *(settings.task, settings.model[:16]),
    )
    return 0


def _addition(options: argparse.Namespace, place: Place) -> Addition:
    """Return what to add: as the index says if there is one, as the options say otherwise."""
    if place.exists():
        index = place.open().settings
        kept = settings_of(index, chosen_model(options, index), options.cache)
        kind, dtype = options.kind or index.kind, options.precision or index.dtype
    elif options.model is None:
        raise RetrievalError("--model: is missing; got none for a new index; name a checkpoint")
    else:
        kept, kind = EmbeddingSettings(model=options.model), options.kind or _new_kind(options)
        dtype = options.precision or "float32"
    given = {
        "task": options.task,
        "dim": options.dim,
        "max_text_tokens": options.max_text_tokens,
        "max_pixels": options.max_pixels,
        "vectors": VECTORS.get(options.vectors),
    }
    return Addition(
        sources=options.add,
        settings=replace(kept, **{k: v for k, v in given.items() if v is not None}),
        kind=kind,
        dtype=dtype,
        side=options.side,
        image_base_dir=options.image_base_dir,
        skips_bad_images=options.on_bad_image == "skip",
        cache=options.cache,
    )


def _add_embedded(folder: Path, options: argparse.Namespace, place: Place) -> AddSummary:
    """Add a folder of vectors, which bring their settings with them."""
    index = place.open().settings if place.exists() else None
    kind = options.kind or (index.kind if index else _new_kind(options))
    dtype = options.precision or (index.dtype if index else "float32")
    return add_embedded(folder, place.make, model=options.model, kind=kind, dtype=dtype)


def _new_kind(options: argparse.Namespace) -> str:
    """Return the kind of a new index; a server is for sets too large to look at each row."""
    return "exact" if options.backend == "folder" else "hnsw"


def _tell(summary: AddSummary) -> None:
    """Report an addition."""
    for problem in summary.skipped:
        logger.info("Left out: %s", problem)
    logger.info("Added %s items, left out %s.", f"{summary.added:,}", f"{len(summary.skipped):,}")
