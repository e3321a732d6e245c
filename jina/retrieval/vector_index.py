"""An index in one folder: search by single vectors, rerank by multi vectors, add and delete.

    index.json           what belongs together: settings, files with digests, rows
    single-G.faiss       single vectors of all rows, an exact or an HNSW index of inner products
    entries-G.parquet    id, text, image, metadata and number of tokens, a file for each addition
    multi-G.vectors      multi vectors end to end, memory-mapped, a file for each addition
    deleted-G.npy        the rows that were deleted

A row keeps its number for good. A change writes new files, then `index.json`, whose renaming is
the moment the change happens; files it doesn't name are left over from a process that was killed,
and the next change removes them. FAISS and Arrow only see files whose digest is the one in
`index.json`. Adding inserts vectors and deleting marks rows, so nothing is ever rebuilt.

Shapes: N rows, D size of single vectors, L tokens of a row, H size of multi vectors.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jina.retrieval.durable_files import (
    claim_folder,
    locked,
    publish,
    read_json,
    sha256_of,
    write_json,
)
from jina.retrieval.entries import Entries, Entry, EntryWriter, repeated
from jina.retrieval.errors import RetrievalError
from jina.retrieval.multi_vectors import MultiVectorFile, append_tokens
from jina.retrieval.single_vectors import KINDS, SingleVectors
from jina.retrieval.vector_files import DTYPES, VectorBatch

MANIFEST = "index.json"
FORMAT = 1
MAX_SHOWN = 5
# Vectors in half precision are off their length by up to this much.
LENGTH_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """What an index is made for; it stays the same for good.

    Attributes:
        model: Fingerprint of the model whose vectors it takes.
        task: The adapter they are made with.
        dim: Size of the single vectors, D.
        multi_dim: Size of the multi vectors, None if there are none.
        kind: `exact` or `hnsw`.
        dtype: Type of the multi vectors in their files.
    """

    model: str
    task: str
    dim: int
    multi_dim: int | None = None
    kind: str = "exact"
    dtype: str = "float32"


class VectorIndex:
    """An index that was opened; what other processes change later isn't seen.

    Attributes:
        folder: Where it lies.
        settings: What it is made for.
    """

    def __init__(self, folder: Path) -> None:
        """Open an index.

        Raises:
            RetrievalError: If there is none, or files are missing or damaged.
        """
        self.folder = folder
        if not (folder / MANIFEST).is_file():
            raise RetrievalError(
                f"{folder}: is no index; got no {MANIFEST}; make one with python -m jina index"
            )
        with locked(folder, exclusive=False):
            self._load()

    @classmethod
    def create(cls, folder: Path, settings: IndexSettings) -> "VectorIndex":
        """Make an empty index, or open the one that is there if it has the same settings."""
        if settings.kind not in KINDS or settings.dtype not in DTYPES:
            raise ValueError(f"kind, dtype: unknown; got {settings}; use {KINDS}, {list(DTYPES)}")
        if (folder / MANIFEST).is_file():
            index = cls(folder)
            _refuse_other(folder, index.settings, settings)
            return index
        claim_folder(folder, MANIFEST, {"format": FORMAT, **asdict(settings), "generation": 0})
        return cls(folder)

    def __len__(self) -> int:
        """Return how many rows can be found."""
        return len(self._entries) - len(self._deleted)

    def entry(self, row: int) -> Entry:
        """Return what is known of a row."""
        return self._entries[row]

    def ids(self) -> dict[str, int]:
        """Return the row of each id, without deleted ones."""
        gone = set(self._deleted.tolist())
        return {id: row for row, id in enumerate(self._entries.ids()) if row not in gone}

    def multi(self, row: int) -> np.ndarray:
        """Return the multi vectors (L, H) of a row, from disk."""
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[part][row - self._starts[part]]

    def search(
        self, queries: np.ndarray, top: int, *, width: int | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Find the `top` rows for each query; see `SingleVectors.search`."""
        return self._single.search(queries, top, deleted=self._deleted, width=width)

    def add(self, batches: Iterable[VectorBatch]) -> int:
        """Add rows and return how many: all of them, or none if anything is wrong.

        Raises:
            RetrievalError: If ids repeat or vectors don't fit.
        """
        with self._changing() as generation:
            writer, known = EntryWriter(), self.ids()
            name = f"multi-{generation}.vectors"
            with (self.folder / name).open("wb") as stream:
                for batch in batches:
                    self._check(batch, known)
                    writer.add(batch)
                    self._single.add(batch.single)
                    if self.settings.multi_dim is not None:
                        append_tokens(stream, batch.multi, self.settings.dtype)
            if again := repeated(writer.ids):
                raise self._taken(again)
            entries = f"entries-{generation}.parquet"
            writer.write(self.folder / entries)
            part = {"rows": len(writer.ids), "entries": entries, "multi": name}
            if part["rows"]:
                self._manifest["parts"] = [*self._manifest.get("parts", []), part]
                self._write_single(generation)
        return part["rows"]

    def delete(self, ids: Sequence[str]) -> int:
        """Delete rows and return how many: all that are named, or none if one isn't there."""
        with self._changing() as generation:
            rows = self.ids()
            if unknown := [id for id in dict.fromkeys(ids) if id not in rows]:
                got = ", ".join(unknown[:MAX_SHOWN])
                raise RetrievalError(f"{self.folder}: has no such ids; got {got}; correct them")
            gone = {rows[id] for id in ids}
            deleted = np.array(sorted({*self._deleted.tolist(), *gone}), np.int64)
            name = f"deleted-{generation}.npy"
            self._publish(name, lambda file: _save_array(file, deleted))
            self._manifest["deleted"] = name
        return len(gone)

    @contextmanager
    def _changing(self) -> Iterator[int]:
        """Lock the folder, let the block write files, then make them the index, or forget them."""
        with locked(self.folder, exclusive=True):
            self._load()
            self._remove_leftovers()
            try:
                yield self._manifest["generation"] + 1
                self._manifest["generation"] += 1
                self._manifest["digests"] = self._digests()
                write_json(self.folder / MANIFEST, self._manifest)
            finally:
                self._load()
                self._remove_leftovers()
