"""Options that `embed`, `index`, `search` and `mine` share."""

import argparse
from pathlib import Path

from jina.commands.option_parser import positive
from jina.data.records import SIDES, TASKS
from jina.data.validation import DataError
from jina.models.checkpoint import CheckpointError
from jina.retrieval.errors import RetrievalError
from jina.retrieval.item_embedding import MAX_TEXT_TOKENS, EmbeddingError

BAD_INPUT = (CheckpointError, DataError, EmbeddingError, RetrievalError)
CACHE = Path("outputs/cache")
VECTORS = {"single": ("single",), "multi": ("multi",), "single,multi": ("single", "multi")}


def add_model_options(parser: argparse.ArgumentParser, *, is_required: bool) -> None:
    """Add what says how items become vectors."""
    parser.add_argument(
        "--model", type=Path, required=is_required, metavar="DIR", help="a checkpoint folder"
    )
    parser.add_argument("--task", choices=TASKS, help="the adapter (default: retrieval)")
    parser.add_argument(
        "--dim", type=positive, metavar="N", help="size of single vectors (default: the full one)"
    )
    parser.add_argument(
        "--max-text-tokens",
        type=positive,
        metavar="N",
        help=f"longer texts are cut (default: {MAX_TEXT_TOKENS})",
    )
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="larger images shrink (default: the model's)",
    )
    add_cache_option(parser)


def text_tokens(options: argparse.Namespace) -> int:
    """Return the limit that was given, or the default."""
    return MAX_TEXT_TOKENS if options.max_text_tokens is None else options.max_text_tokens


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    """Add where to remember what is costly to find out."""
    parser.add_argument(
        "--cache",
        type=Path,
        default=CACHE,
        metavar="DIR",
        help=f"remembers digests and vectors (default: {CACHE})",
    )


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how a source is read."""
    parser.add_argument("--side", choices=SIDES, help="take this side of training rows")
    parser.add_argument(
        "--image-base-dir", type=Path, metavar="DIR", help="where relative image paths start"
    )
    parser.add_argument(
        "--on-bad-image",
        choices=("stop", "skip"),
        default="stop",
        help="what to do if one can't be decoded (default: stop)",
    )
