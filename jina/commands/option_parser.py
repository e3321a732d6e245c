"""The command line's parser: what it doesn't know it refuses, and names the nearest it knows."""

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import NoReturn


class OptionParser(argparse.ArgumentParser):
    """argparse's parser, without abbreviations, whose errors say what may have been meant."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **settings)

    def refuse_unknown_options(self, words: Sequence[str]) -> None:
        """End with exit code 2 if a word is an option this parser doesn't have.

        Asked before parsing: argparse would first complain that the option meant is missing.
        """
        known = list(self._option_string_actions)  # argparse has no public name for it
        before_plain_words = words[: words.index("--")] if "--" in words else words
        options = [word.partition("=")[0] for word in before_plain_words if _is_option(word)]
        unknown = [option for option in options if option not in known]
        if unknown:
            self.error("\n".join(f"{option}: {_unknown(option, known)}" for option in unknown))

    def refuse_unknown_command(self, word: str, names: Iterable[str]) -> NoReturn:
        """End with exit code 2, naming the command that was probably meant."""
        self.error(f"COMMAND: {_unknown(word, list(names))}")


def positive(word: str) -> int:
    """Read a whole number above 0; a type of options."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"is not a whole number above 0; got {word!r}")
    return int(word)


def listed(words: str) -> tuple[str, ...]:
    """Read words between commas; a type of options."""
    return tuple(word.strip() for word in words.split(","))


def positives(words: str) -> tuple[int, ...]:
    """Read whole numbers above 0 between commas; a type of options."""
    return tuple(map(positive, listed(words)))


class _Formatter(argparse.HelpFormatter):
    """argparse's, with room for our longest names beside their explanation."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


def _is_option(word: str) -> bool:
    """Tell an option from a plain word; a number may have a minus."""
    return len(word) > 1 and word[0] == "-" and not word[1].isdigit()


def _unknown(word: str, known: Sequence[str]) -> str:
    """Say that a word is unknown, and what it was probably meant to be."""
    nearest = difflib.get_close_matches(word[:64], known, n=1, cutoff=0.5)
    remedy = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
    return f"is unknown; got {word}; {remedy}"
