"""The index folder: what is found, what is kept after changes, crashes and damage."""

import json

import numpy as np
import pytest

from jina.retrieval.errors import RetrievalError
from jina.retrieval.multi_vectors import max_sim
from jina.retrieval.stores import IndexSettings
from jina.retrieval.vector_files import VectorBatch
from jina.retrieval.vector_index import VectorIndex

DIM, MULTI_DIM = 16, 8


def unit(random, *shape):
    vectors = random.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def batch_of(names, seed=0, *, multi=False):
    random = np.random.default_rng(seed)
    tokens = [unit(random, random.integers(1, 9), MULTI_DIM) for _ in names] if multi else None
    texts = [f"text of {name}" for name in names]
    metadata = [{"name": name} for name in names]
    nothing = [None] * len(names)
    return VectorBatch(names, texts, nothing, metadata, unit(random, len(names), DIM), tokens)


def names(start, stop):
    return [f"row {number}" for number in range(start, stop)]


def settings(**changes):
    return IndexSettings(
        **{"model": "m", "task": "retrieval", "max_text_tokens": 99, "dim": DIM, **changes}
    )


def brute_force(vectors, query, rows):
    """Return the rows by falling score; among equal scores by number."""
    scores = (vectors[rows].astype(np.float64) @ query).astype(np.float32)
    return [rows[i] for i in sorted(range(len(rows)), key=lambda i: (-scores[i], rows[i]))]


@pytest.fixture
def index(tmp_path):
    index = VectorIndex.create(tmp_path / "index", settings())
    index.add([batch_of(names(0, 40)), batch_of(names(40, 100), seed=1)])
    return index


@pytest.fixture
def vectors():
    return np.concatenate([batch_of(names(0, 40)).single, batch_of(names(40, 100), 1).single])


def test_exact_search_returns_what_brute_force_returns(index, vectors):
    queries = unit(np.random.default_rng(7), 20, DIM)
    for query, (scores, rows) in zip(queries, index.search(queries, 10), strict=True):
        assert rows.tolist() == brute_force(vectors, query, list(range(100)))[:10]
        assert scores == pytest.approx(vectors[rows] @ query, abs=1e-6)


def test_equal_vectors_are_found_in_the_order_they_were_added(tmp_path):
    index = VectorIndex.create(tmp_path / "index", settings())
    batch = batch_of(names(0, 60))
    batch.single[5:50] = batch.single[5]
    index.add([batch])
    ((scores, rows),) = index.search(batch.single[5:6], 20)
    assert rows.tolist() == list(range(5, 25))
    assert len(set(scores.tolist())) == 1


def test_an_opened_index_finds_what_the_one_that_was_filled_finds(index):
    query = unit(np.random.default_rng(3), 1, DIM)
    ((_, before),) = index.search(query, 10)
    again = VectorIndex(index.path)
    ((_, after),) = again.search(query, 10)
    assert before.tolist() == after.tolist()
    assert again.entry(41).id == "row 41"
    assert again.entry(41).text == "text of row 41"
    assert again.entry(41).metadata == {"name": "row 41"}


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_deleted_rows_are_not_found_and_the_others_still_are(tmp_path, kind):
    index = VectorIndex.create(tmp_path / "index", settings(kind=kind))
    batch = batch_of(names(0, 100))
    index.add([batch])
    query = unit(np.random.default_rng(3), 1, DIM)
    ((_, before),) = index.search(query, 10)
    assert index.delete([f"row {row}" for row in before[:4]]) == 4
    left = [row for row in range(100) if row not in before[:4]]
    for opened in (index, VectorIndex(index.path)):
        ((_, after),) = opened.search(query, 10)
        assert after.tolist() == brute_force(batch.single, query[0], left)[:10]
        assert len(opened) == 96


def test_a_deleted_id_may_be_added_again(index):
    index.delete(["row 3"])
    index.add([batch_of(["row 3"], seed=9)])
    assert index.ids()["row 3"] == 100
    ((_, rows),) = index.search(batch_of(["row 3"], seed=9).single, 1)
    assert rows.tolist() == [100]


def test_an_index_gives_as_many_rows_as_it_has(index):
    ((scores, rows),) = index.search(unit(np.random.default_rng(0), 1, DIM), 1000)
    assert sorted(rows.tolist()) == list(range(100))
    index.delete(names(0, 100))
    ((scores, rows),) = index.search(unit(np.random.default_rng(0), 1, DIM), 5)
    assert len(rows) == len(scores) == 0


def test_hnsw_finds_nearly_all_that_exact_search_finds(tmp_path):
    random = np.random.default_rng(0)
    vectors, queries = unit(random, 2000, 64), unit(random, 50, 64)
    nothing = [None] * 2000
    batch = VectorBatch(names(0, 2000), nothing, nothing, nothing, vectors)
    found = {}
    for kind in ("exact", "hnsw"):
        index = VectorIndex.create(tmp_path / kind, settings(dim=64, kind=kind))
        index.add([batch])
        found[kind] = [set(rows.tolist()) for _, rows in index.search(queries, 10)]
    pairs = zip(found["exact"], found["hnsw"], strict=True)
    assert np.mean([len(a & b) / 10 for a, b in pairs]) >= 0.95


@pytest.mark.slow
def test_hnsw_finds_nearly_all_of_20000_random_vectors(tmp_path):
    random = np.random.default_rng(0)
    vectors, queries = unit(random, 20_000, 128), unit(random, 200, 128)
    nothing = [None] * len(vectors)
    index = VectorIndex.create(tmp_path / "index", settings(dim=128, kind="hnsw"))
    index.add([VectorBatch(names(0, 20_000), nothing, nothing, nothing, vectors)])
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    found = [rows for _, rows in index.search(queries, 10)]
    hits = [len({*a.tolist()} & {*b.tolist()}) for a, b in zip(found, truth, strict=True)]
    assert np.mean(hits) / 10 >= 0.95
    narrow = [rows for _, rows in index.search(queries, 10, width=18)]
    missed = [len({*a.tolist()} & {*b.tolist()}) for a, b in zip(narrow, truth, strict=True)]
    assert np.mean(missed) / 10 < 0.95  # a graph that is looked at less finds less


def test_an_index_can_be_searched_where_nothing_can_be_written(index):
    index.path.chmod(0o500)
    try:
        assert len(VectorIndex(index.path)) == 100
        assert not (index.path / ".lock").exists()
    finally:
        index.path.chmod(0o700)


def test_multi_vectors_come_back_for_every_row_of_every_addition(tmp_path):
    index = VectorIndex.create(tmp_path / "index", settings(multi_dim=MULTI_DIM))
    first, second = batch_of(names(0, 30), multi=True), batch_of(names(30, 45), 5, multi=True)
    index.add([first])
    index.add([second])
    expected = [*first.multi, *second.multi]
    opened = VectorIndex(index.path)
    for row, matrix in enumerate(expected):
        assert np.array_equal(opened.multi(row), matrix)
    assert isinstance(opened.multi(3), np.memmap)


def test_max_sim_adds_up_the_best_token_for_each_token_of_the_query():
    random = np.random.default_rng(0)
    query, documents = unit(random, 5, 8), [unit(random, length, 8) for length in (3, 1, 17, 4)]
    slow = [sum(max(float(q @ d) for d in document) for q in query) for document in documents]
    assert max_sim(query, documents) == pytest.approx(slow, abs=1e-5)
    assert len(max_sim(query, [])) == 0


def test_reranking_gives_the_full_max_sim_order_of_its_candidates(tmp_path):
    index = VectorIndex.create(tmp_path / "index", settings(multi_dim=MULTI_DIM))
    batch = batch_of(names(0, 60), multi=True)
    index.add([batch])
    random = np.random.default_rng(2)
    single, multi = unit(random, DIM), unit(random, 6, MULTI_DIM)
    everything = max_sim(multi, batch.multi)
    full_order = [f"row {row}" for row in np.argsort(-everything, kind="stable")]
    hits = index.find(single, multi, top=10, candidates=60)
    assert [hit.entry.id for hit in hits] == full_order[:10]
    candidates = {hit.entry.id for hit in index.find(single, None, top=20, candidates=0)}
    hits = index.find(single, multi, top=20, candidates=20)
    assert [hit.entry.id for hit in hits] == [name for name in full_order if name in candidates]
    assert [hit.entry.id for hit in hits] != full_order[:20]


def test_an_addition_with_a_known_id_changes_nothing(index):
    before = sorted(file.name for file in index.path.iterdir())
    with pytest.raises(RetrievalError, match="1 ids are taken already; got row 7"):
        index.add([batch_of(["new"]), batch_of(["row 7"], seed=3)])
    assert sorted(file.name for file in index.path.iterdir()) == before
    assert len(index) == len(VectorIndex(index.path)) == 100
    assert "new" not in index.ids()


def test_an_id_may_not_stand_twice_in_one_addition(index):
    with pytest.raises(RetrievalError, match="taken already; got a"):
        index.add([batch_of(["a"]), batch_of(["a"], seed=3)])


def test_deleting_an_unknown_id_deletes_nothing(index):
    with pytest.raises(RetrievalError, match="no such ids; got nobody"):
        index.delete(["row 1", "nobody"])
    assert len(index) == 100


@pytest.mark.parametrize("spoil", [np.nan, 3.0])
def test_vectors_not_of_length_one_are_refused(index, spoil):
    batch = batch_of(["a", "b"])
    batch.single[1] *= spoil
    with pytest.raises(RetrievalError, match="b: vector isn't of length 1"):
        index.add([batch])


def test_vectors_of_another_size_are_refused(index):
    with pytest.raises(RetrievalError, match=r"don't fit; got sizes 16 and \{8\}"):
        index.add([batch_of(["a"], multi=True)])


def test_other_settings_are_refused_with_all_that_differs(index):
    with pytest.raises(RetrievalError) as caught:
        VectorIndex.create(index.path, settings(model="other", kind="hnsw"))
    assert [problem.split(": ")[1] for problem in caught.value.problems] == ["model", "kind"]


@pytest.mark.parametrize("pattern", ["single-*.faiss", "entries-*.parquet", "deleted-*.npy"])
def test_a_changed_byte_is_noticed_before_the_file_is_read(index, pattern):
    index.delete(["row 0"])
    (file,) = index.path.glob(pattern)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(RetrievalError, match="was changed"):
        VectorIndex(index.path)


def test_multi_vectors_that_are_cut_off_are_noticed(tmp_path):
    index = VectorIndex.create(tmp_path / "index", settings(multi_dim=MULTI_DIM))
    index.add([batch_of(names(0, 5), multi=True)])
    (file,) = index.path.glob("multi-*")
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(RetrievalError, match=r"does not hold \d+ vectors"):
        VectorIndex(index.path)


def test_what_a_killed_change_left_is_ignored_and_then_removed(index):
    leftover = index.path / "single-99.faiss"
    leftover.write_bytes(b"half of an ind")
    assert len(VectorIndex(index.path)) == 100
    index.delete(["row 0"])
    assert not leftover.exists()


def test_a_change_that_fails_midway_leaves_the_old_index(index, monkeypatch):
    before = (index.path / "index.json").read_bytes()

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("jina.retrieval.index_folder.write_json", fail)
    with pytest.raises(KeyboardInterrupt):
        index.add([batch_of(["new"])])
    assert (index.path / "index.json").read_bytes() == before
    assert len(index) == len(VectorIndex(index.path)) == 100


def test_two_handles_of_one_index_do_not_undo_each_other(index):
    other = VectorIndex(index.path)
    index.add([batch_of(["one"], seed=4)])
    other.add([batch_of(["two"], seed=5)])
    assert {"one", "two"} <= VectorIndex(index.path).ids().keys()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda manifest: manifest.update(single="../outside.faiss"),
        lambda manifest: manifest.update(format=2),
        lambda manifest: manifest.pop("parts"),
        lambda manifest: manifest["parts"][0].update(rows=3),
        lambda manifest: manifest["settings"].update(kind="pickle"),
    ],
)
def test_a_manifest_that_describes_no_index_is_refused(index, spoil):
    file = index.path / "index.json"
    manifest = json.loads(file.read_text())
    spoil(manifest)
    file.write_text(json.dumps(manifest))
    with pytest.raises(RetrievalError, match="describes no index"):
        VectorIndex(index.path)


def test_a_folder_that_is_no_index_is_left_alone(tmp_path):
    with pytest.raises(RetrievalError, match="is no index"):
        VectorIndex(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RetrievalError, match="holds other files; got thesis.txt"):
        VectorIndex.create(tmp_path, settings())
