"""A JSONL file in pieces of whole lines, which several processes can read and which name a digest.

    file ─ every 256 KiB, at the next end of a line ─► Chunk, Chunk, …
    each chunk ─ read once ─► lines + digest           digests of all chunks ─► digest of the file

The pieces depend on nothing but the file's bytes, so that the digest does, too.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jina.data.records import MAX_LINE_BYTES

CHUNK_BYTES = 256 * 1024


class Chunk(NamedTuple):
    """Some whole lines of a file: those from byte `start` to before byte `stop`."""

    start: int
    stop: int


def split_file(path: Path) -> list[Chunk]:
    """Divide a file into chunks of about `CHUNK_BYTES`; an empty file has none."""
    chunks = []
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        start = 0
        while start < size:
            stream.seek(start + CHUNK_BYTES - 1)
            _skip_line(stream)
            # Clamped, because somebody may write to the file right now.
            stop = min(max(stream.tell(), start + 1), size)
            chunks.append(Chunk(start, stop))
            start = stop
    return chunks


def read_chunk(
    path: Path, chunk: Chunk, *, watch: Callable[[bytes], object] = len
) -> Iterator[tuple[int, bytes]]:
    r"""Yield (byte offset, bytes) of each line, which only `\n` ends.

    Of an overlong line no more is kept than `parse_line` needs to refuse it.

    Args:
        path: The file.
        chunk: From `split_file`.
        watch: Is given every byte that is read, in order, such as a digest's `update`.
    """
    with path.open("rb") as stream:
        offset = stream.seek(chunk.start)
        while offset < chunk.stop and (raw := stream.readline(MAX_LINE_BYTES + 1)):
            watch(raw)
            yield offset, raw
            if not raw.endswith(b"\n"):
                _skip_line(stream, watch)
            offset = stream.tell()


def chunk_digest(path: Path, chunk: Chunk) -> bytes:
    """Return the digest that reading a chunk to its end gives, without looking at its lines."""
    digest = new_digest()
    with path.open("rb") as stream:
        stream.seek(chunk.start)
        left = chunk.stop - chunk.start
        while left and (block := stream.read(min(left, CHUNK_BYTES))):
            digest.update(block)
            left -= len(block)
    return digest.digest()


def file_digest(chunks: Iterable[bytes]) -> bytes:
    """Return the digest of a file, given those of its chunks in order."""
    return new_digest(b"".join(chunks)).digest()


def new_digest(start: bytes = b"") -> hashlib.blake2b:
    """Return the kind of digest that contents are told apart by, 16 bytes long."""
    return hashlib.blake2b(start, digest_size=16)


def _skip_line(stream: BinaryIO, watch: Callable[[bytes], object] = len) -> None:
    """Read to the end of the line."""
    while (raw := stream.readline(MAX_LINE_BYTES)) and not raw.endswith(b"\n"):
        watch(raw)
    watch(raw)
