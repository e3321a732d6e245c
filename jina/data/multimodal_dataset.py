"""JSONL files as a torch data set: every line and every image checked before training starts.

    files ─ scan, or what it found the last time ─► problems? ─► RowIndex
    index ─► the line at its byte ─ parse_line ─► Sample ─ load_image ─► LoadedSample
                                                      └─ known already: size and identity do

Only the index stays in memory; a line is read again when its turn comes, so the data set costs some
140 bytes a row and travels to loader workers as it is. Nothing is random here, nothing is
remembered between two rows.
"""

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from jina.data.checking.cache import cached_scan
from jina.data.checking.image_headers import ImageFacts
from jina.data.checking.row_check import named_items
from jina.data.image_loading import ImageError, load_image, pixel_identity
from jina.data.item_lengths import Measures, images_without_room
from jina.data.known_images import KnownImages
from jina.data.records import DEFAULT_TASK, Item, Sample
from jina.data.reporting.content_figures import HARD_NEGATIVES, count_names, count_shapes
from jina.data.row_index import item_identity
from jina.data.validation import DataError, Scan, image_root, read_row

__all__ = ["DataError", "DataPolicy", "LoadedItem", "LoadedSample", "MultimodalDataset"]

MAX_SKIPPED_SHOWN = 3


@dataclass(frozen=True)
class LoadedItem:
    """An item with its pixels; equal contents have equal identities.

    Attributes:
        text: as the line has it.
        image: upright RGB; or only its facts, where its pixels needn't be had (again).
        identity: of text and image together.
        image_identity: of the pixels; empty without an image.
    """

    text: str | None
    image: Image.Image | ImageFacts | None
    identity: bytes
    image_identity: bytes = b""


@dataclass(frozen=True)
class LoadedSample:
    """A sample with its pixels, ready for the collator.

    Attributes:
        elsewhere: (E,) int64 identities of the positives that other rows have for this query.
    """

    query: LoadedItem
    positives: tuple[LoadedItem, ...]
    negatives: tuple[LoadedItem, ...]
    task: str
    score: float | None
    source: str | None
    id: str | None
    where: str
    elsewhere: np.ndarray = field(compare=False)


@dataclass(frozen=True)
class DataPolicy:
    """How files are checked, and what bad rows lead to.

    Attributes:
        is_deep: Decode every image before training, instead of reading its header.
        skips_bad_rows: Leave bad rows out, instead of refusing the files.
        max_bad_fraction: The most rows that may be left out, as a share of all.
        cache_folder: Where the results of the check are kept; None keeps none.
    """

    is_deep: bool = True
    skips_bad_rows: bool = False
    max_bad_fraction: float = 0.01
    cache_folder: Path | None = None


@dataclass(frozen=True)
class DatasetSummary:
    """What a data set holds, for the report at the start of a run.

    Attributes:
        rows: How many there are.
        distinct_images: How many different pictures they show.
        shapes: Rows of each shape.
        sources: Rows of each source.
        skipped: Rows that were left out.
        skipped_because: The first few reasons.
    """

    rows: int
    distinct_images: int
    shapes: Counter[str]
    sources: Counter[str]
    skipped: int = 0
    skipped_because: tuple[str, ...] = ()

    @property
    def has_negatives(self) -> bool:
        """Whether any row brings hard negatives of its own."""
        return any(HARD_NEGATIVES in shape for shape in self.shapes)


class MultimodalDataset(Dataset[LoadedSample]):
    """The rows of some JSONL files, in their order, as `LoadedSample`s.

    Args:
        files: One JSONL file or several, as data/README.md describes them.
        image_base_dir: The folder image paths start from and may not leave; by default the folder
            of the JSONL file that names them.
        tasks: The adapters that are trained. Rows of other tasks are refused; none takes them all.
        policy: How files are checked, and what bad rows lead to.
        measures: How long items may be: a row with an image that doesn't fit is a bad one.

    Attributes:
        index: Where the rows stand and what they hold, in arrays.
        summary: How many there are, of which kind.
        is_deep: Whether the index knows images by their pixels.
        known: Images that needn't be decoded, as long as somebody keeps what they led to.

    Raises:
        DataError: With every unusable line and image of all files.
    """

    def __init__(
        self,
        files: Path | str | Sequence[Path | str],
        *,
        image_base_dir: Path | str | None = None,
        tasks: Sequence[str] = (),
        policy: DataPolicy | None = None,
        measures: Measures | None = None,
    ) -> None:
        policy = policy or DataPolicy()
        self.files = [Path(f) for f in ([files] if isinstance(files, (str, Path)) else files)]
        self.image_base_dir = None if image_base_dir is None else Path(image_base_dir)
        scan = cached_scan(
            self.files,
            image_base_dir=self.image_base_dir,
            deep=policy.is_deep,
            tasks=tasks,
            folder=policy.cache_folder,
        )
        if measures is not None:
            scan = scan.refusing(images_without_room(scan.files, scan.index, measures))
        _refuse(scan, policy)
        self.index = scan.index
        self.is_deep = policy.is_deep
        self.known: KnownImages | None = None
        self.summary = DatasetSummary(
            rows=len(scan.index),
            distinct_images=scan.distinct_images,
            shapes=count_shapes(scan.index),
            sources=count_names(scan.index.sources, scan.index.source_names),
            skipped=scan.refused,
            skipped_because=tuple(map(str, scan.problems[:MAX_SKIPPED_SHOWN])),
        )

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> LoadedSample:
        """Return row `index` with its pixels; raise `ImageError` if an image has turned bad."""
        return self._row(index, self.known)

    def _row(self, index: int, known: Container[bytes] | None) -> LoadedSample:
        """Return a row, of `known` images only their facts."""
        sample = self.sample(index)
        facts = self.index.images_of(range(len(self))[index])
        query, *others = (
            self._load(sample, name, item, own, known)
            for (name, item), own in zip(named_items(sample), facts, strict=True)
        )
        num_positives = len(sample.positives)
        return LoadedSample(
            query=query,
            positives=tuple(others[:num_positives]),
            negatives=tuple(others[num_positives:]),
            task=sample.task or DEFAULT_TASK,
            score=sample.score,
            source=sample.source,
            id=sample.id,
            where=sample.where,
            elsewhere=self.index.positives_elsewhere(range(len(self))[index]),
        )

    def __getitems__(self, indices: Sequence[int]) -> Iterator[LoadedSample]:
        """Yield the rows of a batch one by one, each of its pictures decoded at most once.

        So no batch has all its pictures in memory at full size.
        """
        given = _Given(self.known)
        for index in indices:
            row = self._row(index, given)
            items = (row.query, *row.positives, *row.negatives)
            given.identities.update(item.image_identity for item in items)
            yield row

    def reload_image(self, identity: bytes) -> Image.Image | None:
        """Decode an image that is known by its facts only; `None` if no row shows it.

        Raises:
            DataError: If the file has changed since it was checked.
        """
        index = self.index.row_with_image(identity)
        if index is None:
            return None
        row = self._row(index, None)
        for item in (row.query, *row.positives, *row.negatives):
            if item.image_identity == identity:
                return item.image
        what = f"has changed since it was checked; got other pixels than {identity.hex()}"
        raise DataError(f"{row.where}: an image {what}; leave the file alone during a run")

    def sample(self, index: int) -> Sample:
        """Return row `index` as its line has it, without opening an image."""
        return read_row(self.files, self.index, range(len(self))[index])

    def image_root(self, file: Path | str) -> Path:
        """Return the folder that the images of a file start from and stay in."""
        return image_root(file, self.image_base_dir)

    def _load(
        self,
        sample: Sample,
        name: str,
        item: Item,
        facts: ImageFacts,
        known: Container[bytes] | None,
    ) -> LoadedItem:
        """Load one item of a sample, whose image stands in field `name`; no known image."""
        if item.image is None:
            return LoadedItem(item.text, None, item_identity(item.text, b""))
        if self.is_deep and known is not None and facts.identity in known:
            identity = item_identity(item.text, facts.identity)
            return LoadedItem(item.text, facts, identity, facts.identity)
        try:
            image = load_image(item.image, root=self.image_root(sample.file))
        except ImageError as error:
            raise ImageError(f"{sample.where}: {name}: {error}") from error
        own = pixel_identity(image)
        return LoadedItem(item.text, image, item_identity(item.text, own), own)


class _Given:
    """Images that a batch has brought already, and those that are known anyway."""

    def __init__(self, known: KnownImages | None) -> None:
        self.known, self.identities = known, set[bytes]()

    def __contains__(self, identity: object) -> bool:
        return identity in self.identities or (self.known is not None and identity in self.known)


def _refuse(scan: Scan, policy: DataPolicy) -> None:
    """Raise `DataError` with all problems, unless they are few and bad rows may be left out."""
    problems = [str(problem) for problem in scan.problems]
    is_a_file_bad = any(problem.line == 0 for problem in scan.problems)
    if problems and (is_a_file_bad or not policy.skips_bad_rows):
        raise DataError(*problems)
    if scan.refused > policy.max_bad_fraction * scan.rows:
        raise DataError(
            f"data.max_bad_fraction: too many rows to skip; got {scan.refused:,} bad ones of "
            f"{scan.rows:,}, over {policy.max_bad_fraction:g} of all; correct them, or raise it",
            *problems,
        )
