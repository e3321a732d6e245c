"""JSONL files as a torch data set: every line and every image checked before training starts.

    files ─ every line ─► problems? ─ every distinct image ─► problems? ─► byte offsets of the rows
    index ─► the line at its offset ─ parse_line ─► Sample ─ load_image ─► LoadedSample

Only an offset and a checksum stay in memory; a line is read again when its turn comes, so the data
set costs 12 bytes a row and travels to loader workers as it is. Nothing is random here, nothing is
remembered between two rows. An `identity` is what two equal texts or pictures share, under any
file name: by it, not by similarity, false negatives are told.
"""

import hashlib
import os
import unicodedata
import zlib
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset

from jina.data.image_loading import ImageError, load_image, pixel_identity
from jina.data.records import (
    DEFAULT_TASK,
    MAX_LINE_BYTES,
    TASKS,
    Item,
    RecordError,
    Sample,
    parse_line,
    read_lines,
    read_samples,
)

MAX_PROBLEMS_SHOWN = 50
HARD_NEGATIVES = " + hard negatives"
# Decoding the largest image allowed takes about 1 GB, so the threads are few.
MAX_CHECKING_THREADS = 8

# The folder an image must lie in, and its path as the line has it.
ImageKey = tuple[Path, str]
# The number of a file, a line of it, and what is wrong there.
Problem = tuple[int, int, str]


class DataError(ValueError):
    """Training files that cannot be used; `problems` holds all there is to say, line by line."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = list(problems)

    def __str__(self) -> str:
        shown = self.problems[:MAX_PROBLEMS_SHOWN]
        hidden = len(self.problems) - len(shown)
        return "\n".join([*shown, f"… and {hidden} more"] if hidden else shown)


@dataclass(frozen=True)
class LoadedItem:
    """An item with its pixels; equal contents have equal identities."""

    text: str | None
    image: Image.Image | None
    identity: bytes


@dataclass(frozen=True)
class LoadedSample:
    """A sample with its pixels, ready for the collator."""

    query: LoadedItem
    positives: tuple[LoadedItem, ...]
    negatives: tuple[LoadedItem, ...]
    task: str
    source: str | None
    id: str | None
    where: str


@dataclass
class DatasetSummary:
    """What a data set holds, for the report at the start of a run."""

    rows: int = 0
    distinct_images: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)

    @property
    def has_negatives(self) -> bool:
        """Whether any row brings hard negatives of its own."""
        return any(HARD_NEGATIVES in shape for shape in self.shapes)

    def count(self, sample: Sample) -> None:
        """Add one row."""
        found = " / ".join(sorted({_shape(item) for item in sample.positives}))
        negatives = HARD_NEGATIVES if sample.negatives else ""
        self.rows += 1
        self.shapes[f"{_shape(sample.query)} → {found}{negatives}"] += 1
        self.sources[sample.source or "(none)"] += 1


def _shape(item: Item) -> str:
    """Return "text", "image" or "text and image"."""
    return " and ".join(name for name in ("text", "image") if getattr(item, name) is not None)


class MultimodalDataset(Dataset[LoadedSample]):
    """The rows of some JSONL files, in their order, as `LoadedSample`s.

    Args:
        files: One JSONL file or several, as data/README.md describes them.
        image_base_dir: The folder image paths start from and may not leave; by default the folder
            of the JSONL file that names them.
        task: The adapter that is trained. Rows of another task are refused.

    Raises:
        DataError: With every unusable line and image of all files.
    """

    def __init__(
        self,
        files: Path | str | Sequence[Path | str],
        *,
        image_base_dir: Path | str | None = None,
        task: str,
    ) -> None:
        if task not in TASKS:
            raise ValueError(f"task: is unknown; got {task!r}; choose one of {', '.join(TASKS)}")
        self.task = task
        self.files = [Path(f) for f in ([files] if isinstance(files, (str, Path)) else files)]
        self.image_base_dir = None if image_base_dir is None else Path(image_base_dir)
        self.summary = DatasetSummary()
        self._offsets = array("Q")
        self._checksums = array("I")
        self._first_rows: list[int] = []
        missing = [file for file in self.files if not file.is_file()]
        if missing or not self.files:
            what = "is not a file; got this path; correct data.train or data.eval"
            raise DataError(*(f"{file}: {what}" for file in missing or ["(no path)"]))
        problems, images = self._index_rows()
        problems += self._check_images(images)
        if problems:
            # Sorted by file and line; what was found on one line keeps its order.
            raise DataError(*(text for *_, text in sorted(problems, key=lambda found: found[:2])))

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> LoadedSample:
        """Return row `index` with its pixels; raise `ImageError` if an image has turned bad."""
        sample = self.sample(index)
        query, *others = (self._load(sample, name, item) for name, item in _named_items(sample))
        num_positives = len(sample.positives)
        return LoadedSample(
            query=query,
            positives=tuple(others[:num_positives]),
            negatives=tuple(others[num_positives:]),
            task=self.task,
            source=sample.source,
            id=sample.id,
            where=sample.where,
        )

    def sample(self, index: int) -> Sample:
        """Return row `index` as its line has it, without opening an image."""
        index = range(len(self))[index]
        number = bisect_right(self._first_rows, index) - 1
        file = self.files[number]
        # Opened for each row: a handle would not survive pickling, and its position would be
        # shared by forked workers.
        with file.open("rb") as stream:
            stream.seek(self._offsets[index])
            raw = stream.readline(MAX_LINE_BYTES + 1)
        line = index - self._first_rows[number] + 1
        if _checksum(raw) != self._checksums[index]:
            what = f"has changed since it was checked; got {raw[:80]!r}; leave the file alone"
            raise DataError(f"{file}:{line}: line: {what} during a run, and start again")
        return parse_line(raw, file=file, line=line)

    def image_root(self, file: Path | str) -> Path:
        """Return the folder that image paths in a file start from."""
        """Return the folder that the images of a file start from and stay in."""
        return self.image_base_dir or Path(file).parent

    def _load(self, sample: Sample, name: str, item: Item) -> LoadedItem:
        """Load one item of a sample, whose image stands in field `name`."""
        if item.image is None:
            return LoadedItem(item.text, None, _identity(item.text, b""))
        try:
            image = load_image(item.image, root=self.image_root(sample.file))
        except ImageError as error:
            raise ImageError(f"{sample.where}: {name}: {error}") from error
        return LoadedItem(item.text, image, _identity(item.text, pixel_identity(image)))

    def _index_rows(self) -> tuple[list[Problem], list[ImageKey]]:
        """Read every line; return what is wrong with them and all the images they name."""
        problems: list[Problem] = []
        images: dict[ImageKey, None] = {}
        for number, file in enumerate(self.files):
            root, line = self.image_root(file), 0
            self._first_rows.append(len(self._offsets))
            for offset, line, raw in read_lines(file):
                try:
                    sample = parse_line(raw, file=file, line=line)
                    items = [item for _, item in _named_items(sample)]
                    images |= {(root, item.image): None for item in items if item.image}
                    self._check_row(sample)
                except RecordError as error:
                    problems += [(number, line, problem) for problem in error.problems]
                else:
                    self._offsets.append(offset)
                    self._checksums.append(_checksum(raw))
                    self.summary.count(sample)
            if not line:
                problems.append((number, 0, f"{file}: is empty; got no rows; add some"))
        return problems, list(images)

    def _check_row(self, sample: Sample) -> None:
        """Refuse a sound row that this release, or this run, cannot train on."""
        problems = []
        if (task := sample.task or DEFAULT_TASK) != self.task:
            what = f"is not {self.task!r}, the one adapter this run trains; got {task!r}"
            problems.append(f"task: {what}; set lora.task or move the row to another file")
        if sample.score is not None:
            what = f"graded scores are not trained on yet; got {sample.score}"
            problems.append(f"score: {what}; remove the field")
        if problems:
            raise RecordError(*(f"{sample.where}: {problem}" for problem in problems))

    def _check_images(self, images: list[ImageKey]) -> list[Problem]:
        """Decode every image once; return the rows that name a broken one."""
        verdicts = _verdicts(images)
        broken = {key: verdict for key, verdict in verdicts.items() if isinstance(verdict, str)}
        self.summary.distinct_images = len(set(verdicts.values()) - set(broken.values()))
        if not broken:
            return []
        # Read again rather than having remembered, for each image of each row, where it stood.
        return [
            (number, sample.line, f"{sample.where}: {name}: {broken[key]}")
            for number, file in enumerate(self.files)
            for sample in read_samples(file)
            if isinstance(sample, Sample)
            for name, item in _named_items(sample)
            if item.image and (key := (self.image_root(file), item.image)) in broken
        ]


def _verdicts(images: list[ImageKey]) -> dict[ImageKey, bytes | str]:
    """Map each image to the identity of its pixels, or to what is wrong with it."""
    verdicts: dict[ImageKey, bytes | str] = {}
    waiting = iter(images)
    with ThreadPoolExecutor(min(MAX_CHECKING_THREADS, os.cpu_count() or 1)) as pool:
        # By the thousand, because map() queues all that it is given at once.
        while batch := list(islice(waiting, 1000)):
            verdicts.update(zip(batch, pool.map(_verdict, batch), strict=True))
    return verdicts


def _verdict(key: ImageKey) -> bytes | str:
    """Decode one image."""
    root, path = key
    try:
        return pixel_identity(load_image(path, root=root))
    except ImageError as error:
        return str(error)


def _named_items(sample: Sample) -> Iterator[tuple[str, Item]]:
    """Yield the items of a sample with the field that names their image."""
    yield "query_image", sample.query
    for name, items in (
        ("positive_image", sample.positives),
        ("negative_image", sample.negatives),
    ):
        for index, item in enumerate(items):
            yield f"{name}[{index}]" if len(items) > 1 else name, item


def _identity(text: str | None, pixels: bytes) -> bytes:
    """Return 16 bytes for a text, however its accents are encoded, together with its pixels."""
    encoded = unicodedata.normalize("NFC", text or "").encode("utf-8")
    return hashlib.blake2b(b"%d:%b%b" % (len(encoded), encoded, pixels), digest_size=16).digest()


def _checksum(line: bytes) -> int:
    """Return a checksum of a line without its ending: a last line gets one when others follow."""
    return zlib.crc32(line.rstrip())
