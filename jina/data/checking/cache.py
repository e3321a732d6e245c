"""What a scan found, kept on disk: a second start on unchanged files checks nothing again.

    files, settings, our code ─► name of the cache file
    digests of the files, sizes and times of all images ─ as they were? ─► the scan, else a new one

The file is numpy's `.npz`, read without pickle, and ends with a digest of itself. Whatever is wrong
with it, it is left aside and written anew. Deleting the folder costs no more than the next check.
"""

import hashlib
import io
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL

from jina.data.checking.line_chunks import chunk_digest, file_digest, split_file
from jina.data.checking.row_check import Rules, stamp_of
from jina.data.records import TASKS
from jina.data.row_index import (
    ITEM_COLUMNS,
    ROW_COLUMNS,
    SIDES,
    Columns,
    RowIndex,
    column_types,
)
from jina.data.validation import Problem, Scan, image_root, readable, scan

logger = logging.getLogger("smartembed")

DIGEST_BYTES = 16
# What a file that is not ours, or not ours any more, makes its readers raise.
_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
_DAMAGE += (zipfile.BadZipFile, zlib.error)


def cached_scan(
    files: Sequence[Path],
    *,
    image_base_dir: Path | str | None = None,
    deep: bool = False,
    tasks: Sequence[str] = (),
    folder: Path | None = None,
) -> Scan:
    """Return what `scan` returns, from `folder` if that is still true.

    Args:
        files: As for `scan`, like the next three.
        image_base_dir: See there.
        deep: See there.
        tasks: See there.
        folder: Where results are kept; None keeps nothing.
    """
    settings = {"image_base_dir": image_base_dir, "deep": deep, "tasks": tasks}
    if folder is None:
        return scan(files, **settings)
    rules, roots = Rules(deep, tuple(tasks)), [image_root(file, image_base_dir) for file in files]
    file = folder / f"{_key(readable(files), roots, rules)}.npz"
    try:
        return _read(file, tuple(files), tuple(roots), rules)
    except FileNotFoundError:
        logger.debug("%s: not there yet", file)
    except _DAMAGE as error:
        logger.debug("%s: not used, because %s", file, error)
    found = scan(files, **settings)
    try:
        _write(file, found)
    except OSError as error:
        logger.warning("%s: the next start will check again; got %s; free some space", file, error)
    return found


def _key(files: Sequence[Path], roots: Sequence[Path], rules: Rules) -> str:
    """Return a name for the question that a scan answers: other code, too, asks another one."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    question = [[str(path.absolute()) for path in (*files, *roots)], rules, PIL.__version__]
    digest.update(json.dumps(question).encode())
    for module in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()


def _write(file: Path, found: Scan) -> None:
    """Write a scan beside its place and move it there, so that nobody reads half of it."""
    numbers = {str(path): number for number, path in enumerate(found.files)}
    head = {
        "question": file.stem,
        "lines": found.lines,
        "digests": [digest.hex() for digest in found.digests],
        "problems": [(numbers[file], *rest) for file, *rest in found.problems],
        "sources": found.index.source_names,
        "languages": found.index.language_names,
        "stamps": [(number, len(piece)) for number, piece in found.stamps],
    }
    texts = {
        "head": json.dumps(head).encode(),
        "stamps": b"".join(piece for _, piece in found.stamps),
    }
    arrays = {name: np.frombuffer(text, np.uint8) for name, text in texts.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, **found.index.columns())
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}")
    with draft.open("wb") as stream:
        stream.write(buffer.getbuffer())
        stream.write(_digest(buffer.getbuffer()))
    draft.replace(file)


def _read(file: Path, files: tuple[Path, ...], roots: tuple[Path, ...], rules: Rules) -> Scan:
    """Read what `_write` wrote; raise one of `_DAMAGE` if it is damaged or no longer true."""
    data = memoryview(file.read_bytes())
    payload = data[:-DIGEST_BYTES]
    _require(_digest(payload) == data[-DIGEST_BYTES:], "it is damaged")
    with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
        columns = {name: stored[name] for name in stored.files}
    head = json.loads(columns.pop("head").tobytes())
    stamps = _pieces(columns.pop("stamps").tobytes(), head["stamps"])
    _check_columns(columns, head)
    digests = [bytes.fromhex(digest) for digest in head["digests"]]
    is_ours = head["question"] == file.stem and len(digests) == len(head["lines"]) == len(files)
    _require(is_ours, "it answers another question")
    _require(digests == [_digest_of(path) for path in files], "the rows have changed")
    for number, piece in stamps:
        for name, stamp in json.loads(zlib.decompress(piece)).items():
            _require(stamp_of(roots[number], name) == stamp, f"{name} has changed")
    return Scan(
        files=files,
        roots=roots,
        rules=rules,
        index=RowIndex.from_columns(
            columns, source_names=head["sources"], language_names=head["languages"]
        ),
        problems=[Problem(str(files[number]), *rest) for number, *rest in head["problems"]],
        lines=head["lines"],
        digests=digests,
        stamps=stamps,
    )


def _check_columns(columns: Columns, head: dict[str, list]) -> None:
    """Raise `ValueError` unless every array can be what it should be."""
    types = column_types()
    _require(columns.keys() == types.keys(), "it has other columns")
    for name, column in columns.items():
        _require(column.ndim == 1 and column.dtype == np.dtype(types[name]), f"{name}: its type")
    rows = len(columns["lines"])
    limits = {"files": head["lines"], "sources": head["sources"], "languages": head["languages"]}
    for name, table in {**limits, "tasks": TASKS}.items():
        _require(bool((columns[name] < len(table)).all()), f"{name}: a number too large")
    _require({len(columns[name]) for name in ROW_COLUMNS} == {rows}, "columns of several lengths")
    for side in SIDES:
        offsets = columns[f"{side}.offsets"]
        _require(len(offsets) == rows + 1 and offsets[0] == 0, f"{side}: their number")
        _require(bool((np.diff(offsets) >= 0).all()), f"{side}: their order")
        lengths = {len(columns[f"{side}.{name}"]) for name in ITEM_COLUMNS}
        _require(lengths == {int(offsets[-1])}, f"{side}: their length")


def _pieces(text: bytes, lengths: list[tuple[int, int]]) -> list[tuple[int, bytes]]:
    """Cut the stamps into the pieces they were joined from."""
    pieces, start = [], 0
    for number, length in lengths:
        pieces.append((number, text[start : start + length]))
        start += length
    return pieces


def _digest_of(file: Path) -> bytes:
    """Return the digest of a file as a scan has it."""
    return file_digest(chunk_digest(file, chunk) for chunk in split_file(file))


def _digest(data: bytes | memoryview) -> bytes:
    """Return the digest a cache file ends with."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _require(is_so: bool, otherwise: str) -> None:
    """Raise `ValueError` unless something is so."""
    if not is_so:
        raise ValueError(otherwise)
