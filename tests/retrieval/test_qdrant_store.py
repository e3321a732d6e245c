"""A Qdrant collection does what the index folder does; here in the client's local mode."""

from dataclasses import replace

import numpy as np
import pytest
from qdrant_client import QdrantClient

from jina.retrieval.errors import RetrievalError
from jina.retrieval.qdrant_store import QdrantStore, connect
from jina.retrieval.stores import IndexSettings
from jina.retrieval.vector_files import VectorBatch
from jina.retrieval.vector_index import VectorIndex

DIM, MULTI_DIM = 16, 8


def unit(random, *shape):
    vectors = random.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def batch_of(count, seed=0, start=0):
    random = np.random.default_rng(seed)
    names = [f"row {number}" for number in range(start, start + count)]
    tokens = [unit(random, random.integers(1, 9), MULTI_DIM) for _ in names]
    images = [None if number % 2 else f"/pictures/{number}.png" for number in range(count)]
    texts = [f"text {number}" if number % 2 else None for number in range(count)]
    metadata = [{"number": number} for number in range(count)]
    return VectorBatch(names, texts, images, metadata, unit(random, count, DIM), tokens)


def settings(**changes):
    usual = {"model": "m", "task": "retrieval", "max_text_tokens": 99}
    return IndexSettings(**{**usual, "dim": DIM, "multi_dim": MULTI_DIM, **changes})


@pytest.fixture
def client():
    return QdrantClient(":memory:")


@pytest.fixture
def store(client):
    store = QdrantStore.create(client, "pictures", settings())
    assert store.add([batch_of(100), batch_of(30, seed=1, start=100)]) == 130
    return store


@pytest.fixture
def index(tmp_path):
    index = VectorIndex.create(tmp_path / "index", settings())
    index.add([batch_of(100), batch_of(30, seed=1, start=100)])
    return index


@pytest.mark.filterwarnings("ignore:Local mode performs exact")
@pytest.mark.parametrize("reranks", [False, True])
def test_a_collection_finds_what_the_folder_finds(store, index, reranks):
    random = np.random.default_rng(5)
    for _ in range(5):
        single, multi = unit(random, DIM), unit(random, 4, MULTI_DIM) if reranks else None
        expected = index.find(single, multi, top=7, candidates=30)
        found = store.find(single, multi, top=7, candidates=30)
        assert [hit.entry for hit in found] == [hit.entry for hit in expected]
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-5)


def test_deleted_rows_are_not_found(store):
    single = unit(np.random.default_rng(5), DIM)
    before = [hit.entry.id for hit in store.find(single, None, top=5, candidates=0)]
    assert store.delete([*before[:2], before[0]]) == 2
    assert [hit.entry.id for hit in store.find(single, None, top=3, candidates=0)] == before[2:]
    assert len(store) == 128


def test_taken_and_unknown_ids_are_refused(store):
    with pytest.raises(RetrievalError, match="1 ids are taken already; got row 129"):
        store.add([batch_of(5, seed=3, start=129)])
    twice = replace(batch_of(2), ids=["new", "new"])
    with pytest.raises(RetrievalError, match="taken already; got new"):
        store.add([twice])
    with pytest.raises(RetrievalError, match="no such ids; got nobody"):
        store.delete(["row 1", "nobody"])
    assert len(store) == 130


def test_a_collection_keeps_what_it_was_made_for(client, store):
    assert QdrantStore(client, "pictures").settings == settings()
    with pytest.raises(RetrievalError, match="pictures: model: the index has another one"):
        QdrantStore.create(client, "pictures", settings(model="other"))


def test_collections_that_are_missing_or_not_ours_are_refused(client):
    with pytest.raises(RetrievalError, match="is no collection of this server"):
        QdrantStore(client, "nothing")
    client.create_collection("foreign", vectors_config={})
    with pytest.raises(RetrievalError, match="isn't a collection of ours"):
        QdrantStore(client, "foreign")


def test_a_folder_keeps_a_collection_between_two_clients(tmp_path):
    client = connect(str(tmp_path / "qdrant"))
    QdrantStore.create(client, "pictures", settings()).add([batch_of(5)])
    client.close()
    again = QdrantStore(connect(str(tmp_path / "qdrant")), "pictures")
    assert len(again) == 5
