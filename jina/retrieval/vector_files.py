"""Vectors in Parquet: one shard, one file, as vector databases read it.

    id: string   text: string   image: string   metadata: string (JSON)
    single: list<float>         multi: list<list<float>>        (or halffloat)

Each file ends with a note of ours in the metadata of its schema: which model, which rows. Multi
vectors are ragged: one inner list a token.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jina.retrieval.durable_files import publish
from jina.retrieval.errors import RetrievalError, library

DTYPES = {"float32": np.float32, "float16": np.float16}
NOTE = b"smartembed"
# What the 32-bit offsets of an Arrow list can count.
MAX_NUMBERS = 2**31
_COLUMNS = ("id", "text", "image", "metadata")


@dataclass(frozen=True, eq=False)
class VectorBatch:
    """Some embedded items.

    Attributes:
        ids: N of them.
        texts: Of each item, None where it has none.
        images: Paths, None where an item has none.
        metadata: Of each item, None where it has none.
        single: (N, D), or None.
        multi: N arrays (L, D), L differing from item to item, or None.
    """

    ids: Sequence[str]
    texts: Sequence[str | None]
    images: Sequence[str | None]
    metadata: Sequence[Mapping[str, object] | None]
    single: np.ndarray | None = None
    multi: Sequence[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.ids)


def write_shard(
    file: Path, batch: VectorBatch, *, dtype: str = "float32", note: Mapping[str, Any]
) -> None:
    """Write one complete Parquet file.

    Args:
        file: Its name.
        batch: What it will hold.
        dtype: A key of `DTYPES`, for both kinds of vectors.
        note: JSON values to find in the file again.
    """
    arrow = library("pyarrow", "vectors in Parquet")
    parquet = library("pyarrow.parquet", "vectors in Parquet")
    metadata = [None if m is None else json.dumps(m, ensure_ascii=False) for m in batch.metadata]
    columns = {
        name: arrow.array(list(values), arrow.string())
        for name, values in zip(
            _COLUMNS, (batch.ids, batch.texts, batch.images, metadata), strict=True
        )
    }
    if batch.single is not None:
        columns["single"] = _lists(arrow, batch.single.astype(DTYPES[dtype], copy=False))
    if batch.multi is not None:
        columns["multi"] = _ragged_lists(arrow, batch.multi, DTYPES[dtype])
    table = arrow.table(columns).replace_schema_metadata({NOTE: json.dumps(note).encode()})
    # Random bits don't shrink, and dictionaries of floats only cost time.
    options = {"compression": "none", "use_dictionary": ["text", "image", "metadata"]}
    publish(file, lambda partial: parquet.write_table(table, partial, **options))


def read_note(file: Path) -> dict[str, Any]:
    """Return the note of a shard, without reading its vectors.

    Raises:
        RetrievalError: If the file is no shard of ours or cut off.
    """
    parquet, errors = _reader()
    try:
        return json.loads(parquet.read_schema(file).metadata[NOTE])
    except (errors, OSError, TypeError, LookupError, ValueError) as error:
        raise _not_a_shard(file, error) from error


def read_shard(file: Path) -> VectorBatch:
    """Read a shard back, vectors in the type they were written in.

    Raises:
        RetrievalError: If the file is no shard of ours or damaged.
    """
    parquet, errors = _reader()
    try:
        with parquet.ParquetFile(file) as opened:
            table = opened.read().combine_chunks()
            table.validate(full=True)
        ids, texts, images, metadata = (table[name].to_pylist() for name in _COLUMNS)
        single = _matrix(table["single"]) if "single" in table.column_names else None
        multi = _matrices(table["multi"]) if "multi" in table.column_names else None
        parsed = [None if text is None else json.loads(text) for text in metadata]
    except (errors, OSError, TypeError, LookupError, ValueError) as error:
        raise _not_a_shard(file, error) from error
    return VectorBatch(ids, texts, images, parsed, single, multi)


def _reader() -> tuple[Any, type[Exception]]:
    """Return pyarrow's Parquet module and what Arrow raises."""
    arrow = library("pyarrow", "vectors in Parquet")
    return library("pyarrow.parquet", "vectors in Parquet"), arrow.ArrowException


def _not_a_shard(file: Path, error: Exception) -> RetrievalError:
    """Return the error for a file that can't be read."""
    got = f"{type(error).__name__}: {error}"
    return RetrievalError(f"{file}: is no sound file of vectors; got {got}; delete it, embed again")


def _lists(arrow: Any, matrix: np.ndarray) -> Any:
    """Return the rows of a matrix as Arrow lists."""
    if matrix.size >= MAX_NUMBERS:
        advice = "use a smaller --shard-rows"
        raise RetrievalError(f"shard: holds too many numbers; got {matrix.size:,}; {advice}")
    ends = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return arrow.ListArray.from_arrays(ends, arrow.array(matrix.reshape(-1)))


def _ragged_lists(arrow: Any, matrices: Sequence[np.ndarray], dtype: type) -> Any:
    """Return matrices of different lengths as Arrow lists of lists."""
    rows = np.concatenate(matrices) if len(matrices) else np.empty((0, 0))
    rows = rows.astype(dtype, copy=False)
    ends = np.cumsum([0, *map(len, matrices)], dtype=np.int32)
    return arrow.ListArray.from_arrays(ends, _lists(arrow, rows))


def _matrix(column: Any) -> np.ndarray:
    """Return an Arrow column of lists of one length as a matrix."""
    return _rows(column.combine_chunks())


def _matrices(column: Any) -> list[np.ndarray]:
    """Return an Arrow column of lists of lists as matrices."""
    lists = column.combine_chunks()
    rows = _rows(lists.flatten())
    ends = np.cumsum([0, *_lengths(lists)])
    return [rows[start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)]


def _rows(lists: Any) -> np.ndarray:
    """Return Arrow lists as the rows of a matrix; raise `ValueError` if their lengths differ."""
    lengths, values = _lengths(lists), lists.flatten()
    width = int(lengths[0]) if len(lengths) else 0
    if values.null_count or (lengths != width).any():
        raise ValueError("vectors of different sizes, or with gaps")
    return values.to_numpy(zero_copy_only=True).reshape(len(lists), width)


def _lengths(lists: Any) -> np.ndarray:
    """Return the length of each Arrow list; raise `ValueError` if one is missing."""
    if lists.null_count:
        raise ValueError("items without vectors")
    return lists.value_lengths().to_numpy()
