"""What every reader of a foreign format gives: named columns, row by row.

    csv, tsv ───── lines ──────────────── tables.py ────────┐
    jsonl ──────── lines ──────────────── json_files.py ────┤
    coco ───────── images, annotations ── json_files.py ────┼─► Source of SourceRow | RecordError
    folder ─────── images, sidecars ───── image_folder.py ──┤
    parquet, hf-dataset ─ batches ─────── arrow_files.py ───┘

A row that cannot be read comes as the error that says why, in its place, so that one look at the
source tells everything that is wrong with it. What makes the whole source useless is raised.
"""

import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jina.data.records import RecordError

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


class ConvertError(ValueError):
    """A conversion that wrote nothing; `problems` holds one message for each thing wrong."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = list(problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


@dataclass(frozen=True)
class SourceRow:
    """One row of a source: the value of each column, and where it stands."""

    file: str
    line: int
    values: Mapping[str, object]


@dataclass(frozen=True)
class Source:
    """What can be read from a source.

    Attributes:
        columns: The names that rows may have values for.
        read: Yields the rows; told which columns are wanted, it may leave out the others.
        image_start: The folder that relative image paths start from.
        defaults: Our fields and the columns they come from, where the format itself says so.
        notes: What the user should know, though nothing is wrong.
    """

    columns: tuple[str, ...]
    read: Callable[[Collection[str]], Iterator[SourceRow | RecordError]]
    image_start: Path
    defaults: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def describe(where: str, what: str, got: object, remedy: str) -> str:
    """Return a problem in the house's form; `where` ends with the name of a field."""
    return f"{where}: {what}; got {_short.repr(got)}; {remedy}"


def bad_row(where: str, what: str, got: object, remedy: str) -> RecordError:
    """Return the error that stands for a row which cannot be read."""
    return RecordError(describe(where, what, got, remedy))
