"""Tiles of scores against the whole matrix, and the way back against autograd."""

from itertools import product

import pytest
import torch
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jina.models import scores
from jina.models.embeddings import TokenVectors
from jina.models.scores import DenseScores, LateScores
from tests.models.slow_losses import random_batch, slow_dense, slow_late

SIZES = (3, 8, 12)
BATCHES = [random_batch(seed) for seed in range(12)]
LIMITS = [1, 40, 2**22]


@pytest.fixture
def limit(monkeypatch):
    """Return a function that sets how many similarities, tokens and matches fit in memory."""

    def set_limits(number):
        for name in ("SIMILARITIES", "QUERY_TOKENS", "MATCHES"):
            monkeypatch.setattr(scores, name, number)

    return set_limits


def random_like(tensor, seed=0):
    return torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed)).to(tensor)


def cuts(count, step):
    return [(start, min(start + step, count)) for start in range(0, count, step)]


def matrix(rows):
    return torch.stack([torch.stack(row) for row in rows])


def assert_near(found, expected, tolerance=1e-12):
    assert found.shape == expected.shape
    assert float((found - expected).norm()) <= tolerance * max(1.0, float(expected.norm()))


# ---- dense ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 100])
@pytest.mark.parametrize("sizes", [SIZES, (12,), (5,)])
def test_dense_tiles_are_cosines_of_leading_numbers(sizes, step):
    for batch in BATCHES:
        queries, candidates = (3 * vectors for vectors in batch.vectors[:2])  # of any length
        dense = DenseScores(queries, candidates, sizes)
        tiles = [list(dense.tile(*cut)) for cut in cuts(len(queries), step)]
        for size, found in zip(sizes, zip(*tiles, strict=True), strict=True):
            assert_near(torch.cat(found), matrix(slow_dense(queries, candidates, size)))


def test_short_vectors_have_other_cosines():
    dense = DenseScores(*BATCHES[1].vectors[:2], SIZES)
    short, middle, whole = dense.tile(0, len(BATCHES[1].vectors[0]))
    assert (short - whole).abs().max() > 0.1
    assert (middle - whole).abs().max() > 1e-2


@pytest.mark.parametrize("step", [1, 2, 100])
@pytest.mark.parametrize("sizes", [SIZES, (12,)])
def test_the_way_back_from_cosines_is_that_of_autograd(sizes, step):
    for seed, batch in enumerate(BATCHES):
        inputs = [(2 * vectors).requires_grad_() for vectors in batch.vectors[:2]]
        whole = [
            normalize(inputs[0][:, :size], dim=1) @ normalize(inputs[1][:, :size], dim=1).T
            for size in sizes
        ]
        upstream = [random_like(each, seed) for each in whole]
        expected = torch.autograd.grad(whole, inputs, upstream)
        sums = [torch.zeros_like(tensor) for tensor in inputs]
        with torch.no_grad():
            dense = DenseScores(*inputs, sizes, sums)
            for start, stop in cuts(len(inputs[0]), step):
                tile = list(dense.tile(start, stop))
                dense.add_gradient(start, stop, tile, [each[start:stop] for each in upstream])
        for found, other in zip(sums, expected, strict=True):
            assert_near(found, other)


def test_cosines_of_pairs_are_those_of_the_matrix():
    for batch in BATCHES:
        queries, candidates = batch.vectors[:2]
        columns = torch.arange(len(queries)).flip(0)
        dense = DenseScores(queries, candidates, SIZES)
        for found, whole in zip(dense.pairs(columns), dense.tile(0, len(queries)), strict=True):
            assert_near(found, whole[range(len(queries)), columns])


def test_a_vector_of_zeros_has_no_direction_and_harms_nobody():
    rows = torch.eye(2, 4)
    rows[0] = 0
    dense = DenseScores(rows, torch.eye(3, 4), (2, 4), [torch.zeros(2, 4), torch.zeros(3, 4)])
    tile = list(dense.tile(0, 2))
    dense.add_gradient(0, 2, tile, [torch.zeros_like(each) for each in tile])
    assert [each.tolist() for each in tile] == [[[0, 0, 0], [0, 1, 0]]] * 2
    assert not any(total.isnan().any() for total in dense.gradients)


# ---- late ----------------------------------------------------------------------------------


def tokens_of(batch):
    sides = zip(batch.vectors[2:], (batch.query_lengths, batch.candidate_lengths), strict=True)
    return [TokenVectors(vectors, lengths) for vectors, lengths in sides]


def split(side, vectors=None):
    return (side.vectors if vectors is None else vectors).split(side.lengths)


def late_tiles(late, step, count):
    return torch.cat([late.tile(*cut)[0] for cut in cuts(count, step)])


@pytest.mark.parametrize(("number", "step"), list(product(LIMITS, (1, 2, 100))))
def test_late_tiles_are_the_mean_of_the_best_matches(limit, number, step):
    limit(number)
    for batch in BATCHES[:6]:
        queries, candidates = tokens_of(batch)
        expected = matrix(slow_late(split(queries), split(candidates)))
        for by_candidate, whole in ((False, expected), (True, expected.T)):
            late = LateScores(queries, candidates, by_candidate=by_candidate)
            assert_near(late_tiles(late, step, len(whole)), whole)


@pytest.mark.parametrize(("number", "step"), list(product(LIMITS, (1, 2, 100))))
def test_the_way_back_from_late_scores_is_that_of_autograd(limit, number, step):
    limit(number)
    for seed, batch in enumerate(BATCHES[:6]):
        queries, candidates = tokens_of(batch)
        inputs = [side.vectors.clone().requires_grad_() for side in (queries, candidates)]
        whole = matrix(slow_late(split(queries, inputs[0]), split(candidates, inputs[1])))
        upstream = random_like(whole, seed)
        expected = torch.autograd.grad(whole, inputs, upstream)
        for by_candidate in (False, True):
            sums = [
                TokenVectors(torch.zeros_like(side.vectors), side.lengths)
                for side in (queries, candidates)
            ]
            late = LateScores(queries, candidates, sums, by_candidate=by_candidate)
            given = upstream.T if by_candidate else upstream
            for start, stop in cuts(len(given), step):
                _, matches = late.tile(start, stop)
                late.add_gradient(start, stop, matches, given[start:stop])
            for total, other in zip(sums, expected, strict=True):
                assert_near(total.vectors, other)


def test_late_scores_of_pairs_are_those_of_the_matrix():
    for batch in BATCHES:
        queries, candidates = tokens_of(batch)
        columns = torch.arange(len(queries)).flip(0)
        late = LateScores(queries, candidates)
        whole, _ = late.tile(0, len(queries))
        assert_near(late.pairs(columns), whole[range(len(queries)), columns])


def test_there_is_no_padding_floor():
    """A match of cosine 0 with padding would hide that all real cosines are negative."""
    batch = next(batch for batch in BATCHES if batch.is_apart)
    queries, candidates = tokens_of(batch)
    assert len(set(candidates.lengths)) > 1
    found, _ = LateScores(queries, candidates).tile(0, len(queries))
    assert found.max() < -0.5
    padded = pad_sequence(split(candidates), batch_first=True)  # (C, L, D)
    similarities = torch.einsum("td,cld->tcl", queries.vectors, padded)
    floored = torch.stack([each.amax(2).mean(0) for each in similarities.split(queries.lengths)])
    shorter = torch.tensor(candidates.lengths) < max(candidates.lengths)
    assert floored[:, shorter].eq(0).all()
    assert_near(floored[:, ~shorter], found[:, ~shorter])


def test_scores_are_divided_by_the_length_of_the_query_alone():
    one, two = torch.eye(2, dtype=torch.float64)
    query = TokenVectors(torch.stack([one, one, two, -one]), [4])
    candidates = TokenVectors(torch.stack([one, one, two]), [1, 2])
    found, _ = LateScores(query, candidates).tile(0, 1)
    # matches 1, 1, 0, -1 of the first candidate; 1, 1, 1, 0 of the second
    assert found.tolist() == [[0.25, 0.75]]


def test_query_and_candidate_are_not_interchangeable():
    queries, candidates = tokens_of(BATCHES[1])
    there, _ = LateScores(queries, candidates).tile(0, len(queries))
    back, _ = LateScores(candidates, queries).tile(0, len(candidates))
    assert (there - back.T).abs().max() > 1e-2


# ---- memory --------------------------------------------------------------------------------


class LargestTensor(TorchDispatchMode):
    """Remembers the largest storage that any operation returned."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for each in tree_leaves(found):
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.untyped_storage().nbytes() // 8)
        return found


def largest(by_candidate, step):
    """The numbers in the largest tensor on the way to late scores of 24 x 30 items and back."""
    generator = torch.Generator().manual_seed(0)
    sides = [
        TokenVectors(torch.randn(items * 10, 2, generator=generator).double(), [10] * items)
        for items in (24, 30)
    ]
    sums = [TokenVectors(torch.zeros_like(side.vectors), side.lengths) for side in sides]
    late = LateScores(*sides, sums, by_candidate=by_candidate)
    with LargestTensor() as found:
        rows = step or late.most_rows()
        tile, matches = late.tile(0, rows)
        late.add_gradient(0, rows, matches, torch.ones_like(tile))
    return found.numbers


@pytest.mark.parametrize("by_candidate", [False, True])
def test_no_tensor_holds_the_similarities_of_all_tokens(limit, by_candidate):
    count = 30 if by_candidate else 24
    whole = 24 * 30 * 10 * 10
    assert largest(by_candidate, count) == whole  # what fits is taken at once
    limit(1000)
    assert largest(by_candidate, None) <= 1000
    assert largest(by_candidate, count) == 24 * 30 * 10 / 2  # int32 matches of more rows than fit


def test_a_tile_has_a_row_however_little_fits(limit):
    queries, candidates = tokens_of(BATCHES[1])
    limit(1)
    assert LateScores(queries, candidates).most_rows() == 1
    assert LateScores(queries, candidates, by_candidate=True).most_rows() == 1
    limit(2**22)
    per_row = len(candidates) * max(queries.lengths)
    assert LateScores(queries, candidates).most_rows() == 2**22 // per_row
