"""Tools beside training: `python -m jina tiny-checkpoint --output DIR --seed 0`."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from jina.data.convert import READERS, Conversion, ConvertError, convert
from jina.data.validation import DataError
from jina.models.checkpoint import CheckpointError
from jina.models.tiny_checkpoint import build_tiny_checkpoint
from jina.training.data_report import check_data
from jina.training.training_config import ConfigError, load_config

logger = logging.getLogger("smartembed")

BAD_INPUT = 2
DEMO_ROWS = Path(__file__).parent.parent / "data/demo/train.jsonl"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 bad input."""
    options = parse_options(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logger.setLevel(logging.INFO)  # ours; libraries only warn
    try:
        return options.command(options)
    except (CheckpointError, ConfigError, ConvertError, DataError) as error:
        logger.error("%s", error)
        return BAD_INPUT


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; the chosen command is a function in `command`."""
    parser = argparse.ArgumentParser(prog="python -m jina", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    tiny = commands.add_parser("tiny-checkpoint", help="write a tiny checkpoint of random weights")
    tiny.add_argument("--output", type=Path, required=True, metavar="DIR")
    tiny.add_argument("--seed", type=int, default=0)
    tiny.set_defaults(command=tiny_checkpoint)
    _add_validate(commands)
    _add_convert(commands)
    return parser.parse_args(argv)


def _add_validate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the options of `validate`, which data/README.md explains."""
    parser = commands.add_parser("validate", help="check data and say what it holds")
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE")
    parser.add_argument("--config", type=Path, metavar="FILE", help="whose rules and limits count")
    parser.add_argument("--image-base-dir", type=Path, metavar="DIR", help="where paths start")
    parser.add_argument("--deep", action="store_true", help="decode every image")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures and problems")
    parser.set_defaults(command=validate)


def _add_convert(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the options of `convert`, which data/README.md explains."""
    parser = commands.add_parser("convert", help="turn foreign data into checked JSONL")
    parser.add_argument("--from", dest="format", choices=READERS, required=True)
    parser.add_argument("source", type=Path, metavar="SRC")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--map", action="append", default=[], metavar="FIELD=COLUMN")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--images", type=Path, metavar="DIR", help="where paths in SRC start")
    parser.add_argument("--image-base-dir", type=Path, metavar="DIR", help="where paths start")
    parser.add_argument("--split", metavar="train=0.9,eval=0.1", help="by content, not by row")
    parser.add_argument("--seed", type=int, default=0, help="draws the split")
    parser.add_argument("--overwrite", action="store_true", help="replace existing output")
    parser.set_defaults(command=convert_data)


def tiny_checkpoint(options: argparse.Namespace) -> int:
    """Write a tiny checkpoint whose tokenizer was trained on the demo's captions."""
    rows = DEMO_ROWS.read_text(encoding="utf-8").splitlines()
    captions = [json.loads(row)["positive"] for row in rows]
    build_tiny_checkpoint(options.output, captions, seed=options.seed)
    logger.info("Wrote %s: the official layout, random weights.", options.output)
    return 0


def validate(options: argparse.Namespace) -> int:
    """Check data files and report what they hold."""
    report = check_data(
        options.files,
        config=load_config(options.config) if options.config else None,
        image_base_dir=options.image_base_dir,
        deep=options.deep,
    )
    logger.info("%s", report.text)
    if options.json is not None:
        report.write_json(options.json)
    return 0 if report.is_clean else BAD_INPUT


def convert_data(options: argparse.Namespace) -> int:
    """Turn foreign data into JSONL files."""
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
            seed=options.seed,
            overwrite=options.overwrite,
        )
    )
    for line in summary.lines():
        logger.info("%s", line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
