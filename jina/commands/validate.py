"""Check data files, every line and every image, and say what they hold.

Nothing is changed. The exit code is 0 without and 2 with problems; data/README.md explains the
report.
"""

import argparse
import logging
from pathlib import Path

from jina.data.validation import DataError
from jina.training.data_report import check_data, require_writable
from jina.training.training_config import ConfigError, load_config

BAD_INPUT = (ConfigError, DataError)

logger = logging.getLogger("smartembed")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `validate`."""
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="JSONL files")
    parser.add_argument("--config", type=Path, metavar="FILE", help="whose rules and limits count")
    parser.add_argument(
        "--image-base-dir", type=Path, metavar="DIR", help="where relative image paths start"
    )
    parser.add_argument("--deep", action="store_true", help="decode every image")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures and problems")


def run(options: argparse.Namespace) -> int:
    """Check the files and report what they hold."""
    if options.json is not None:
        require_writable(options.json)
    report = check_data(
        options.files,
        config=load_config(options.config) if options.config else None,
        image_base_dir=options.image_base_dir,
        deep=options.deep,
    )
    logger.info("%s", report.text)
    if options.json is not None:
        report.write_json(options.json)
    return 0 if report.is_clean else 2
