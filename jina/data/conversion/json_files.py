"""JSON lines with keys of any name, and COCO's captions files."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from jina.data.conversion.sources import ConvertError, Source, SourceRow, bad_row, describe
from jina.data.records import MAX_LINE_BYTES, RecordError, parse_line, read_lines


def read_jsonl(path: Path) -> Source:
    """Read JSON lines whose keys need not be our fields."""

    def read(_: Collection[str]) -> Iterator[SourceRow | RecordError]:
        """Yield the objects of all lines."""
        return (_json_row(path, number, raw) for _, number, raw in read_lines(path))

    columns: dict[str, None] = {}
    problems: list[str] = []
    for row in read(()):
        if isinstance(row, SourceRow):
            columns |= dict.fromkeys(row.values)
        else:
            problems += row.problems
    if problems and not columns:
        raise ConvertError(*problems)
    return Source(tuple(columns), read, path.parent)


def _json_row(path: Path, number: int, raw: bytes) -> SourceRow | RecordError:
    """Load one line; leave it to `parse_line` to say what is wrong with a bad one."""
    try:
        if len(raw) <= MAX_LINE_BYTES:
            values = json.loads(raw.decode("utf-8"), object_pairs_hook=_object)
            if isinstance(values, dict):
                return SourceRow(str(path), number, values)
    except (ValueError, RecursionError):
        pass
    try:
        parse_line(raw, file=path, line=number)
    except RecordError as error:
        return error
    raise AssertionError(f"{path}:{number}: two JSON readers disagree")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build an object whose keys stand there once."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return row


def read_coco(path: Path) -> Source:
    """Read a captions file: a row for each image, with its captions in the order of the file."""
    images, annotations = _coco_lists(path)
    keys = dict.fromkeys(key for image in images if isinstance(image, dict) for key in image)

    def read(_: Collection[str]) -> Iterator[SourceRow | RecordError]:
        """Yield the images with their captions."""
        return _coco_rows(path, images, annotations)

    defaults = {"query_image": "file_name", "positive": "captions"}
    return Source((*keys, "captions"), read, path.parent, defaults)


def _coco_lists(path: Path) -> tuple[list[object], list[object]]:
    """Return the images and the annotations of a captions file."""
    where, remedy = f"{path}:1: file", 'give a captions file, with "images" and "annotations"'
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConvertError(describe(where, "is not JSON", str(error), remedy)) from error
    parts = document if isinstance(document, dict) else {}
    images, annotations = parts.get("images"), parts.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise ConvertError(describe(where, "is not in COCO's form", sorted(parts), remedy))
    # Such as the files of boxes, which would give one problem for each of a million boxes.
    if not any(isinstance(note, dict) and "caption" in note for note in annotations):
        raise ConvertError(describe(where, "holds no captions", annotations[:1], remedy))
    return images, annotations


def _coco_rows(
    path: Path, images: list[object], annotations: list[object]
) -> Iterator[SourceRow | RecordError]:
    """Bring annotations to their images; lines are the places in the two lists, from 1."""
    captions: dict[object, list[object]] = {}
    rows: list[tuple[int, dict[str, object]]] = []
    for number, image in enumerate(images, start=1):
        key = _coco_id(image, "id")
        if key is None or key in captions:
            where, remedy = f"{path}:images:{number}: id", "give each image an id of its own"
            yield bad_row(where, "does not tell the image from others", image, remedy)
        else:
            captions[key] = []
            rows.append((number, image))
    for number, note in enumerate(annotations, start=1):
        key = _coco_id(note, "image_id")
        if key not in captions:
            where = f"{path}:annotations:{number}: image_id"
            yield bad_row(where, "is the id of no image", note, "add the image or delete this")
        else:
            captions[key].append(note.get("caption"))
    for number, image in rows:
        if found := captions[image["id"]]:
            yield SourceRow(f"{path}:images", number, {**image, "captions": found})
        else:
            where, remedy = f"{path}:images:{number}: captions", "add some or delete the image"
            yield bad_row(where, "are missing", image, remedy)


def _coco_id(entry: object, name: str) -> int | str | None:
    """Return an id that can be looked up."""
    key = entry.get(name) if isinstance(entry, dict) else None
    return key if type(key) in (int, str) else None
