"""The check that every row passes, in whichever process: one chunk of a file in, what it holds out.

    chunk ─ parse_line ─► Sample ─ every image ─► accepted: columns of the index
                  └► problems        └► problems ─► refused: field, what is wrong, got, what to do

`python -m jina validate` and `train.py` both come here, so what one accepts the other does.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from jina.data.checking.image_headers import ImageFacts, read_header
from jina.data.checking.language_hint import language_hint
from jina.data.checking.line_chunks import Chunk, new_digest, read_chunk
from jina.data.image_loading import ImageError, load_image, pixel_identity
from jina.data.records import DEFAULT_TASK, Item, RecordError, Sample, parse_line
from jina.data.row_index import NO_IMAGE, Columns, RowColumns

# An image that many rows share is opened once while it is among the last so many.
IMAGES_REMEMBERED = 16_384
RATED_TASK = "text-matching"


class Rules(NamedTuple):
    """What rows are checked for.

    Attributes:
        is_deep: Decode every image; without it, its header is read.
        tasks: The adapters to be trained, which makes rows of others unusable; none for the
            format alone.
    """

    is_deep: bool = False
    tasks: tuple[str, ...] = ()


class Fault(NamedTuple):
    """What is wrong with one field of a line."""

    line: int
    field: str
    what: str
    got: str
    remedy: str


@dataclass
class ChunkReport:
    """What one chunk of a file holds, whose lines count from 1.

    Attributes:
        lines: How many there are.
        digest: Of the bytes.
        faults: All that is wrong, line by line.
        columns: Of the accepted rows.
        sources: Names that the column of sources counts from 0.
        languages: Names that the column of languages counts from 0.
        stamps: Name and `stamp_of` of each image; JSON, compressed.
    """

    lines: int = 0
    digest: bytes = b""
    faults: list[Fault] = field(default_factory=list)
    columns: Columns = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    stamps: bytes = b""


class RowChecker:
    """Checks chunks of files, one after the other, for as long as nobody changes the images."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._look_at = lru_cache(IMAGES_REMEMBERED)(_look_deeply if rules.is_deep else _look)

    def check(self, file: Path, chunk: Chunk, *, root: Path) -> ChunkReport:
        """Read some lines of a file and open the images they name below `root`."""
        report, rows, digest = ChunkReport(), RowColumns(), new_digest()
        stamps: dict[str, list[int]] = {}
        for start, raw in read_chunk(file, chunk, watch=digest.update):
            report.lines += 1
            try:
                sample = parse_line(raw, file="", line=report.lines)
            except RecordError as error:
                report.faults += [Fault(report.lines, *part) for part in error.parts]
                continue
            faults = unusable(sample, self.rules.tasks)
            images = []
            for name, item in named_items(sample):
                if item.image is not None and item.image not in stamps:
                    # Before it is opened: a change in between must not go unnoticed.
                    stamps[item.image] = stamp_of(root, item.image)
                image = NO_IMAGE if item.image is None else self._look_at(root, item.image)
                images.append(image)
                if isinstance(image, str):
                    faults.append(Fault(sample.line, name, *_split(image)))
            if faults:
                report.faults += faults
            else:
                language = language_hint(sample)
                rows.add(sample, images, start=start, checksum=checksum(raw), language=language)
        report.digest = digest.digest()
        # Compressed to a quarter, since they are kept for the whole file.
        report.stamps = zlib.compress(json.dumps(stamps).encode(), level=1)
        report.columns = rows.columns()
        report.sources, report.languages = list(rows.sources), list(rows.languages)
        return report


def unusable(sample: Sample, tasks: Sequence[str]) -> list[Fault]:
    """Return why a run that trains these tasks can't train on a sound row; of none, nothing."""
    faults = []
    own = sample.task or DEFAULT_TASK
    if tasks and own not in tasks:
        what = f"is not {' or '.join(map(repr, tasks))}, which this run trains"
        remedy = "add it to lora.tasks or move the row to another file"
        faults.append(Fault(sample.line, "task", what, repr(own), remedy))
    if tasks and sample.score is not None:
        for what, is_wrong in (
            (f"is only trained on for {RATED_TASK}", own != RATED_TASK),
            ("rates one pair, and there are several positives", len(sample.positives) > 1),
            ("rates one pair, and there are hard negatives", bool(sample.negatives)),
        ):
            if is_wrong:
                remedy = "remove the field, or give each pair a row"
                faults.append(Fault(sample.line, "score", what, str(sample.score), remedy))
    return faults


def named_items(sample: Sample) -> Iterator[tuple[str, Item]]:
    """Yield the items of a sample with the field that names their image."""
    yield "query_image", sample.query
    for name, items in (
        ("positive_image", sample.positives),
        ("negative_image", sample.negatives),
    ):
        for index, item in enumerate(items):
            yield f"{name}[{index}]" if len(items) > 1 else name, item


def checksum(line: bytes) -> int:
    """Return a checksum of a line without its ending: a last line gets one when others follow."""
    return zlib.crc32(line.rstrip())


def stamp_of(root: Path, name: str) -> list[int]:
    """Return what shows whether an image file has changed: its size and time, if it has any."""
    try:
        status = Path(root, name).stat()
    except (OSError, ValueError):
        return []
    return [status.st_size, status.st_mtime_ns]


def _look(root: Path, name: str) -> ImageFacts | str:
    """Read the header of an image; return what is wrong with it, if anything is."""
    try:
        return read_header(name, root=root)
    except ImageError as error:
        return str(error)


def _look_deeply(root: Path, name: str) -> ImageFacts | str:
    """Decode an image; return what is wrong with it, if anything is."""
    try:
        image = load_image(name, root=root)
    except ImageError as error:
        return str(error)
    return ImageFacts(*image.size, pixel_identity(image))


def _split(message: str) -> tuple[str, str, str]:
    """Take a message of `image_loading` apart, so that putting it together gives it back."""
    what, _, rest = message.partition("; got ")
    got, _, remedy = rest.rpartition("; ")
    return what, got, remedy
