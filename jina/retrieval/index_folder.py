"""The files of an index: which belong together, whether they are sound, and how a change is made.

    index.json           settings, digests, and the names of all other files
    single-G.faiss       single vectors of all rows, an exact or an HNSW index of inner products
    entries-G.parquet    id, text, image, metadata and number of tokens, a file for each addition
    multi-G.vectors      multi vectors end to end, memory-mapped, a file for each addition
    deleted-G.npy        the rows that were deleted

G is the generation, the number of changes so far. A change writes new files, then `index.json`,
whose renaming is the moment the change happens; files it doesn't name are left over from a process
that was killed, and the next change removes them. Whole files are read only if their digest is the
one in `index.json`; of memory-mapped ones, which are plain numbers, the size must be right.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jina.retrieval.durable_files import claim_folder, locked, read_json, sha256_of, write_json
from jina.retrieval.errors import RetrievalError
from jina.retrieval.stores import IndexSettings

MANIFEST = "index.json"
FORMAT = 1
PATTERNS = ("single-*.faiss", "entries-*.parquet", "multi-*.vectors", "deleted-*.npy")


class IndexFolder:
    """The folder of an index.

    Attributes:
        path: Where it lies.
        settings: What the index is made for.
        parts: Of each addition its `rows` and the names of its files, `entries` and `multi`.
        generation: How often the index was changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / MANIFEST).is_file():
            raise RetrievalError(
                f"{path}: is no index; got no {MANIFEST}; make one with python -m jina index"
            )
        self.load()

    @classmethod
    def create(cls, path: Path, settings: IndexSettings) -> "IndexFolder":
        """Make the folder of an empty index."""
        manifest = {"format": FORMAT, "settings": asdict(settings), "generation": 0, "parts": []}
        claim_folder(path, MANIFEST, {**manifest, "single": None, "deleted": None, "digests": {}})
        return cls(path)

    def load(self) -> None:
        """Read the manifest as it is now."""
        values = read_json(self.path / MANIFEST)
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']}, where this code reads {FORMAT}")
            self.settings = IndexSettings.from_dict(values["settings"])
            self.generation = int(values["generation"])
            self.parts: list[dict[str, Any]] = [dict(part) for part in values["parts"]]
            self.single: str | None = values["single"]
            self.deleted: str | None = values["deleted"]
            self._digests: dict[str, str] = dict(values["digests"])
            for name in self._names():
                self.file(name)
        except (KeyError, TypeError, ValueError) as error:
            raise self.unsound(error) from error

    def unsound(self, error: Exception) -> RetrievalError:
        """Return the error for a manifest that contradicts itself or its files."""
        where = self.path / MANIFEST
        return RetrievalError(f"{where}: describes no index; got {error!r}; make the index anew")

    def file(self, name: str) -> Path:
        """Return the path of a file; a manifest may not lead elsewhere."""
        if Path(name).name != name:
            raise ValueError(f"{name!r} is not the name of a file")
        return self.path / name

    def checked(self, name: str) -> Path:
        """Return the path of a file whose content is what was written."""
        file = self.file(name)
        if not file.is_file() or sha256_of(file) != self._digests.get(name):
            raise RetrievalError(
                f"{file}: is missing or was changed; got another digest than {MANIFEST} has; "
                "restore the file or make the index anew"
            )
        return file

    @contextmanager
    def changing(self) -> Iterator[int]:
        """Lock the folder and give the next generation; what the block then notes here is kept.

        If the block raises, the folder is as before.
        """
        with locked(self.path, exclusive=True):
            self.load()
            self._remove_leftovers()
            try:
                yield self.generation + 1
                self.generation += 1
                self._commit()
            finally:
                self.load()
                self._remove_leftovers()

    def _names(self) -> set[str]:
        """Return the names of all files."""
        names = {part[kind] for part in self.parts for kind in ("entries", "multi")}
        return {name for name in {*names, self.single, self.deleted} if name is not None}

    def _commit(self) -> None:
        """Make what was noted the index."""
        whole = [name for name in sorted(self._names()) if not name.startswith("multi-")]
        write_json(
            self.path / MANIFEST,
            {
                "format": FORMAT,
                "settings": asdict(self.settings),
                "generation": self.generation,
                "parts": self.parts,
                "single": self.single,
                "deleted": self.deleted,
                "digests": {n: self._digests.get(n) or sha256_of(self.file(n)) for n in whole},
            },
        )

    def _remove_leftovers(self) -> None:
        """Delete files of changes that were killed, and those that a change replaced."""
        named = self._names()
        for pattern in PATTERNS:
            for file in self.path.glob(pattern):
                if file.name not in named:
                    file.unlink()
