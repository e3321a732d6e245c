"""Find texts and images in an index, by a text, an image, or both as one query.

With multi vectors in the index, what the single vector finds is ranked anew by MaxSim.
"""

import argparse
import logging
from pathlib import Path

from jina.commands.embedding_options import BAD_INPUT, add_cache_option
from jina.commands.option_parser import positive
from jina.commands.store_options import Place, add_store_options, chosen_model
from jina.retrieval.search import Question, json_lines, search, table

__all__ = ["BAD_INPUT", "add_options", "run"]

logger = logging.getLogger("smartembed")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `search`."""
    add_store_options(parser)
    parser.add_argument("--text", help="what to look for")
    parser.add_argument("--image", type=Path, metavar="FILE", help="what to look for")
    parser.add_argument(
        "--top", type=positive, default=10, metavar="N", help="results (default: 10)"
    )
    parser.add_argument(
        "--rerank",
        type=int,
        default=100,
        metavar="N",
        help="how many MaxSim ranks, 0 for none (default: 100)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines, not a table")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="a checkpoint folder (default: where the index had it)",
    )
    add_cache_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print what was found."""
    question = Question(
        text=options.text, image=options.image, top=options.top, candidates=options.rerank
    )
    question.check()
    store = Place(options).open()
    model = chosen_model(options, store.settings)
    hits = search(question, store, model=model, cache=options.cache)
    logger.info("%s", json_lines(hits) if options.json else table(hits))
    return 0
