"""Tools beside training. `python -m jina COMMAND --help` explains one."""

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NamedTuple, NoReturn

from jina.commands.console import speak
from jina.commands.option_parser import OptionParser

logger = logging.getLogger("smartembed")

BAD_INPUT, INTERRUPTED = 2, 130


class Command(NamedTuple):
    """A command, what the overview says of it, and its module in `jina.commands`."""

    name: str
    help: str
    module: str


COMMANDS = (
    Command("validate", "check data and say what it holds", "validate"),
    Command("convert", "turn foreign data into checked JSONL", "convert"),
    Command("evaluate", "measure how well a checkpoint retrieves", "evaluate"),
    Command("embed", "turn texts and images into Parquet files of vectors", "embed"),
    Command("index", "make, fill and trim an index of texts and images", "index"),
    Command("search", "find by text or image in an index", "search"),
    Command("mine", "add hard negatives to training rows", "mine"),
    Command("report", "write the HTML page of a finished run", "report"),
    Command("doctor", "say what is installed, used and needed", "doctor"),
    Command("export", "write a model for other libraries, and check it", "export"),
    Command("tiny-checkpoint", "write a tiny checkpoint of random weights", "tiny_checkpoint"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 bad input, 130 Ctrl-C."""
    command, options = parse_options(sys.argv[1:] if argv is None else argv)
    speak()
    logger.setLevel(logging.INFO)  # ours; libraries only warn
    try:
        return command.run(options)
    except command.BAD_INPUT as error:
        logger.error("%s", error)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED


def parse_options(words: Sequence[str]) -> tuple[ModuleType, argparse.Namespace]:
    """Return the module of the chosen command, the only one that is imported, and its options."""
    modules = {command.name: command.module for command in COMMANDS}
    if not words or words[0] not in modules:
        show_overview(words)
    name, *rest = words
    module = import_module(f"jina.commands.{modules[name]}")
    parser = OptionParser(prog=f"python -m jina {name}", description=module.__doc__)
    module.add_options(parser)
    parser.refuse_unknown_options(rest)
    return module, parser.parse_args(rest)


def show_overview(words: Sequence[str]) -> NoReturn:
    """End with the list of commands, asked for or because none of them was named."""
    parser = OptionParser(prog="python -m jina", description=__doc__)
    listed = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    for command in COMMANDS:
        listed.add_parser(command.name, help=command.help)
    parser.refuse_unknown_options(words[:1])
    if words and not words[0].startswith("-"):
        parser.refuse_unknown_command(words[0], [command.name for command in COMMANDS])
    parser.parse_args(words)
    raise AssertionError("without a command, argparse ends with help or an error")


if __name__ == "__main__":
    sys.exit(main())
