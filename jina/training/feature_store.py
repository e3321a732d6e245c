"""Where the features of images are kept: in memory, or in files that several processes fill.

    put ─► features appended to an own <name>.features ─► a record appended to <name>.index
    refresh ─► whole records of all index files ─► get: mapped into memory, checksum, (tokens, H)

Each process appends to files of its own, so none waits for another and none needs a lock. A record
is written after its features and has a checksum of both, so what a killed process left half done,
and what a disk got wrong, is noticed, said and never used.

Features are float16: half the size of float32, and with 11 digits exact for what is computed in
bfloat16, which has 8.
"""

import logging
import os
import secrets
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger("smartembed")

NUMBER_BYTES = 2  # of a float16
_RECORD = struct.Struct("<16sQII")  # identity, first byte, tokens, CRC-32 of the features
_CHECKSUM = struct.Struct("<I")  # of the record
RECORD_BYTES = _RECORD.size + _CHECKSUM.size


class FeatureStore(Protocol):
    """Features of images by the identity of their pixels.

    Attributes:
        width: H, the numbers of a token.
        nbytes: what all of them take.
    """

    width: int
    nbytes: int

    def refresh(self) -> Iterable[bytes]:
        """Return the images that have come to be known since the last call."""

    def get(self, identity: bytes, tokens: int) -> Tensor | None:
        """Return (tokens, H) float16, or `None` if there is nothing sound."""

    def put(self, identity: bytes, features: Tensor) -> None:
        """Keep (tokens, H) float16 features, on the CPU; raise `OSError` if that fails."""


class MemoryStore:
    """Features in the memory of this process."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.nbytes = 0
        self._features: dict[bytes, Tensor] = {}

    def refresh(self) -> Iterable[bytes]:
        """Return nothing: nobody else adds any."""
        return ()

    def get(self, identity: bytes, tokens: int) -> Tensor | None:
        """Return an image's features, if they are there."""
        features = self._features.get(identity)
        return features if features is not None and len(features) == tokens else None

    def put(self, identity: bytes, features: Tensor) -> None:
        """Keep an image's features."""
        self._features[identity] = features.clone()  # not a view of all of its batch
        self.nbytes += features.numel() * NUMBER_BYTES


class _Place(NamedTuple):
    """Where the features of an image lie."""

    file: Path
    start: int
    tokens: int
    checksum: int


class DiskStore:
    """Features in files, which stay for the next run.

    Args:
        folder: for features of one kind only; made when something is put there.
        width: H, the numbers of a token.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.width = folder, width
        self.nbytes = 0
        self._places: dict[bytes, list[_Place]] = {}  # the last one counts
        self._read: dict[Path, int] = {}  # bytes of each index file, so far
        self._mapped: dict[Path, np.memmap] = {}
        self._sound: set[_Place] = set()
        self._own: tuple[BinaryIO, BinaryIO] | None = None

    def refresh(self) -> list[bytes]:
        """Read what any process has added to the folder; return these images."""
        found: list[bytes] = []
        for file in sorted(self.folder.glob("*.index")):
            if self._own is None or str(file) != self._own[1].name:
                found += self._read_index(file)
        return found

    def get(self, identity: bytes, tokens: int) -> Tensor | None:
        """Return an image's features as a view of their file; forget them if they are damaged."""
        places = self._places.get(identity, [])
        while places:
            features = self._load(places[-1]) if places[-1].tokens == tokens else None
            if features is not None:
                return features
            damaged = places.pop()
            self.nbytes -= damaged.tokens * self.width * NUMBER_BYTES
            logger.warning(
                "vision cache: features of an image are damaged; got %s, byte %d; "
                "they are made again",
                damaged.file,
                damaged.start,
            )
        return None

    def put(self, identity: bytes, features: Tensor) -> None:
        """Append an image's features to the file of this process, then its record."""
        features_file, index_file = self._own = self._own or self._new_files()
        data = features.contiguous().numpy().data.cast("B")
        start = features_file.seek(0, os.SEEK_END)
        _write_all(features_file, data)
        place = _Place(Path(features_file.name), start, len(features), zlib.crc32(data))
        record = _RECORD.pack(identity, place.start, place.tokens, place.checksum)
        _write_all(index_file, record + _CHECKSUM.pack(zlib.crc32(record)))
        self._add(identity, place)
        self._sound.add(place)

    def _read_index(self, file: Path) -> list[bytes]:
        """Return the images of an index file's new records; a last one that is torn isn't read."""
        start = self._read.get(file, 0)
        with file.open("rb") as stream:
            stream.seek(start)
            data = stream.read()
        whole = len(data) // RECORD_BYTES * RECORD_BYTES
        self._read[file] = start + whole
        found, damaged = [], 0
        for first in range(0, whole, RECORD_BYTES):
            record = data[first : first + _RECORD.size]
            if _CHECKSUM.unpack_from(data, first + _RECORD.size)[0] != zlib.crc32(record):
                damaged += 1
                continue
            identity, *numbers = _RECORD.unpack(record)
            self._add(identity, _Place(file.with_suffix(".features"), *numbers))
            found.append(identity)
        if damaged:
            logger.warning(
                "vision cache: damaged records; got %d in %s; their images are encoded again",
                damaged,
                file,
            )
        return found

    def _add(self, identity: bytes, place: _Place) -> None:
        self._places.setdefault(identity, []).append(place)
        self.nbytes += place.tokens * self.width * NUMBER_BYTES

    def _load(self, place: _Place) -> Tensor | None:
        """Return features; `None` if they aren't what was written."""
        stop = place.start + place.tokens * self.width * NUMBER_BYTES
        mapped = self._mapped.get(place.file)
        if mapped is None or len(mapped) < stop:
            try:
                # copy-on-write, because torch has no read-only tensors; nobody writes
                mapped = np.memmap(place.file, np.uint8, "c")
            except (OSError, ValueError):  # gone, or empty
                return None
            self._mapped[place.file] = mapped
        data = mapped[place.start : stop]
        if place not in self._sound:
            if len(data) < stop - place.start or zlib.crc32(data) != place.checksum:
                return None
            self._sound.add(place)
        return torch.from_numpy(data).view(torch.float16).view(place.tokens, self.width)

    def _new_files(self) -> tuple[BinaryIO, BinaryIO]:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{os.getpid()}-{secrets.token_hex(4)}.features"
        return file.open("xb", buffering=0), file.with_suffix(".index").open("xb", buffering=0)


def _write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write to an unbuffered file, which may take only a part at a time."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
