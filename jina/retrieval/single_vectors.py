"""Single vectors in FAISS: exact by default, or a graph (HNSW) that looks at a part of them.

    query ─ FAISS, deleted rows left out ─► candidates ─ scores anew in float64 ─► top rows

FAISS adds up in an order of its own, so that equal vectors may differ in the last bit. Scores of
the candidates are therefore computed anew, and among equal scores the lower row comes first; where
the last score is shared, more candidates are taken until the choice is certain.

Shapes: Q queries, N rows, D vector size, K results.
"""

from pathlib import Path

import numpy as np

from jina.retrieval.errors import RetrievalError, library

# Enough for recall@10 >= 0.95 on 20,000 random vectors, which have no structure to go by.
HNSW_LINKS = 32
HNSW_BUILD_WIDTH = 200
HNSW_SEARCH_WIDTH = 1024
# By how much FAISS's scores may differ from exact ones, for vectors of length 1.
TOLERANCE = 1e-4


class SingleVectors:
    """Vectors of length 1 under the row numbers 0, 1, 2, …

    Args:
        index: From FAISS, as `new` and `read` make it.
        kind: `exact` or `hnsw`.
    """

    def __init__(self, index: object, kind: str) -> None:
        self._faiss = library("faiss", "an index of single vectors")
        self._index = index
        self.kind = kind

    @classmethod
    def new(cls, dim: int, kind: str = "exact") -> "SingleVectors":
        """Make an empty index for vectors of size `dim`."""
        faiss = library("faiss", "an index of single vectors")
        if kind == "exact":
            return cls(faiss.IndexFlatIP(dim), kind)
        index = faiss.IndexHNSWFlat(dim, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_BUILD_WIDTH
        return cls(index, kind)

    @classmethod
    def read(cls, file: Path, kind: str) -> "SingleVectors":
        """Read what `write` wrote; the caller has made sure of the file's digest."""
        faiss = library("faiss", "an index of single vectors")
        try:
            return cls(faiss.read_index(str(file)), kind)
        except RuntimeError as error:
            got = str(error).splitlines()[0]
            raise RetrievalError(
                f"{file}: cannot be read; got {got}; make the index anew"
            ) from error

    def write(self, file: Path) -> None:
        """Write the index to a file."""
        self._faiss.write_index(self._index, str(file))

    def __len__(self) -> int:
        return self._index.ntotal

    @property
    def dim(self) -> int:
        """Size of the vectors, D."""
        return self._index.d

    def add(self, vectors: np.ndarray) -> None:
        """Give the next rows to some vectors.

        Args:
            vectors: (N, D), of length 1.
        """
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))

    def search(
        self,
        queries: np.ndarray,
        top: int,
        *,
        deleted: np.ndarray | None = None,
        width: int | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Find the rows that score highest for each query.

        Args:
            queries: (Q, D), of length 1.
            top: K, how many rows to find.
            deleted: Rows that are left out.
            width: How many nodes of an HNSW graph to keep in sight; more find more, slower.

        Returns:
            For each query scores (K,) float32, falling, and rows (K,) int64; fewer where there are
            fewer rows. An HNSW graph may overlook some.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        gone = np.empty(0, np.int64) if deleted is None else np.asarray(deleted, np.int64)
        top = min(top, len(self) - len(gone))
        if top < 1:
            return [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
        return [self._search_one(query, top, gone, width) for query in queries]

    def _search_one(
        self, query: np.ndarray, top: int, deleted: np.ndarray, width: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the best rows for one query, taking more candidates where the last are a tie."""
        wanted, most = top, len(self) - len(deleted)
        while True:
            wanted = min(wanted + 8, most)
            found, rows = self._index.search(
                query[None], wanted, params=self._parameters(deleted, wanted, width)
            )
            found, rows = found[0][rows[0] >= 0], rows[0][rows[0] >= 0]
            is_certain = len(found) < wanted or found[-1] < found[top - 1] - TOLERANCE
            if is_certain or wanted == most:
                break
            wanted *= 2
        vectors = self._index.reconstruct_batch(rows).astype(np.float64)
        scores = (vectors @ query.astype(np.float64)).astype(np.float32)
        order = np.lexsort((rows, -scores))[:top]
        return scores[order], rows[order]

    def _parameters(self, deleted: np.ndarray, wanted: int, width: int | None) -> object:
        """Return FAISS's parameters of one search."""
        faiss = self._faiss
        chosen = (
            {"sel": faiss.IDSelectorNot(faiss.IDSelectorBatch(deleted))} if len(deleted) else {}
        )
        if self.kind == "exact":
            return faiss.SearchParameters(**chosen)
        width = max(width or HNSW_SEARCH_WIDTH, wanted)
        return faiss.SearchParametersHNSW(efSearch=width, **chosen)
