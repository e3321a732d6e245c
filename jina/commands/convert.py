"""Turn foreign data into checked JSONL files, split by content if asked.

data/README.md has the formats and examples.
"""

import argparse
import logging
from pathlib import Path

from jina.data.convert import READERS, Conversion, ConvertError, convert
from jina.data.validation import DataError

BAD_INPUT = (ConvertError, DataError)

logger = logging.getLogger("smartembed")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `convert`."""
    parser.add_argument(
        "--from",
        dest="format",
        choices=READERS,
        required=True,
        metavar="FORMAT",
        help=f"what SRC is: {', '.join(READERS)}",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="a file or folder")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.jsonl", help="the rows")
    parser.add_argument(
        "--map", action="append", default=[], metavar="FIELD=COLUMN", help="where a field is"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="the same for all"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="where image paths in SRC start")
    parser.add_argument(
        "--image-base-dir",
        type=Path,
        metavar="DIR",
        help="where relative image paths of the rows start",
    )
    parser.add_argument("--split", metavar="train=0.9,eval=0.1", help="by content, not by row")
    parser.add_argument(
        "--split-together",
        metavar="FIELD",
        help="rows with the same value in it stay in one split: source, or metadata.KEY",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="draws the split (default: 0)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing output")


def run(options: argparse.Namespace) -> int:
    """Write the JSONL files."""
    summary = convert(
        Conversion(
            format=options.format,
            source=options.source,
            output=options.output,
            maps=options.map,
            constants=options.set,
            image_base_dir=options.image_base_dir,
            images=options.images,
            split=options.split,
            split_together=options.split_together,
            seed=options.seed,
            overwrite=options.overwrite,
        )
    )
    for line in summary.lines():
        logger.info("%s", line)
    return 0
