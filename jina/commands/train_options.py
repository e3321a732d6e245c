"""The options of `python train.py`."""

import argparse
import sys
from collections.abc import Sequence

from jina.commands.option_parser import OptionParser
from jina.training.output_folder import AUTO, MUST, NEVER


def parse_options(argv: Sequence[str] | None, description: str) -> argparse.Namespace:
    """Parse the command line."""
    parser = OptionParser(prog="train.py", description=description)
    parser.add_argument(
        "--config",
        default="project_config.yaml",
        metavar="FILE",
        help="the settings (default: project_config.yaml)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="a setting in place of the file's; may be given several times",
    )
    parser.add_argument("--dry-run", action="store_true", help="take one step, save nothing")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=MUST,
        default=AUTO,
        choices=(AUTO, MUST, NEVER),
        help="go on from the newest checkpoint: where there is one (auto, the default), "
        "or stop (must, also --resume alone), or start over (never)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a finished model in the output folder"
    )
    parser.add_argument(
        "--allow-change",
        action="append",
        default=[],
        metavar="NAME",
        help="go on although this differs from the checkpoint's run, such as data.train or code",
    )
    words = sys.argv[1:] if argv is None else argv
    parser.refuse_unknown_options(words)
    return parser.parse_args(words)
