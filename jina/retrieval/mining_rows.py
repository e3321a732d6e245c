"""Training rows on their way through mining: read with their contents, written with negatives.

    FILE.jsonl ─ parse_line ─► Sample ─ pixels ─► MiningRow ─ negatives ─► line of the output

Image paths of the output start from one folder and stay inside it, wherever those of the input
started from.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jina.data.checking.row_check import named_items
from jina.data.conversion.sources import describe
from jina.data.records import (
    DEFAULT_TASK,
    RecordError,
    Sample,
    parse_line,
    read_lines,
    read_samples,
)
from jina.data.validation import image_root, readable
from jina.retrieval.content import Content, Pixels, identify_images, item_content
from jina.retrieval.errors import RetrievalError

MINED = "mined"


@dataclass(frozen=True)
class MiningRow:
    """A row with what its items hold."""

    sample: Sample
    query: Content
    positives: tuple[Content, ...]
    negatives: tuple[Content, ...]


def read_mining_rows(files: Sequence[Path], image_base_dir: Path | None) -> list[MiningRow]:
    """Read all rows of some files, every image decoded once.

    Raises:
        RetrievalError: With everything that is wrong.
    """
    problems: list[str] = []
    samples: list[Sample] = []
    for file in readable(files):
        for found in read_samples(file):
            if isinstance(found, RecordError):
                problems += found.problems
                continue
            samples.append(found)
            runs = (found.metadata or {}).get(MINED, [])
            if not isinstance(runs, list):
                what, remedy = "is taken by something else", "rename it: mining writes a list there"
                problems.append(describe(f"{found.where}: metadata.{MINED}", what, runs, remedy))
    if not samples and not problems:
        problems.append(f"{', '.join(map(str, files))}: no rows; got none; give files with rows")
    if problems:
        raise RetrievalError(*problems)
    roots = {str(file): image_root(file, image_base_dir) for file in files}
    images = [
        (roots[sample.file], item.image, f"{sample.where}: {name}")
        for sample in samples
        for name, item in named_items(sample)
        if item.image is not None
    ]
    pixels = identify_images(images)
    return [_with_contents(sample, roots[sample.file], pixels) for sample in samples]


def original_values(rows: Sequence[MiningRow]) -> Iterator[dict[str, Any]]:
    """Yield the fields of all rows as their lines have them, reading the files again.

    Raises:
        RetrievalError: If a line has changed meanwhile, or come or gone.
    """
    left = iter(rows)
    what, remedy = "has changed while mining", "leave the file alone, start again"
    for file in dict.fromkeys(row.sample.file for row in rows):
        for _, number, raw in read_lines(Path(file)):
            row = next(left, None)
            if row is None or not _is_line_of(raw, row.sample):
                raise RetrievalError(describe(f"{file}:{number}: line", what, raw, remedy))
            yield {name: value for name, value in json.loads(raw).items() if value is not None}
    if (row := next(left, None)) is not None:
        raise RetrievalError(describe(f"{row.sample.where}: line", what, "nothing there", remedy))


def task_of(rows: Sequence[MiningRow]) -> str:
    """Return the task that all rows share; raise `RetrievalError` if there are several."""
    tasks = sorted({row.sample.task or DEFAULT_TASK for row in rows})
    if len(tasks) > 1:
        advice = "name the adapter to mine with: --task"
        raise RetrievalError(f"task: the rows are of several; got {', '.join(tasks)}; {advice}")
    return tasks[0]


class OutputRows:
    """Writes rows whose image paths start from one folder.

    Args:
        root: That folder.
        rows: The rows to be written.
        documents: What may become their negatives.

    Raises:
        RetrievalError: With the images that lie outside.
    """

    def __init__(self, root: Path, rows: Sequence[MiningRow], documents: Sequence[Content]) -> None:
        self._root = root.absolute()
        images = {
            content.image
            for row in rows
            for content in (row.query, *row.positives, *row.negatives)
            if content.image is not None
        }
        images |= {content.image for content in documents if content.image is not None}
        self._names = {image: self._name(image) for image in sorted(images)}
        outside = [image for image, name in self._names.items() if name is None]
        if outside:
            raise RetrievalError(
                f"--output: {len(outside):,} images lie outside {root}; got {outside[0]}; "
                "set --image-base-dir to a folder that holds them all, and data.image_base_dir "
                "when training"
            )

    def line(
        self,
        values: dict[str, Any],
        row: MiningRow,
        negatives: Sequence[Content],
        mined: dict[str, Any],
    ) -> str:
        """Return a row as a line of JSON.

        Args:
            values: The fields of the row as its line has them.
            row: The row.
            negatives: More of them; the row is left as it is if there are none.
            mined: Where they come from.
        """
        for side in ("query", "positive", "negative"):
            contents = getattr(row, {"query": "query"}.get(side, f"{side}s"))
            if f"{side}_image" in values:
                values[f"{side}_image"] = self._renamed(values[f"{side}_image"], contents)
        if negatives:
            everything = [*row.negatives, *negatives]
            values |= {
                "negative": [content.text for content in everything],
                "negative_image": [
                    None if content.image is None else self._names[content.image]
                    for content in everything
                ],
            }
            for name in ("negative", "negative_image"):
                if not any(value is not None for value in values[name]):
                    del values[name]
            metadata = dict(values.get("metadata") or {})
            values["metadata"] = metadata | {MINED: [*metadata.get(MINED, []), mined]}
        line = json.dumps(values, ensure_ascii=False) + "\n"
        parse_line(line.encode("utf-8"), file=row.sample.file, line=row.sample.line)
        return line

    def _renamed(self, images: object, contents: Content | tuple[Content, ...]) -> object:
        """Return the value of an image field with paths that start from the output's folder."""
        listed = contents if isinstance(contents, tuple) else (contents,)
        names = [None if c.image is None else self._names[c.image] for c in listed]
        return names if isinstance(images, list) else names[0]

    def _name(self, image: str) -> str | None:
        """Return a path as seen from the root, None if it leads elsewhere."""
        for path in (os.path.normpath(image), os.path.realpath(image)):
            for root in (self._root, self._root.resolve()):
                inside = Path(path).is_relative_to(root)
                if inside and Path(path).resolve().is_relative_to(self._root.resolve()):
                    return Path(path).relative_to(root).as_posix()
        return None


def _with_contents(sample: Sample, root: Path, pixels: Pixels) -> MiningRow:
    """Return a row with what its items hold."""
    query, *others = (
        item_content(item, root, pixels)
        for item in (sample.query, *sample.positives, *sample.negatives)
    )
    count = len(sample.positives)
    return MiningRow(sample, query, tuple(others[:count]), tuple(others[count:]))


def _is_line_of(raw: bytes, sample: Sample) -> bool:
    """Tell whether a line still says what it said."""
    try:
        return parse_line(raw, file=sample.file, line=sample.line) == sample
    except RecordError:
        return False
