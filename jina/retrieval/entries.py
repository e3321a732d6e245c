"""What an index knows of its rows besides vectors: id, text, image, metadata, number of tokens."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jina.retrieval.durable_files import publish
from jina.retrieval.errors import RetrievalError, library
from jina.retrieval.stores import Entry
from jina.retrieval.vector_files import VectorBatch

COLUMNS = ("id", "text", "image", "metadata", "tokens")


class Entries:
    """The entries of all rows, in Arrow's memory, which is compact.

    Args:
        files: One for each addition, in order.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        arrow = library("pyarrow", "an index")
        self._table = arrow.concat_tables([_read(file) for file in files]) if files else None

    def __len__(self) -> int:
        return 0 if self._table is None else self._table.num_rows

    def __getitem__(self, row: int) -> Entry:
        """Return the entry of one row."""
        (values,) = self._table.slice(row, 1).to_pylist()
        metadata = values["metadata"]
        parsed = None if metadata is None else json.loads(metadata)
        return Entry(values["id"], values["text"], values["image"], parsed)

    def ids(self) -> list[str]:
        """Return the ids of all rows, deleted ones too."""
        return [] if self._table is None else self._table["id"].to_pylist()

    def token_counts(self) -> np.ndarray:
        """Return how many multi vectors each row has: (N,) int64."""
        if self._table is None:
            return np.empty(0, np.int64)
        return self._table["tokens"].to_numpy().astype(np.int64)


class EntryWriter:
    """Collects the entries of one addition."""

    def __init__(self) -> None:
        self._columns: dict[str, list[object]] = {name: [] for name in COLUMNS}

    def add(self, batch: VectorBatch) -> None:
        """Take the entries of a batch."""
        columns = self._columns
        columns["id"] += batch.ids
        columns["text"] += batch.texts
        columns["image"] += batch.images
        columns["metadata"] += [
            None if values is None else json.dumps(values, ensure_ascii=False)
            for values in batch.metadata
        ]
        columns["tokens"] += [len(matrix) for matrix in batch.multi or [()] * len(batch)]

    @property
    def ids(self) -> Sequence[Any]:
        """The ids so far."""
        return self._columns["id"]

    def write(self, file: Path) -> None:
        """Publish a Parquet file."""
        arrow = library("pyarrow", "an index")
        parquet = library("pyarrow.parquet", "an index")
        types = [arrow.string()] * 4 + [arrow.int64()]
        table = arrow.table(
            list(self._columns.values()),
            schema=arrow.schema(list(zip(COLUMNS, types, strict=True))),
        )
        publish(file, lambda partial: parquet.write_table(table, partial))


def repeated(ids: Iterable[str]) -> list[str]:
    """Return the ids that stand more than once."""
    seen: set[str] = set()
    return [id for id in ids if id in seen or seen.add(id)]


def _read(file: Path) -> Any:
    """Read the entries of one addition."""
    arrow = library("pyarrow", "an index")
    parquet = library("pyarrow.parquet", "an index")
    try:
        with parquet.ParquetFile(file) as opened:
            table = opened.read(columns=list(COLUMNS))
        table.validate(full=True)
    except (arrow.ArrowException, OSError) as error:
        raise RetrievalError(f"{file}: cannot be read; got {error}; make the index anew") from error
    return table
