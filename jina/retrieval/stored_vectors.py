"""Vectors of a collection on disk, so that token vectors are never all in memory.

items ─ Embedder ─► shards ─ the first process writes ─► two plain files ─► memory-mapped by all

The files live in a folder that all processes see, and only as long as they are needed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jina.retrieval.item_embedding import Embedder, EmbeddingItem


@dataclass(frozen=True, eq=False)
class StoredVectors:
    """Vectors of N items.

    Attributes:
        identities: (N,) uint64, ascending.
        single: (N, H) float32, memory-mapped.
        tokens: (sum of lengths, D) float32, memory-mapped; `None` without multi vectors.
        offsets: (N + 1,) where the token vectors of each item begin.
    """

    identities: np.ndarray
    single: np.ndarray
    tokens: np.ndarray | None
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """How many token vectors each item has."""
        return np.diff(self.offsets)

    def places(self, identities: np.ndarray) -> np.ndarray:
        """Return where items stand that are known to be here."""
        return np.searchsorted(self.identities, identities)

    def tokens_of(self, place: int) -> np.ndarray:
        """Return (tokens, D) of one item."""
        return self.tokens[self.offsets[place] : self.offsets[place + 1]]


def store_vectors(
    embedder: Embedder,
    items: Iterable[EmbeddingItem],
    role: str,
    *,
    identities: np.ndarray,
    folder: Path,
) -> StoredVectors:
    """Embed items and keep their vectors in a folder.

    Args:
        embedder: with or without multi vectors.
        items: to embed.
        role: of all of them.
        identities: of the items, ascending.
        folder: a new folder, the same for all processes.
    """
    single_file, token_file = folder / "single.f32", folder / "tokens.f32"
    lengths: list[int] = []
    sizes = (0, 0)
    if embedder.processes.is_first:
        folder.mkdir(parents=True)
    for batch in embedder.embed(items, role, total=len(identities)):
        multi = batch.multi or []
        lengths += map(len, multi)
        sizes = (batch.single.shape[1], multi[0].shape[1] if multi else 0)
        if embedder.processes.is_first:
            with single_file.open("ab") as single, token_file.open("ab") as tokens:
                single.write(batch.single.tobytes())
                tokens.writelines(vectors.tobytes() for vectors in multi)
    embedder.processes.exchange(None)  # the files are complete from here
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    shape = (len(identities), sizes[0])
    single = np.memmap(single_file, np.float32, "r", shape=shape)
    tokens = None
    if embedder.multi:
        tokens = np.memmap(token_file, np.float32, "r", shape=(int(offsets[-1]), sizes[1]))
    return StoredVectors(identities, single, tokens, offsets)
