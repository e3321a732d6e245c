"""From a row of a source to a line of ours that was checked as training checks it."""

import json
from collections.abc import Iterator
from datetime import date, time

from jina.data.conversion.fields import FieldMap
from jina.data.conversion.images import OutputImages
from jina.data.conversion.sources import SourceRow, describe
from jina.data.records import SIDES, RecordError, Sample, parse_line
from jina.data.splitting import text_identity, value_identity

_IMAGE_FIELDS = tuple(f"{side}_image" for side in SIDES)


def draft_rows(
    row: SourceRow | RecordError, *, fields: FieldMap, images: OutputImages
) -> Iterator[SourceRow | RecordError]:
    """Yield the rows of ours that a row of the source makes, images under their final names."""
    if isinstance(row, RecordError):
        yield row
        return
    for values in fields.rows(row.values):
        placed = {name: images.place(values[name]) for name in _IMAGE_FIELDS if name in values}
        yield SourceRow(row.file, row.line, {**values, **placed})


def named_images(draft: SourceRow | RecordError) -> Iterator[tuple[str, str]]:
    """Yield the images of a row, each with the place where it stands."""
    for name in _IMAGE_FIELDS if isinstance(draft, SourceRow) else ():
        value = draft.values.get(name)
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, list):
            places = ((f"{name}[{index}]", item) for index, item in enumerate(value))
            yield from ((place, item) for place, item in places if isinstance(item, str))


def finish_row(draft: SourceRow | RecordError, images: OutputImages) -> tuple[bytes, Sample]:
    """Return the line of a row and what it says; raise `RecordError` with all that is wrong."""
    if isinstance(draft, RecordError):
        raise draft
    problems = [
        f"{draft.file}:{draft.line}: {place}: {problem}"
        for place, name in named_images(draft)
        if (problem := images.problem(name))
    ]
    try:
        line = _encode(draft)
        sample = parse_line(line, file=draft.file, line=draft.line)
    except RecordError as error:
        problems += error.problems
    if problems:
        raise RecordError(*problems)
    return line, sample


def row_identities(
    sample: Sample, images: OutputImages, *, together: str | None = None
) -> Iterator[bytes]:
    """Yield the identities that keep rows in one split: of what is asked and what is found.

    Hard negatives bind nothing: mined from one collection, they would tie all its rows together.
    A text beside an image is bound by the image. What stands in `together`, which is `source` or
    `metadata.key`, binds too; raise `RecordError` if nothing stands there.
    """
    if together is not None:
        key = together.removeprefix("metadata.")
        value = sample.source if key == together else (sample.metadata or {}).get(key)
        if value is None:
            where, remedy = f"{sample.where}: {together}", "--split-together needs it in every row"
            raise RecordError(describe(where, "is missing", value, remedy))
        yield value_identity(value)
    for item in (sample.query, *sample.positives):
        if item.image is not None:
            yield images.identity(item.image)
        elif item.text is not None:
            yield text_identity(item.text)


def _encode(draft: SourceRow) -> bytes:
    """Return a row as a line of JSON."""
    problems = []
    for name, value in draft.values.items():
        try:
            json.dumps(value, default=_plain)
        except (TypeError, ValueError, RecursionError):
            where, remedy = f"{draft.file}:{draft.line}: {name}", "map another column"
            problems.append(describe(where, "is nothing that JSON can hold", value, remedy))
    if problems:
        raise RecordError(*problems)
    text = json.dumps(draft.values, ensure_ascii=False, default=_plain)
    try:
        return text.encode("utf-8") + b"\n"
    except UnicodeEncodeError:
        # Half a surrogate pair: from its escape, `parse_line` tells in which field.
        return json.dumps(draft.values, default=_plain).encode("ascii") + b"\n"


def _plain(value: object) -> str:
    """Return dates and times as JSON can hold them."""
    if isinstance(value, (date, time)):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no value of JSON")
