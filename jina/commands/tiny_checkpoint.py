"""Write a tiny checkpoint: the official layout, random weights, for tests and demos.

Its tokenizer is trained on the captions of the demo. With --true-size it has the official model's
dimensions and type: 3.9 billion parameters in bfloat16, 7.9 GB, to try a machine with.
"""

import argparse
import json
import logging
from pathlib import Path

from jina.models.checkpoint import CheckpointError
from jina.models.tiny_checkpoint import TINY, TRUE_SIZE, build_tiny_checkpoint

BAD_INPUT = (CheckpointError,)
DEMO_ROWS = Path(__file__).parents[2] / "data/demo/train.jsonl"

logger = logging.getLogger("smartembed")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tiny-checkpoint`."""
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="draws the weights (default: 0)"
    )
    parser.add_argument("--true-size", action="store_true", help="as large as the official model")


def run(options: argparse.Namespace) -> int:
    """Write the checkpoint."""
    rows = DEMO_ROWS.read_text(encoding="utf-8").splitlines()
    captions = [json.loads(row)["positive"] for row in rows]
    shape = TRUE_SIZE if options.true_size else TINY
    build_tiny_checkpoint(options.output, captions, seed=options.seed, shape=shape)
    logger.info("Wrote %s: the official layout, random weights.", options.output)
    return 0
