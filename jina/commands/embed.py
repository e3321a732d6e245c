"""Embed JSONL, lines of text or a folder of images into Parquet files.

SRC is FILE.jsonl of rows such as {"text": "a cat", "image": "cat.png", "id": 7, "metadata": {}}, or
of training rows with --side; or FILE.txt with one text a line; or a folder of images. A job that
was stopped goes on where it was when it is started again. Under `accelerate launch` the processes
share the shards.
"""

import argparse
import logging
from pathlib import Path

from jina.commands.embedding_options import (
    BAD_INPUT,
    VECTORS,
    add_model_options,
    add_source_options,
    text_tokens,
)
from jina.commands.option_parser import positive
from jina.retrieval.corpus_embedding import EmbeddingSettings
from jina.retrieval.embed import EmbedJob, embed
from jina.retrieval.vector_files import DTYPES

__all__ = ["BAD_INPUT", "add_options", "run"]

logger = logging.getLogger("smartembed")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `embed`."""
    parser.add_argument("source", type=Path, metavar="SRC", help="a file, or a folder of images")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for the shards")
    parser.add_argument(
        "--vectors",
        choices=VECTORS,
        default="single",
        metavar="KINDS",
        help="single, multi or single,multi (default: single)",
    )
    parser.add_argument(
        "--role",
        choices=("query", "passage"),
        default="passage",
        help="what they are embedded as (default: passage)",
    )
    parser.add_argument(
        "--precision", choices=DTYPES, default="float32", help="in the files (default: float32)"
    )
    parser.add_argument(
        "--shard-rows",
        type=positive,
        default=1000,
        metavar="N",
        help="rows of a file (default: 1000)",
    )
    add_model_options(parser, is_required=True)
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the shards that are missing."""
    summary = embed(
        EmbedJob(
            source=options.source,
            output=options.output,
            settings=EmbeddingSettings(
                model=options.model,
                task=options.task or "retrieval",
                role=options.role,
                vectors=VECTORS[options.vectors],
                dim=options.dim,
                max_text_tokens=text_tokens(options),
                max_pixels=options.max_pixels,
            ),
            side=options.side,
            image_base_dir=options.image_base_dir,
            dtype=options.precision,
            shard_rows=options.shard_rows,
            skips_bad_images=options.on_bad_image == "skip",
            cache=options.cache,
        )
    )
    for problem in summary.skipped:
        logger.info("Left out: %s", problem)
    logger.info(
        "%s: %s items in %s shards, %s made now, %s still missing, %s items left out.",
        *(options.output, f"{summary.rows:,}", f"{summary.shards:,}", f"{summary.made:,}"),
        *(f"{summary.left:,}", f"{len(summary.skipped):,}"),
    )
    return 0
