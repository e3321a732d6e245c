"""What is remembered of checked rows: where each one stands and what it holds, in arrays.

    Sample, sizes, identities ─ RowColumns.add ─► columns of a chunk ─ join ─► RowIndex

No row has an object of its own, so a row of two items costs some 140 bytes however long its texts
are. An `identity` is what two equal texts or pictures share, under any file name: by it, not by
similarity, false negatives are told.
"""

import hashlib
import struct
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from jina.data.checking.image_headers import ImageFacts
from jina.data.records import DEFAULT_TASK, TASKS, Item, Sample

SIDES = ("queries", "positives", "negatives")
ROW_COLUMNS = {
    "files": "u4",
    "lines": "u4",
    "starts": "u8",
    "checksums": "u4",
    "tasks": "u1",
    "is_rated": "u1",
    "sources": "u4",
    "languages": "u4",
}
ITEM_COLUMNS = {
    "identities": "i8",
    "images": "i8",
    "image_tails": "i8",
    "widths": "u4",
    "heights": "u4",
    "text_bytes": "u4",
}
NO_SOURCE = "(none)"

Columns = dict[str, np.ndarray]
NO_IMAGE = ImageFacts(0, 0, b"")
_HALVES = struct.Struct(">2q")  # of an identity


def item_identity(text: str | None, image: bytes) -> bytes:
    """Return 16 bytes for a text, however its accents are encoded, together with its image's."""
    encoded = unicodedata.normalize("NFC", text or "").encode("utf-8")
    return hashlib.blake2b(b"%d:%b%b" % (len(encoded), encoded, image), digest_size=16).digest()


def as_number(identity: bytes) -> int:
    """Return an identity as the 64-bit number that batches and the index hold."""
    return int.from_bytes(identity[:8], "big", signed=True)


@dataclass(frozen=True, eq=False)
class Items:
    """The items on one side of all rows, end to end.

    Attributes:
        offsets: (rows + 1,) row i has the items from `offsets[i]` to before `offsets[i + 1]`.
        identities: (items,) of text and image together.
        images: (items,) identities of the images alone, their first 8 bytes; 0 for items without.
        image_tails: (items,) the other 8 bytes, for what must not mix up two images ever.
        widths: (items,) in pixels, upright; 0 for items without an image.
        heights: (items,) like the widths.
        text_bytes: (items,) length of the text in UTF-8; 0 for items without.
    """

    offsets: np.ndarray
    identities: np.ndarray
    images: np.ndarray
    image_tails: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    text_bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.identities)

    @property
    def counts(self) -> np.ndarray:
        """How many items each row has."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> np.ndarray:
        """The row of each item."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.counts)


@dataclass(frozen=True, eq=False)
class RowIndex:
    """The accepted rows of some files, in their order.

    Attributes:
        files: (rows,) number of the file.
        lines: (rows,) line in that file, from 1.
        starts: (rows,) byte at which the line begins.
        checksums: (rows,) CRC-32 of the line.
        tasks: (rows,) place in `records.TASKS`.
        is_rated: (rows,) 1 for rows with a score.
        sources: (rows,) place in `source_names`.
        languages: (rows,) place in `language_names`.
        queries: one item a row.
        positives: at least one item a row.
        negatives: any number of items a row.
        source_names: as the rows have them; rows without one have `NO_SOURCE`.
        language_names: as `language_hint` gives them.
    """

    files: np.ndarray
    lines: np.ndarray
    starts: np.ndarray
    checksums: np.ndarray
    tasks: np.ndarray
    is_rated: np.ndarray
    sources: np.ndarray
    languages: np.ndarray
    queries: Items
    positives: Items
    negatives: Items
    source_names: tuple[str, ...]
    language_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def query_identities(self) -> np.ndarray:
        """Identity of each row's query."""
        return self.queries.identities

    @property
    def positive_identities(self) -> tuple[np.ndarray, np.ndarray]:
        """Identities of all positives, end to end, and the (rows + 1,) offsets of the rows."""
        return self.positives.identities, self.positives.offsets

    def positives_elsewhere(self, row: int) -> np.ndarray:
        """Return the identities of the positives that other rows name for a row's query."""
        queries, positives = self._positives_by_query
        query = self.queries.identities[row]
        start, stop = (np.searchsorted(queries, query, side) for side in ("left", "right"))
        own = self.positives.identities[slice(*self.positives.offsets[row : row + 2])]
        return positives[start:stop][~np.isin(positives[start:stop], own)]

    @cached_property
    def _positives_by_query(self) -> tuple[np.ndarray, np.ndarray]:
        """The query and the identity of each positive, by query; a graded one may be no match."""
        rows = self.positives.rows
        kept = self.is_rated[rows] == 0
        queries, positives = self.queries.identities[rows[kept]], self.positives.identities[kept]
        order = np.argsort(queries, kind="stable")
        return queries[order], positives[order]

    def images_of(self, row: int) -> list[ImageFacts]:
        """Return the image of each item of a row, queries before positives before negatives."""
        return [
            self._image(getattr(self, side), item)
            for side in SIDES
            for item in range(*getattr(self, side).offsets[row : row + 2])
        ]

    def only(self, kept: np.ndarray) -> "RowIndex":
        """Return an index of the rows where a mask, (rows,), is true."""
        columns = {name: getattr(self, name)[kept] for name in ROW_COLUMNS}
        for side in SIDES:
            items: Items = getattr(self, side)
            ends = np.cumsum(items.counts[kept], dtype=items.offsets.dtype)
            columns[f"{side}.offsets"] = np.concatenate([items.offsets[:1], ends])
            of_kept = np.repeat(kept, items.counts)
            columns |= {f"{side}.{name}": getattr(items, name)[of_kept] for name in ITEM_COLUMNS}
        names = {"source_names": self.source_names, "language_names": self.language_names}
        return RowIndex.from_columns(columns, **names)

    def row_with_image(self, identity: bytes) -> int | None:
        """Return a row that shows an image, if there is one."""
        head, tail = _HALVES.unpack(identity)
        for side in SIDES:
            items = getattr(self, side)
            is_it = (items.images == head) & (items.image_tails == tail) & (items.widths > 0)
            places = np.flatnonzero(is_it)
            if len(places):
                return int(np.searchsorted(items.offsets, places[0], side="right")) - 1
        return None

    @staticmethod
    def _image(items: Items, item: int) -> ImageFacts:
        if not items.widths[item]:
            return NO_IMAGE
        identity = _HALVES.pack(items.images[item], items.image_tails[item])
        return ImageFacts(int(items.widths[item]), int(items.heights[item]), identity)

    @property
    def nbytes(self) -> int:
        """Bytes the arrays take."""
        return sum(column.nbytes for column in self.columns().values())

    def columns(self) -> Columns:
        """Return all arrays, those of items as `positives.widths`."""
        columns = {name: getattr(self, name) for name in ROW_COLUMNS}
        for side in SIDES:
            items = getattr(self, side)
            columns |= {f"{side}.{f.name}": getattr(items, f.name) for f in fields(items)}
        return columns

    @classmethod
    def from_columns(
        cls, columns: Columns, *, source_names: Iterable[str], language_names: Iterable[str]
    ) -> "RowIndex":
        """Build an index from what `columns` returns."""
        names = ("offsets", *ITEM_COLUMNS)
        return cls(
            **{name: columns[name] for name in ROW_COLUMNS},
            **{side: Items(*(columns[f"{side}.{name}"] for name in names)) for side in SIDES},
            source_names=tuple(source_names),
            language_names=tuple(language_names),
        )


def column_types() -> dict[str, str]:
    """Return the type of each array in `RowIndex.columns`."""
    types = dict(ROW_COLUMNS)
    for side in SIDES:
        types[f"{side}.offsets"] = "i8"
        types |= {f"{side}.{name}": dtype for name, dtype in ITEM_COLUMNS.items()}
    return types


class RowColumns:
    """The columns of a few rows while they are added one by one."""

    def __init__(self) -> None:
        self.sources: dict[str, int] = {}
        self.languages: dict[str, int] = {}
        self._rows: list[tuple[int, ...]] = []
        self._items: dict[str, list[tuple[int, ...]]] = {side: [] for side in SIDES}
        self._ends: dict[str, list[int]] = {side: [0] for side in SIDES}

    def add(
        self,
        sample: Sample,
        images: Sequence[ImageFacts],
        *,
        start: int,
        checksum: int,
        language: str,
    ) -> None:
        """Add a row.

        Args:
            sample: The row.
            images: One for each item, queries before positives before negatives, `NO_IMAGE` where
                there is none.
            start: Byte at which the line begins.
            checksum: CRC-32 of the line.
            language: What `language_hint` says.
        """
        task = TASKS.index(sample.task or DEFAULT_TASK)
        source = _number(self.sources, sample.source or NO_SOURCE)
        is_rated = int(sample.score is not None)
        language_number = _number(self.languages, language)
        self._rows.append(
            (0, sample.line, start, checksum, task, is_rated, source, language_number)
        )
        rest = iter(images)
        for side, items in zip(
            SIDES, ((sample.query,), sample.positives, sample.negatives), strict=True
        ):
            found = self._items[side]
            found += [_item_row(item, next(rest)) for item in items]
            self._ends[side].append(len(found))

    def columns(self) -> Columns:
        """Return the arrays of all rows so far; the number of the file is 0 for each."""
        columns = _transposed(self._rows, ROW_COLUMNS)
        for side in SIDES:
            columns[f"{side}.offsets"] = np.array(self._ends[side], "i8")
            items = _transposed(self._items[side], ITEM_COLUMNS)
            columns |= {f"{side}.{name}": column for name, column in items.items()}
        return columns


def join(parts: Sequence[Columns]) -> Columns:
    """Lay the rows of some parts end to end; the parts are emptied, so that nothing is kept twice.

    Files, lines, sources and languages are taken as they are.
    """
    columns = {}
    for name, dtype in column_types().items():
        pieces = [part.pop(name) for part in parts]
        if not name.endswith(".offsets"):
            columns[name] = np.concatenate([np.empty(0, dtype), *pieces])
            continue
        counts = np.concatenate([np.empty(0, dtype), *(np.diff(piece) for piece in pieces)])
        columns[name] = np.concatenate([np.zeros(1, dtype), np.cumsum(counts)])
    return columns


def _item_row(item: Item, image: ImageFacts) -> tuple[int, ...]:
    """Return the item columns of one item."""
    identity = as_number(item_identity(item.text, image.identity))
    head, tail = _HALVES.unpack(image.identity) if image.identity else (0, 0)
    size = len(item.text.encode("utf-8")) if item.text else 0
    return identity, head, tail, image.width, image.height, size


def _number(names: dict[str, int], name: str) -> int:
    """Return the number of a name, the next free one if it is new."""
    return names.setdefault(name, len(names))


def _transposed(rows: list[tuple[int, ...]], dtypes: dict[str, str]) -> Columns:
    """Return the columns of a list of rows."""
    values = zip(*rows, strict=True) if rows else ((),) * len(dtypes)
    return {
        name: np.array(column, dtype)
        for (name, dtype), column in zip(dtypes.items(), values, strict=True)
    }
