"""Say what is installed, what a run will use, and about how fast and large it will be.

The estimates are for the configured model and data; without a configuration only the machine is
described.
"""

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path

from jina.data.validation import DataError
from jina.training.machine_report import describe_machine, describe_run
from jina.training.training_config import ConfigError, load_config

BAD_INPUT = (ConfigError, DataError)

logger = logging.getLogger("smartembed")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `doctor`."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="of the run to estimate")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that is said")


def run(options: argparse.Namespace) -> int:
    """Describe the machine, and the run if there is one."""
    said = {"machine": _show("Machine", describe_machine())}
    if options.config is not None:
        said["run"] = _show("Run", describe_run(load_config(options.config)))
    if options.json is not None:
        text = json.dumps(said, ensure_ascii=False, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


def _show(title: str, rows: Iterator[tuple[str, str]]) -> dict[str, str]:
    """Say something in aligned lines, and return it by name."""
    said = dict(rows)
    lines = [f"  {name:<28} {value}" for name, value in said.items()]
    logger.info("%s", "\n".join([title, *lines]))
    return said
