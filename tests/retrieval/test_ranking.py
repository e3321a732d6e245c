"""Ranking against full sorts and plain loops: scores, ties, depth, copies, shards."""

import numpy as np
import pytest
import torch

from jina.retrieval import ranking as module
from jina.retrieval.ranking import RankingError, blocks, multi_scorer, rank, single_scorer
from jina.retrieval.stored_vectors import StoredVectors

NO_COPY = -1


@pytest.fixture
def draw():
    return np.random.default_rng(0)


def vectors(draw, count, *, width=8, longest=6):
    """Random vectors of `count` items, of 1 to `longest` tokens each."""
    offsets = np.concatenate([[0], np.cumsum(draw.integers(1, longest + 1, count))])
    single = draw.normal(size=(count, width)).astype(np.float32)
    tokens = draw.normal(size=(offsets[-1], width)).astype(np.float32)
    return StoredVectors(np.arange(count, dtype=np.uint64), single, tokens, offsets)


def ranked(table, *, own=None, depth=5, shard=3):
    """Rank by a table of scores."""
    own = np.full(len(table), NO_COPY) if own is None else own
    places = np.arange(table.shape[1])
    return rank(lambda q, d: table[np.ix_(q, d)], np.arange(len(table)), places,
                own=own, depth=depth, shard=shard)  # fmt: skip


def sorted_fully(table, depth):
    """The best documents by score and then by place, the highest first."""
    return [
        sorted(range(table.shape[1]), key=lambda d: (row[d], d), reverse=True)[:depth]
        for row in table
    ]


@pytest.mark.parametrize("shard", [1, 7, 1000])
@pytest.mark.parametrize("depth", [1, 5, 40, 1000])
def test_the_best_documents_are_those_of_a_full_sort_with_ties(draw, shard, depth):
    table = draw.choice([-2.5, -0.0, 0.0, 1e-30, 0.5, 3.0], (20, 40)).astype(np.float32)
    table[10:] = draw.normal(size=(10, 40)).astype(np.float32)
    found = ranked(table, depth=depth, shard=shard)
    assert found.documents.tolist() == sorted_fully(table, depth)
    assert np.array_equal(found.scores, np.take_along_axis(table, found.documents, axis=1))


def test_a_reversed_order_of_ties_would_be_another_ranking(draw):
    table = np.zeros((1, 4), np.float32)
    assert ranked(table).documents.tolist() == [[3, 2, 1, 0]]


def test_a_copy_of_the_query_is_not_found():
    table = np.array([[0.9, 0.5, 0.7], [0.1, 0.2, 0.3]], np.float32)
    found = ranked(table, own=np.array([0, NO_COPY]), shard=2)
    assert found.documents.tolist() == [[2, 1, -1], [2, 1, 0]]
    assert found.scores[0, 2] == -np.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(RankingError, match="scores: are not finite"):
        ranked(np.array([[0.1, bad]], np.float32))


@pytest.mark.parametrize("size", [8, 3])
def test_single_scores_are_cosines_of_the_first_components(draw, size):
    queries, documents = vectors(draw, 5), vectors(draw, 9)
    score = single_scorer(queries, documents, size=size, device=torch.device("cpu"))
    found = score(np.array([4, 0]), np.arange(9))
    for row, query in enumerate((4, 0)):
        for document in range(9):
            left, right = queries.single[query][:size], documents.single[document][:size]
            cosine = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
            assert found[row, document] == pytest.approx(cosine, abs=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("room", [1, 20, 2**24])
def test_multi_scores_are_sums_of_each_query_tokens_best_document_token(draw, room, monkeypatch):
    monkeypatch.setattr(module, "MAX_SIMILARITIES", room)
    queries, documents = vectors(draw, 4), vectors(draw, 11)
    found = multi_scorer(queries, documents, device=torch.device("cpu"))(
        np.array([3, 1]), np.array([0, 5, 10, 2])
    )
    for row, query in enumerate((3, 1)):
        for column, document in enumerate((0, 5, 10, 2)):
            best = [
                max(float(q @ d) for d in documents.tokens_of(document))
                for q in queries.tokens_of(query)
            ]
            assert found[row, column] == pytest.approx(sum(best), abs=1e-5)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_no_bit_of_a_score_hinges_on_how_the_work_is_cut(draw, kind, monkeypatch):
    queries, documents = vectors(draw, 30, width=64), vectors(draw, 90, width=64)
    options = {"size": 64} if kind == "single" else {}
    make = single_scorer if kind == "single" else multi_scorer
    score = make(queries, documents, device=torch.device("cpu"), **options)
    whole = score(np.arange(30), np.arange(90))
    for step in (1, 7, 50):
        pieces = [score(np.arange(30), np.arange(90)[i : i + step]) for i in range(0, 90, step)]
        assert np.array_equal(np.concatenate(pieces, axis=1), whole)
    assert np.array_equal(
        np.concatenate([score(np.array([i]), np.arange(90)) for i in range(30)]), whole
    )


@pytest.mark.parametrize("room", [1, 4, 10, 100])
def test_blocks_hold_all_in_order_and_no_more_than_their_room(draw, room):
    sizes = draw.integers(1, 9, 50)
    found = list(blocks(sizes, room))
    assert np.concatenate(found).tolist() == list(range(50))
    assert all(sizes[block].sum() <= room or len(block) == 1 for block in found)
    assert list(blocks(np.array([], int), room)) == []
