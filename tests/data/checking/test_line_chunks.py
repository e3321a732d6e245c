"""Chunks: every byte of a file in exactly one, cut at ends of lines, with one digest for all."""

import random

import pytest

from jina.data import records
from jina.data.checking import line_chunks
from jina.data.checking.line_chunks import (
    Chunk,
    chunk_digest,
    file_digest,
    new_digest,
    read_chunk,
    split_file,
)


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 64 bytes, and overlong lines from 100 bytes on."""
    monkeypatch.setattr(line_chunks, "CHUNK_BYTES", 64)
    monkeypatch.setattr(line_chunks, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 100)


def random_text(seed):
    """Return lines of 0 to 300 bytes, some ends of lines inside, and perhaps none at the end."""
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    lines = [draw.choice(["x", "é", "\u2028", "\r"]) * draw.randrange(80) for _ in range(40)]
    lines += ["long" * 75] * draw.randrange(3)
    draw.shuffle(lines)
    return "\n".join(lines).encode() + b"\n" * draw.randrange(2)


@pytest.mark.parametrize("seed", range(25))
def test_the_chunks_of_any_file_hold_the_lines_of_the_whole(tmp_path, small_chunks, seed):
    file = tmp_path / "a.jsonl"
    file.write_bytes(random_text(seed))
    chunks = split_file(file)
    assert chunks[0].start == 0
    assert chunks[-1].stop == file.stat().st_size
    assert all(a.stop == b.start for a, b in zip(chunks, chunks[1:], strict=False))
    found = [pair for chunk in chunks for pair in read_chunk(file, chunk)]
    assert found == [(offset, raw) for offset, _, raw in records.read_lines(file)]
    assert len(chunks) > 5


@pytest.mark.parametrize("seed", range(5))
def test_reading_lines_gives_the_digest_of_all_bytes(tmp_path, small_chunks, seed):
    file = tmp_path / "a.jsonl"
    file.write_bytes(random_text(seed))
    for chunk in split_file(file):
        digest = new_digest()
        assert list(read_chunk(file, chunk, watch=digest.update))
        assert digest.digest() == chunk_digest(file, chunk)
        assert digest.digest() == new_digest(file.read_bytes()[chunk.start : chunk.stop]).digest()


def test_a_file_is_cut_where_it_always_was(tmp_path):
    file = tmp_path / "a.jsonl"
    line = b"x" * 99 + b"\n"
    file.write_bytes(line * 6000)
    # 262,144 bytes end within line 2,622.
    assert split_file(file) == [Chunk(0, 262_200), Chunk(262_200, 524_400), Chunk(524_400, 600_000)]


def test_an_empty_file_has_no_chunk_and_a_single_line_one(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"")
    assert split_file(file) == []
    file.write_bytes(b"x" * 1_000_000)
    assert split_file(file) == [Chunk(0, 1_000_000)]


def test_control_a_byte_or_an_order_that_differs_changes_the_digest(tmp_path):
    file = tmp_path / "a.jsonl"
    digests = set()
    for text in (b"a\nb\n", b"b\na\n", b"a\nb", b"a\nb\n\n"):
        file.write_bytes(text)
        digests.add(file_digest(chunk_digest(file, chunk) for chunk in split_file(file)))
    assert len(digests) == 4
    assert file_digest([b"1" * 16, b"2" * 16]) != file_digest([b"2" * 16, b"1" * 16])
