"""An index on a Qdrant server: a collection with named single and multi vectors.

    point: id = UUID of our id;  vectors "single" (D), "multi" (L, H) compared by MaxSim;
           payload "id", "text", "image", "metadata"
    collection metadata: our settings, so that vectors of another model are refused

The multi vectors have no graph of their own: they rank what the single vector chose.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np

from jina.retrieval.entries import repeated
from jina.retrieval.errors import RetrievalError, library
from jina.retrieval.stores import Entry, Hit, IndexSettings
from jina.retrieval.vector_files import VectorBatch

METADATA = "smartembed"
# Multi vectors of an image take up to 1 MB as JSON, and a server takes 32 MB at a time.
POINTS_AT_A_TIME = 16
IDS_AT_A_TIME = 1000
MAX_SHOWN = 5


class QdrantStore:
    """A collection that is there.

    Args:
        client: A connected `QdrantClient`, or one in its local mode.
        collection: The collection's name.

    Raises:
        RetrievalError: If there is no such collection, or it isn't ours.
    """

    def __init__(self, client: Any, collection: str) -> None:
        self._models = library("qdrant_client.models", "--backend qdrant")
        self._client, self._collection = client, collection
        if not self.exists(client, collection):
            raise RetrievalError(
                f"{collection}: is no collection of this server; got none of that name; "
                "make it with python -m jina index --backend qdrant"
            )
        with self._answering():
            metadata = client.get_collection(collection).config.metadata or {}
        try:
            self.settings = IndexSettings.from_dict(metadata[METADATA])
        except (KeyError, TypeError, ValueError) as error:
            raise RetrievalError(
                f"{collection}: isn't a collection of ours; got {error!r}; choose another name"
            ) from error

    @classmethod
    def create(cls, client: Any, collection: str, settings: IndexSettings) -> "QdrantStore":
        """Make a collection, or open the one that is there if it has the same settings."""
        models = library("qdrant_client.models", "--backend qdrant")
        dot = models.Distance.DOT
        vectors = {"single": models.VectorParams(size=settings.dim, distance=dot)}
        if settings.multi_dim is not None:
            vectors["multi"] = models.VectorParams(
                size=settings.multi_dim,
                distance=dot,
                datatype=models.Datatype(settings.dtype),
                hnsw_config=models.HnswConfigDiff(m=0),
                multivector_config=models.MultiVectorConfig(
                    comparator=models.MultiVectorComparator.MAX_SIM
                ),
            )
        if not cls.exists(client, collection):
            kept = {METADATA: asdict(settings)}
            with _answering(collection):
                client.create_collection(collection, vectors_config=vectors, metadata=kept)
        store = cls(client, collection)
        store.settings.refuse_other(collection, settings)
        return store

    @staticmethod
    def exists(client: Any, collection: str) -> bool:
        """Tell whether a server has a collection."""
        with _answering(collection):
            return client.collection_exists(collection)

    def __len__(self) -> int:
        """Return how many rows can be found."""
        with self._answering():
            return self._client.count(self._collection, exact=True).count

    def present(self, ids: Sequence[str]) -> list[str]:
        """Return those of some ids that are there."""
        found: list[str] = []
        for start in range(0, len(ids), IDS_AT_A_TIME):
            points = [_point_id(id) for id in ids[start : start + IDS_AT_A_TIME]]
            with self._answering():
                there = self._client.retrieve(self._collection, points, with_payload=["id"])
            found += [point.payload["id"] for point in there]
        return found

    def add(self, batches: Iterable[VectorBatch]) -> int:
        """Add rows and return how many; if some are refused, those before them stay added."""
        count = 0
        for batch in batches:
            for start in range(0, len(batch), POINTS_AT_A_TIME):
                rows = range(start, min(start + POINTS_AT_A_TIME, len(batch)))
                ids = [batch.ids[row] for row in rows]
                if taken := [*self.present(ids), *repeated(ids)]:
                    got = ", ".join(taken[:MAX_SHOWN])
                    raise RetrievalError(
                        f"{self._collection}: {len(taken):,} ids are taken already; got {got}; "
                        f"delete them first, or leave them out ({count:,} others were added)"
                    )
                points = [self._point(batch, row) for row in rows]
                with self._answering():
                    self._client.upsert(self._collection, points, wait=True)
                count += len(points)
        return count

    def delete(self, ids: Sequence[str]) -> int:
        """Delete rows and return how many: all that are named, or none if one isn't there."""
        wanted = list(dict.fromkeys(ids))
        there = set(self.present(wanted))
        if unknown := [id for id in wanted if id not in there]:
            got = ", ".join(unknown[:MAX_SHOWN])
            raise RetrievalError(f"{self._collection}: has no such ids; got {got}; correct them")
        with self._answering():
            self._client.delete(self._collection, [_point_id(id) for id in wanted], wait=True)
        return len(wanted)

    def find(
        self, single: np.ndarray, multi: np.ndarray | None, *, top: int, candidates: int
    ) -> list[Hit]:
        """Find rows for one query; see `Store.find`."""
        models = self._models
        is_exact = self.settings.kind == "exact"
        parameters = models.SearchParams(exact=True) if is_exact else None
        query = {"query": single.tolist(), "using": "single"}
        with self._answering():
            if multi is None:
                answer = self._client.query_points(
                    self._collection, **query, search_params=parameters, limit=top
                )
            else:
                chosen = models.Prefetch(**query, params=parameters, limit=max(top, candidates))
                answer = self._client.query_points(
                    self._collection,
                    prefetch=chosen,
                    query=multi.tolist(),
                    using="multi",
                    limit=top,
                )
        return [Hit(_entry(point.payload), point.score) for point in answer.points]

    def _point(self, batch: VectorBatch, row: int) -> Any:
        """Return one row as Qdrant takes it."""
        vectors = {"single": batch.single[row].astype(np.float32).tolist()}
        if self.settings.multi_dim is not None:
            vectors["multi"] = batch.multi[row].astype(np.float32).tolist()
        entry = Entry(batch.ids[row], batch.texts[row], batch.images[row], batch.metadata[row])
        return self._models.PointStruct(
            id=_point_id(entry.id), vector=vectors, payload=asdict(entry)
        )

    def _answering(self) -> Any:
        """Turn what the server or the way to it has against us into `RetrievalError`."""
        return _answering(self._collection)


def connect(url: str, api_key: str | None = None) -> Any:
    """Return a client of a server, or of a folder in the client's local mode.

    Args:
        url: Such as `http://localhost:6333`; a path without `://` is a folder, for trying out.
        api_key: For servers that ask for one.
    """
    client = library("qdrant_client", "--backend qdrant").QdrantClient
    return client(url=url, api_key=api_key) if "://" in url else client(path=url)


@contextmanager
def _answering(collection: str) -> Iterator[None]:
    exceptions = library("qdrant_client.http.exceptions", "--backend qdrant")
    try:
        yield
    except (exceptions.ApiException, ConnectionError, OSError) as error:
        got = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RetrievalError(
            f"{collection}: the server refused; got {got}; see to the server, --url and the key"
        ) from error


def _point_id(id: str) -> str:
    """Return the UUID that stands for one of our ids."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"smartembed:{id}"))


def _entry(payload: dict[str, Any]) -> Entry:
    return Entry(*(payload.get(name) for name in ("id", "text", "image", "metadata")))
