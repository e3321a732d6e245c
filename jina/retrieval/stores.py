"""What holds an index: one folder, or a server. Both take batches and answer with hits."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import numpy as np

from jina.retrieval.errors import RetrievalError
from jina.retrieval.vector_files import DTYPES, VectorBatch

KINDS = ("exact", "hnsw")


@dataclass(frozen=True)
class Entry:
    """What is known of a row besides its vectors; `image` is an absolute path."""

    id: str
    text: str | None
    image: str | None
    metadata: dict[str, object] | None


@dataclass(frozen=True)
class Hit:
    """A row that was found, with its score: MaxSim if it was reranked, else the inner product."""

    entry: Entry
    score: float


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """What an index is made for; it stays the same for good.

    Attributes:
        model: Fingerprint of the model whose vectors it takes.
        model_folder: Where that model lay; only a hint.
        task: The adapter they are made with.
        max_text_tokens: Longer texts were cut.
        max_pixels: Larger images were shrunk to it; None for what the checkpoint says.
        dim: Size of the single vectors, D.
        multi_dim: Size of the multi vectors, H; None if there are none.
        kind: `exact` or `hnsw`.
        dtype: Type of the multi vectors where they are kept.
    """

    model: str
    model_folder: str = field(default="", compare=False)
    task: str
    max_text_tokens: int
    max_pixels: int | None = None
    dim: int
    multi_dim: int | None = None
    kind: str = "exact"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Refuse what no index can be made of."""
        if self.kind not in KINDS or self.dtype not in DTYPES:
            raise ValueError(f"kind, dtype: unknown; got {self}; use {KINDS} and {list(DTYPES)}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "IndexSettings":
        """Read what `dataclasses.asdict` made; raise `KeyError` or `TypeError` if it didn't."""
        return cls(**{setting.name: values[setting.name] for setting in fields(cls)})

    @property
    def vectors(self) -> tuple[str, ...]:
        """Which kinds of vectors the index takes."""
        return ("single",) if self.multi_dim is None else ("single", "multi")

    def refuse_other(self, where: object, wanted: "IndexSettings") -> None:
        """Raise `RetrievalError` with every setting that isn't as wanted."""
        before, after = asdict(self), asdict(wanted)
        problems = [
            f"{where}: {setting.name}: the index has another one; got {after[setting.name]!r} "
            f"instead of {before[setting.name]!r}; use the same, or make another index"
            for setting in fields(self)
            if setting.compare and before[setting.name] != after[setting.name]
        ]
        if problems:
            raise RetrievalError(*problems)


class Store(Protocol):
    """Where rows are kept and found."""

    @property
    def settings(self) -> IndexSettings:
        """What the index is made for."""

    def __len__(self) -> int:
        """Return how many rows can be found."""

    def present(self, ids: Sequence[str]) -> list[str]:
        """Return those of some ids that are there."""

    def add(self, batches: Iterable[VectorBatch]) -> int:
        """Add rows and return how many; raise `RetrievalError` if ids are there already."""

    def delete(self, ids: Sequence[str]) -> int:
        """Delete rows and return how many; raise `RetrievalError` if one isn't there."""

    def find(
        self, single: np.ndarray, multi: np.ndarray | None, *, top: int, candidates: int
    ) -> list[Hit]:
        """Find rows for one query.

        Args:
            single: (D,), of length 1.
            multi: (M, H) to rank the candidates by; None ranks by the single vector.
            top: How many rows to return.
            candidates: How many rows the single vector chooses for the multi vectors to rank.
        """
