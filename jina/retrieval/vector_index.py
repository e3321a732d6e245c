"""An index: search by single vectors, look up multi vectors, add and delete without a rebuild.

    VectorBatch ─ add ─► rows 0, 1, 2, … ─ search ─► scores, rows ─ entry, multi ─► what they are

A row keeps its number for good. Adding inserts vectors, deleting marks rows that searches then
leave out. What the files are is told in `index_folder`.

Shapes: Q queries, D size of single vectors, L tokens of a row, H size of multi vectors.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from jina.retrieval.durable_files import locked, publish
from jina.retrieval.entries import Entries, EntryWriter, repeated
from jina.retrieval.errors import RetrievalError
from jina.retrieval.index_folder import MANIFEST, IndexFolder
from jina.retrieval.multi_vectors import MultiVectorFile, max_sim, write_tokens
from jina.retrieval.single_vectors import SingleVectors
from jina.retrieval.stores import Entry, Hit, IndexSettings
from jina.retrieval.vector_files import VectorBatch

MAX_SHOWN = 5
# Vectors in half precision are off their length by less than this.
LENGTH_TOLERANCE = 0.01


class VectorIndex:
    """An index that was opened; what other processes change later isn't seen."""

    def __init__(self, path: Path) -> None:
        """Open an index.

        Raises:
            RetrievalError: If there is none, or files are missing or damaged.
        """
        self._folder = IndexFolder(path)
        with locked(path, exclusive=False):
            self._folder.load()
            self._read()

    @classmethod
    def create(cls, path: Path, settings: IndexSettings) -> "VectorIndex":
        """Make an empty index, or open the one that is there if it has the same settings."""
        if not (path / MANIFEST).is_file():
            IndexFolder.create(path, settings)
        index = cls(path)
        index.settings.refuse_other(path, settings)
        return index

    @property
    def path(self) -> Path:
        """Where the index lies."""
        return self._folder.path

    @property
    def settings(self) -> IndexSettings:
        """What the index is made for."""
        return self._folder.settings

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

    def present(self, ids: Sequence[str]) -> list[str]:
        """Return those of some ids that are there."""
        known = self.ids()
        return [id for id in ids if id in known]

    def multi(self, row: int) -> np.ndarray:
        """Return the multi vectors (L, H) of a row, from disk."""
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._multi[part][row - int(self._starts[part])]

    def search(
        self, queries: np.ndarray, top: int, *, width: int | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Find the `top` rows for each of (Q, D) queries; see `SingleVectors.search`."""
        return self._single.search(queries, top, deleted=self._deleted, width=width)

    def find(
        self, single: np.ndarray, multi: np.ndarray | None, *, top: int, candidates: int
    ) -> list[Hit]:
        """Find rows for one query; see `Store.find`."""
        wanted = top if multi is None else max(top, candidates)
        ((scores, rows),) = self.search(single[None], wanted)
        if multi is not None:
            scores = max_sim(multi, [self.multi(row) for row in rows])
            order = np.lexsort((rows, -scores))
            scores, rows = scores[order], rows[order]
        pairs = zip(scores[:top].tolist(), rows[:top].tolist(), strict=True)
        return [Hit(self.entry(row), score) for score, row in pairs]

    def add(self, batches: Iterable[VectorBatch]) -> int:
        """Add rows and return how many: all of them, or none if anything is wrong.

        Raises:
            RetrievalError: If ids repeat or vectors don't fit.
        """
        with self._changing() as generation:
            writer, known = EntryWriter(), self.ids()

            def checked() -> Iterable[VectorBatch]:
                """Pass batches on, remembering all but their multi vectors."""
                for batch in batches:
                    self._check(batch, known)
                    self._single.add(batch.single)
                    writer.add(batch)
                    yield batch

            self._write_part(checked(), writer, generation)
        return len(writer.ids)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete rows and return how many: all that are named, or none if one isn't there."""
        with self._changing() as generation:
            rows = self.ids()
            if unknown := [id for id in dict.fromkeys(ids) if id not in rows]:
                got = ", ".join(unknown[:MAX_SHOWN])
                raise RetrievalError(f"{self.path}: has no such ids; got {got}; correct them")
            gone = {rows[id] for id in ids}
            deleted = np.array(sorted({*self._deleted.tolist(), *gone}), np.int64)
            name = f"deleted-{generation}.npy"
            publish(self._folder.file(name), lambda file: _save_array(file, deleted))
            self._folder.deleted = name
        return len(gone)

    @contextmanager
    def _changing(self) -> Iterator[int]:
        """Change the folder as it is now, and read what came of it."""
        try:
            with self._folder.changing() as generation:
                self._read()
                yield generation
        finally:
            self._read()

    def _read(self) -> None:
        """Open the files that the manifest names."""
        folder, settings = self._folder, self.settings
        self._entries = Entries([folder.checked(part["entries"]) for part in folder.parts])
        ends = np.cumsum([0, *(part["rows"] for part in folder.parts)])
        self._starts = ends[:-1]
        self._single = SingleVectors.new(settings.dim, settings.kind)
        if folder.single is not None:
            self._single = SingleVectors.read(folder.checked(folder.single), settings.kind)
        self._deleted = np.empty(0, np.int64)
        if folder.deleted is not None:
            self._deleted = np.load(folder.checked(folder.deleted), allow_pickle=False)
        if {len(self._single), len(self._entries)} != {int(ends[-1])}:
            found = f"{len(self._single)} vectors, {len(self._entries)} entries, {ends[-1]} rows"
            raise folder.unsound(ValueError(found))
        counts = self._entries.token_counts()
        sizes = {"dim": settings.multi_dim, "dtype": settings.dtype}
        self._multi = [
            MultiVectorFile(folder.file(part["multi"]), counts[start:end], **sizes)
            for part, start, end in zip(folder.parts, ends[:-1], ends[1:], strict=True)
            if part["multi"] is not None
        ]

    def _write_part(
        self, batches: Iterable[VectorBatch], writer: EntryWriter, generation: int
    ) -> None:
        """Write the files of an addition and note them."""
        folder, multi = self._folder, None
        if self.settings.multi_dim is None:
            for _ in batches:
                pass
        else:
            multi = f"multi-{generation}.vectors"
            matrices = (matrix for batch in batches for matrix in batch.multi)
            write_tokens(folder.file(multi), matrices, self.settings.dtype)
        if again := repeated(writer.ids):
            raise self._taken(again)
        if not writer.ids:
            return
        entries, single = f"entries-{generation}.parquet", f"single-{generation}.faiss"
        writer.write(folder.file(entries))
        publish(folder.file(single), self._single.write)
        folder.parts.append({"rows": len(writer.ids), "entries": entries, "multi": multi})
        folder.single = single

    def _check(self, batch: VectorBatch, known: dict[str, int]) -> None:
        """Refuse a batch that doesn't fit the index."""
        if taken := [id for id in batch.ids if id in known]:
            raise self._taken(taken)
        dim = None if batch.single is None else batch.single.shape[1]
        widths = {matrix.shape[1] for matrix in batch.multi or ()} or {None}
        fits = dim == self.settings.dim and widths == {self.settings.multi_dim}
        if not fits and len(batch):
            raise RetrievalError(
                f"{self.path}: vectors don't fit; got sizes {dim} and {widths} instead of "
                f"{self.settings.dim} and {self.settings.multi_dim}; embed with the same settings"
            )
        if any(not len(matrix) for matrix in batch.multi or ()):
            raise RetrievalError(f"{self.path}: an item has no tokens; got {batch.ids}; embed anew")
        lengths = np.linalg.norm(batch.single.astype(np.float32), axis=1)
        # Written so that NaN, which is never close, fails too.
        for row in np.flatnonzero(~(np.abs(lengths - 1) < LENGTH_TOLERANCE))[:1]:
            raise RetrievalError(
                f"{self.path}: {batch.ids[row]}: vector isn't of length 1; "
                f"got {lengths[row]:g}; embed it again"
            )

    def _taken(self, ids: Sequence[str]) -> RetrievalError:
        """Return the error for ids that are there already."""
        got = ", ".join(ids[:MAX_SHOWN])
        return RetrievalError(
            f"{self.path}: {len(ids):,} ids are taken already; got {got}; "
            "delete them first, or leave them out"
        )


def _save_array(file: Path, array: np.ndarray) -> None:
    """Write an array under exactly this name; `np.save` would add a suffix to it."""
    with file.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)
