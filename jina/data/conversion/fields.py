"""Which column goes into which of our fields: `--map field=column` and `--set field=value`.

    columns of a row ─ FieldMap.rows ─► the fields of our rows, not yet checked

A column named like a field goes there by itself. Several columns for one field make a list, without
its empty places. A list of queries makes a row for each query, since a row has one.
"""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jina.data.conversion.sources import ConvertError, Source, describe
from jina.data.records import FIELDS, SIDES

METADATA = "metadata."
_PAIRS = [(side, f"{side}_image") for side in SIDES]
_SIDE_FIELDS = {name for pair in _PAIRS for name in pair}


@dataclass(frozen=True)
class FieldMap:
    """The columns of each field, and the fields that are the same in every row."""

    columns: Mapping[str, Sequence[str]]
    constants: Mapping[str, str]

    @classmethod
    def parse(cls, maps: Sequence[str], constants: Sequence[str]) -> "FieldMap":
        """Read what was given as `--map` and `--set`."""
        problems: list[str] = []
        columns: dict[str, list[str]] = {}
        for name, column in _assignments("--map", maps, problems):
            columns.setdefault(name, []).append(column)
        values: dict[str, str] = {}
        for name, value in _assignments("--set", constants, problems):
            if name in columns or name in values:
                what, remedy = "gives a value to a field that has one", "give it once"
                problems.append(describe(f"--set {name}", what, value, remedy))
            values[name] = value
        if problems:
            raise ConvertError(*problems)
        return cls(columns, values)

    def for_source(self, source: Source) -> "FieldMap":
        """Return the map with the fields that were left to the source, for its columns only."""
        columns = {name: [name] for name in source.columns if _is_field(name)}
        if not _SIDE_FIELDS & {*self.columns, *self.constants}:
            columns |= {name: [column] for name, column in source.defaults.items()}
        columns = {**columns, **self.columns}
        columns = {name: found for name, found in columns.items() if name not in self.constants}
        problems = [
            describe(f"--map {name}", "is not a column", column, _nearest(column, source.columns))
            for name, found in columns.items()
            for column in found
            if column not in source.columns
        ]
        for side in ("query", "positive"):
            if not {side, f"{side}_image"} & {*columns, *self.constants}:
                what, remedy = "comes from no column", f"add --map {side}=… or {side}_image=…"
                problems.append(describe(f"--map {side}", what, list(source.columns), remedy))
        if problems:
            raise ConvertError(*problems)
        return FieldMap(columns, self.constants)

    def used(self) -> set[str]:
        """Return the names of all columns that go anywhere."""
        return {column for columns in self.columns.values() for column in columns}

    def rows(self, values: Mapping[str, object]) -> Iterator[dict[str, object]]:
        """Yield the fields that one row of the source makes."""
        several = {
            name: _flat(values.get(column) for column in columns)
            for name, columns in self.columns.items()
            if len(columns) > 1
        }
        _drop_empty_places(several)
        fields = {name: values.get(columns[0]) for name, columns in self.columns.items()}
        fields |= {name: items or None for name, items in several.items()}
        fields |= self.constants
        if isinstance(score := fields.get("score"), str):
            fields["score"] = _number(score)
        return _one_query_each(_with_metadata(fields))


def _assignments(
    option: str, given: Sequence[str], problems: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield what stands left and right of the equals signs; note what is wrong."""
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not value:
            problems.append(describe(option, "is not field=…", text, "write such as query=title"))
        elif not _is_field(name):
            problems.append(describe(option, "is not a known field", name, _nearest(name, FIELDS)))
        else:
            yield name, value


def _is_field(name: str) -> bool:
    """Tell whether a name is one of our fields or a part of `metadata`."""
    return name in FIELDS or (name.startswith(METADATA) and len(name) > len(METADATA))


def _nearest(name: str, known: Collection[str]) -> str:
    """Say which known name was probably meant."""
    matches = difflib.get_close_matches(name[:64], known, n=1)
    return f'did you mean "{matches[0]}"?' if matches else f"known: {', '.join(known)}"


def _flat(values: Iterable[object]) -> list[object]:
    """Lay the values of several columns end to end, those of a list one by one."""
    lists = (value if isinstance(value, list) else [value] for value in values)
    return [value for values in lists for value in values]


def _drop_empty_places(several: dict[str, list[object]]) -> None:
    """Shorten lists from several columns; where texts and images are paired, keep the pairs."""
    for pair in _PAIRS:
        lists = [several[name] for name in pair if name in several]
        if len({len(items) for items in lists}) == 1:
            places = zip(*lists, strict=True)
            kept = [place for place in places if any(item is not None for item in place)]
            for position, items in enumerate(lists):
                items[:] = [place[position] for place in kept]


def _number(text: str) -> float | str:
    """Read a score from a text table; what is no number stays and is refused as such."""
    try:
        return float(text)
    except ValueError:
        return text


def _with_metadata(fields: dict[str, object]) -> dict[str, object]:
    """Drop what is empty, put our fields in order, and gather `metadata.…` in `metadata`."""
    given = {name: value for name, value in fields.items() if value is not None}
    row = {name: given[name] for name in FIELDS if name in given}
    parts = {
        name.removeprefix(METADATA): value
        for name, value in given.items()
        if name.startswith(METADATA)
    }
    if parts and isinstance(metadata := row.get("metadata", {}), dict):
        row["metadata"] = {**metadata, **parts}
    return row


def _one_query_each(row: dict[str, object]) -> Iterator[dict[str, object]]:
    """Yield a row for each query of a list, paired with the images if these are a list, too."""
    lists = {name: row[name] for name in _PAIRS[0] if isinstance(row.get(name), list)}
    lengths = {len(values) for values in lists.values()}
    if len(lengths) != 1 or lengths == {0}:
        yield row
        return
    for values in zip(*lists.values(), strict=True):
        yield {**row, **dict(zip(lists, values, strict=True))}
