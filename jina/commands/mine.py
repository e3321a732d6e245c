"""Add hard negatives to training rows: what a model ranks high, and that is not a right answer.

Without --corpus the positives and negatives of all rows are what is mined in. The positives of a
row are never among its negatives, nor are copies of them under other names. Where a negative came
from is written into the row's metadata.
"""

import argparse
import logging
from pathlib import Path

from jina.commands.embedding_options import BAD_INPUT, add_model_options, text_tokens
from jina.commands.option_parser import positive
from jina.retrieval.mine import MineJob, mine
from jina.retrieval.negative_selection import SAMPLINGS, SelectionRules

__all__ = ["BAD_INPUT", "add_options", "run"]

logger = logging.getLogger("smartembed")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mine`."""
    rules = SelectionRules()
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="training rows")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE.jsonl", help="the rows with negatives"
    )
    parser.add_argument(
        "--corpus", type=Path, nargs="+", default=[], metavar="SRC", help="what to mine in"
    )
    parser.add_argument(
        "--negatives",
        type=positive,
        default=rules.count,
        metavar="N",
        help=f"how many for a row (default: {rules.count})",
    )
    parser.add_argument(
        "--ranks",
        type=positive,
        nargs=2,
        default=(rules.first_rank, rules.last_rank),
        metavar=("FIRST", "LAST"),
        help=f"ranks to take them from (default: {rules.first_rank} {rules.last_rank})",
    )
    _add_limits(parser, rules)
    parser.add_argument(
        "--sampling",
        choices=SAMPLINGS,
        default=rules.sampling,
        help="the hardest, or a draw (default: top)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw (default: 0)")
    parser.add_argument(
        "--search",
        choices=("exact", "hnsw"),
        default="exact",
        help="hnsw is quicker in millions (default: exact)",
    )
    parser.add_argument(
        "--image-base-dir", type=Path, metavar="DIR", help="where relative image paths start"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output")
    add_model_options(parser, is_required=True)


def _add_limits(parser: argparse.ArgumentParser, rules: SelectionRules) -> None:
    """Add the options that keep likely right answers out."""
    parser.add_argument(
        "--relative-margin",
        type=_number_or_none,
        default=rules.relative_margin,
        metavar="SHARE",
        help="negatives score below this share of the positive, or none for no such limit "
        f"(default: {rules.relative_margin})",
    )
    parser.add_argument(
        "--absolute-margin",
        type=_number_or_none,
        default=rules.absolute_margin,
        metavar="AMOUNT",
        help="and below it by this amount (default: none)",
    )
    parser.add_argument(
        "--near-duplicate",
        type=float,
        default=rules.near_duplicate,
        metavar="COSINE",
        help="to a positive, from which a document counts as one "
        f"(default: {rules.near_duplicate})",
    )


def _number_or_none(text: str) -> float | None:
    """Read a limit that can be switched off."""
    return None if text == "none" else float(text)


def run(options: argparse.Namespace) -> int:
    """Write the rows."""
    first, last = options.ranks
    rules = SelectionRules(
        count=options.negatives,
        first_rank=first,
        last_rank=last,
        relative_margin=options.relative_margin,
        absolute_margin=options.absolute_margin,
        near_duplicate=options.near_duplicate,
        sampling=options.sampling,
        seed=options.seed,
    )
    summary = mine(
        MineJob(
            files=options.files,
            output=options.output,
            model=options.model,
            rules=rules,
            corpus=options.corpus,
            task=options.task,
            image_base_dir=options.image_base_dir,
            dim=options.dim,
            max_text_tokens=text_tokens(options),
            max_pixels=options.max_pixels,
            is_exact=options.search == "exact",
            cache=options.cache,
            overwrite=options.overwrite,
        )
    )
    for line in summary.lines():
        logger.info("%s", line)
    logger.info("Wrote %s.", options.output)
    return 0
