"""A folder of embedded shards: what it was made for, which shards are there, and reading them.

embed.json               model, task, sizes, source with its digest, rows, rows of a shard
shard-00000.parquet, …   complete or not there; each carries a copy of embed.json
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jina.retrieval.durable_files import claim_folder, read_json
from jina.retrieval.errors import RetrievalError
from jina.retrieval.vector_files import VectorBatch, read_note, read_shard, write_shard

MANIFEST = "embed.json"
FORMAT = 1


class EmbeddedFolder:
    """The shards of one job.

    Attributes:
        path: Where they lie.
        manifest: What the job is, as JSON values.
    """

    def __init__(self, path: Path) -> None:
        """Open a folder that was claimed before.

        Raises:
            RetrievalError: If it holds no embedded shards.
        """
        self.path = path
        self.manifest = read_json(path / MANIFEST)
        try:
            if self.manifest["format"] != FORMAT:
                raise ValueError(f"format {self.manifest['format']}")
            self._count = -(-self.manifest["rows"] // self.manifest["shard_rows"])
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            where = path / MANIFEST
            raise RetrievalError(f"{where}: is no manifest; got {error!r}; embed again") from error

    @classmethod
    def claim(cls, path: Path, manifest: Mapping[str, Any]) -> "EmbeddedFolder":
        """Make a folder the place of a job, or go on there; refuse one of another job."""
        claim_folder(path, MANIFEST, {"format": FORMAT, **manifest})
        return cls(path)

    def __len__(self) -> int:
        """Return how many shards make up the job."""
        return self._count

    def missing(self) -> list[int]:
        """Return the numbers of shards that are not there; refuse those of other jobs."""
        there = [number for number in range(len(self)) if self._file(number).is_file()]
        foreign = [number for number in there if not self._is_ours(number)]
        if foreign:
            name, more = self._file(foreign[0]).name, len(foreign) - 1
            raise RetrievalError(
                f"{self.path}: holds shards of another job; got {name} and {more} more; "
                "delete them, or choose another folder"
            )
        return sorted({*range(len(self))} - {*there})

    def rows_of(self, number: int) -> int:
        """Return how many items of the corpus fall into a shard."""
        size = self.manifest["shard_rows"]
        return min(size, self.manifest["rows"] - number * size)

    def write(self, number: int, batch: VectorBatch, *, skipped: list[str]) -> None:
        """Write a shard."""
        note = {**self.manifest, "shard": number, "skipped": skipped}
        write_shard(self._file(number), batch, dtype=self.manifest["dtype"], note=note)

    def skipped(self) -> list[str]:
        """Return what is wrong with each item that was left out of the shards that are there."""
        files = (self._file(number) for number in range(len(self)))
        return [text for file in files if file.is_file() for text in read_note(file)["skipped"]]

    def read(self) -> Iterator[VectorBatch]:
        """Yield the shards; raise `RetrievalError` first if any is missing."""
        if missing := self.missing():
            got = f"{len(missing)} of {len(self)} shards missing"
            raise RetrievalError(f"{self.path}: isn't finished; got {got}; run embed again")
        return (read_shard(self._file(number)) for number in range(len(self)))

    def _file(self, number: int) -> Path:
        return self.path / f"shard-{number:05}.parquet"

    def _is_ours(self, number: int) -> bool:
        """Tell whether a shard carries this manifest."""
        note = read_note(self._file(number))
        return {**note, **self.manifest, "shard": number} == note
