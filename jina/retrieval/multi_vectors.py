"""Multi vectors end to end in one memory-mapped file, and the MaxSim score over them.

Shapes: L tokens of a row, T tokens of all rows, M tokens of the query, H vector size.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jina.retrieval.errors import RetrievalError
from jina.retrieval.vector_files import DTYPES


def max_sim(query: np.ndarray, documents: Sequence[np.ndarray]) -> np.ndarray:
    """Score documents by late interaction (ColBERT, arXiv 2004.12832).

    For each token of the query the best token of the document counts, and these are added up.

    Args:
        query: (M, H).
        documents: N arrays (L, H), each with at least one token.

    Returns:
        (N,) float32.
    """
    if not len(documents):
        return np.empty(0, np.float32)
    starts = np.cumsum([0, *map(len, documents[:-1])])
    tokens = np.concatenate(documents).astype(np.float32, copy=False)  # (T, H)
    similarities = query.astype(np.float32, copy=False) @ tokens.T  # (M, T)
    return np.maximum.reduceat(similarities, starts, axis=1).sum(axis=0)


class MultiVectorFile:
    """The multi vectors of some rows, read from disk where they are looked at.

    Args:
        file: As `write_tokens` wrote it.
        counts: (N,) number of tokens of each row.
        dim: H.
        dtype: A key of `DTYPES`.

    Raises:
        RetrievalError: If the file's size isn't what the counts say.
    """

    def __init__(self, file: Path, counts: np.ndarray, *, dim: int, dtype: str) -> None:
        self._ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        shape = (int(self._ends[-1]), dim)
        expected = shape[0] * dim * np.dtype(DTYPES[dtype]).itemsize
        size = file.stat().st_size if file.is_file() else 0
        if size != expected:
            what = f"does not hold {shape[0]:,} vectors"
            raise RetrievalError(f"{file}: {what}; got {size:,} bytes; make the index anew")
        self._tokens = np.memmap(file, DTYPES[dtype], "r", shape=shape)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the multi vectors (L, H) of a row."""
        return self._tokens[self._ends[row] : self._ends[row + 1]]


def write_tokens(file: Path, matrices: Iterable[np.ndarray], dtype: str) -> None:
    """Write the multi vectors of some rows end to end, and see them to the disk.

    The file is half there while this runs; nobody looks at it before a manifest names it.
    """
    with file.open("wb") as stream:
        for matrix in matrices:
            stream.write(np.ascontiguousarray(matrix, DTYPES[dtype]).tobytes())
        stream.flush()
        os.fsync(stream.fileno())
