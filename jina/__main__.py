"""Tools beside training: `python -m jina tiny-checkpoint --output DIR --seed 0`."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from jina.models.checkpoint import CheckpointError
from jina.models.tiny_checkpoint import build_tiny_checkpoint

logger = logging.getLogger("smartembed")

BAD_INPUT = 2
DEMO_ROWS = Path(__file__).parent.parent / "data/demo/train.jsonl"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 bad input."""
    options = parse_options(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logger.setLevel(logging.INFO)  # ours; libraries only warn
    try:
        options.command(options)
    except CheckpointError as error:
        logger.error("%s", error)
        return BAD_INPUT
    return 0


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; the chosen command is a function in `command`."""
    parser = argparse.ArgumentParser(prog="python -m jina", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    tiny = commands.add_parser("tiny-checkpoint", help="write a tiny checkpoint of random weights")
    tiny.add_argument("--output", type=Path, required=True, metavar="DIR")
    tiny.add_argument("--seed", type=int, default=0)
    tiny.set_defaults(command=tiny_checkpoint)
    return parser.parse_args(argv)


def tiny_checkpoint(options: argparse.Namespace) -> None:
    """Write a tiny checkpoint whose tokenizer was trained on the demo's captions."""
    rows = DEMO_ROWS.read_text(encoding="utf-8").splitlines()
    captions = [json.loads(row)["positive"] for row in rows]
    build_tiny_checkpoint(options.output, captions, seed=options.seed)
    logger.info("Wrote %s: the official layout, random weights.", options.output)


if __name__ == "__main__":
    sys.exit(main())
