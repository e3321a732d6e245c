"""The losses against slow loops and hand-derived values.

Legend: N queries, P positives, C candidates (positives first), H vector size.
"""

import math
import random
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import normalize
from torch.testing import assert_close

from jina.models.losses import Pairing, info_nce, pair_candidates


def slow_pairing(queries, candidates, owners):
    """Which candidate is what, as `is_positive` and `is_negative`, by the definition."""
    positive = [[c < len(owners) and owners[c] == q for c in range(len(candidates))]
                for q in range(len(queries))]  # fmt: skip
    negative = []
    for query in queries:
        wanted = [candidates[p] for p, owner in enumerate(owners) if queries[owner] == query]
        wanted.append(query)
        negative.append([candidate not in wanted for candidate in candidates])
    return positive, negative


def slow_info_nce(queries, candidates, positive, negative, temperature):
    """The loss by loops over Python numbers."""
    total = 0.0
    for row, query in enumerate(queries):
        scores = [
            math.fsum(a * b for a, b in zip(query, candidate, strict=True)) / temperature
            for candidate in candidates
        ]
        rivals = [
            math.exp(s) for s, is_rival in zip(scores, negative[row], strict=True) if is_rival
        ]
        terms = [
            math.log(math.exp(s) + math.fsum(rivals)) - s
            for s, is_own in zip(scores, positive[row], strict=True)
            if is_own
        ]
        total += sum(terms) / len(terms)
    return total / len(queries)


def unit_vectors(count, seed, size=5):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, size, generator=generator, dtype=torch.float64), dim=1)


def ragged_batch(seed):
    """A random batch: 1 to 3 positives a query, some hard negatives, contents that repeat."""
    draw = random.Random(seed)  # noqa: S311
    contents = draw.choice([3, 8, 10**9])
    num_queries = draw.randint(1, 6)
    owners = [row for row in range(num_queries) for _ in range(draw.randint(1, 3))]
    count = len(owners) + draw.randint(0, 5)
    return SimpleNamespace(
        query_contents=[draw.randrange(contents) for _ in range(num_queries)],
        candidate_contents=[draw.randrange(contents) for _ in range(count)],
        owners=owners,
        queries=unit_vectors(num_queries, seed),
        candidates=unit_vectors(count, seed + 100),
    )


def pairing_of(batch):
    return pair_candidates(
        torch.tensor(batch.query_contents),
        torch.tensor(batch.candidate_contents),
        owners=torch.tensor(batch.owners),
    )


BATCHES = [ragged_batch(seed) for seed in range(60)]


def test_the_random_batches_hold_every_case():
    pairings = [pairing_of(batch) for batch in BATCHES]
    assert any(p.is_positive.sum(1).max() > 1 for p in pairings)
    assert any(not (p.is_positive | p.is_negative).all() for p in pairings)  # left out
    assert any(len(b.candidate_contents) > len(b.owners) for b in BATCHES)  # hard negatives
    assert any(len(set(b.query_contents)) < len(b.query_contents) for b in BATCHES)


def test_pairing_follows_its_definition():
    for batch in BATCHES:
        pairing = pairing_of(batch)
        expected = slow_pairing(batch.query_contents, batch.candidate_contents, batch.owners)
        assert (pairing.is_positive.tolist(), pairing.is_negative.tolist()) == expected
        assert not (pairing.is_positive & pairing.is_negative).any()


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str
)
def test_info_nce_follows_its_definition(temperature, dtype, tolerance):
    for batch in BATCHES:
        pairing = pairing_of(batch)
        roles = pairing.is_positive.tolist(), pairing.is_negative.tolist()
        vectors = batch.queries.to(dtype), batch.candidates.to(dtype)
        found = info_nce(*vectors, pairing, temperature=temperature)
        expected = slow_info_nce(
            batch.queries.tolist(), batch.candidates.tolist(), *roles, temperature
        )
        assert found.dtype == dtype
        assert found.item() == pytest.approx(expected, rel=tolerance, abs=tolerance)


def test_the_way_back_follows_its_definition():
    for batch in BATCHES:
        pairing, count = pairing_of(batch), len(batch.owners)
        back, positives = pairing.reversed(count), batch.candidates[:count]
        owner = [[row == own for row in range(len(batch.queries))] for own in batch.owners]
        rivals = pairing.is_negative[:, :count].T.tolist()
        assert (back.is_positive.tolist(), back.is_negative.tolist()) == (owner, rivals)
        found = info_nce(positives, batch.queries, back, temperature=0.1)
        expected = slow_info_nce(
            positives.tolist(), batch.queries.tolist(), owner, rivals, temperature=0.1
        )
        assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


# ---- derived by hand -----------------------------------------------------------------------


def loss_of_equal_vectors(query_contents, candidate_contents, owners):
    """All scores are equal, so that a query's loss is the logarithm of what it chooses from."""
    pairing = pair_candidates(
        torch.tensor(query_contents), torch.tensor(candidate_contents), owners=torch.tensor(owners)
    )
    sizes = (len(query_contents), len(candidate_contents))
    vectors = [torch.eye(1, 4).expand(size, 4) for size in sizes]
    return info_nce(*vectors, pairing, temperature=0.02).item()


@pytest.mark.parametrize("hard_negatives", [0, 3])
def test_equal_scores_cost_the_logarithm_of_the_choices(hard_negatives):
    candidates = list(range(10, 14 + hard_negatives))
    found = loss_of_equal_vectors([1, 2, 3, 4], candidates, [0, 1, 2, 3])
    assert found == pytest.approx(math.log(4 + hard_negatives), rel=1e-5)


def test_a_copy_of_the_positive_is_no_negative():
    """Rows 0 and 1 share their positive: each chooses from three, rows 2 and 3 from four."""
    found = loss_of_equal_vectors([1, 2, 3, 4], [7, 7, 8, 9], [0, 1, 2, 3])
    assert found == pytest.approx((math.log(3) + math.log(4)) / 2, rel=1e-5)


def test_a_hard_negative_with_the_positive_s_content_is_left_out():
    assert loss_of_equal_vectors([1], [7, 7, 8], [0]) == pytest.approx(math.log(2), rel=1e-5)


def test_a_copy_of_the_query_is_no_negative():
    """The query 7 chooses from 5, 4 and 8, its copy left out; the query 6 from all four."""
    found = loss_of_equal_vectors([7, 6], [5, 4, 7, 8], [0, 1])
    assert found == pytest.approx((math.log(3) + math.log(4)) / 2, rel=1e-5)


def test_what_another_row_with_the_same_query_found_is_no_negative():
    """The query 1 stands in two rows with positives 7 and 8: neither is the other's negative."""
    found = loss_of_equal_vectors([1, 1, 2], [7, 8, 9], [0, 1, 2])
    assert found == pytest.approx((math.log(2) + math.log(2) + math.log(3)) / 3, rel=1e-5)
    hard_copy = loss_of_equal_vectors([1, 1], [7, 8, 8], [0, 1])
    assert hard_copy == 0  # the hard negative 8 answers the query, too


def test_positives_of_one_query_do_not_compete_and_share_its_weight():
    """Query 0 has three positives and one negative, query 1 one positive and three negatives."""
    found = loss_of_equal_vectors([1, 2], [5, 6, 7, 8], [0, 0, 0, 1])
    assert found == pytest.approx((math.log(2) + math.log(4)) / 2, rel=1e-5)


def test_on_the_way_back_each_positive_chooses_among_the_queries():
    """Three positives of query 0 and one of query 1; the last has the content of the first."""
    pairing = pair_candidates(
        torch.tensor([1, 2]), torch.tensor([5, 6, 7, 5]), owners=torch.tensor([0, 0, 0, 1])
    )
    vectors = torch.eye(1, 4).expand(4, 4), torch.eye(1, 4).expand(2, 4)
    found = info_nce(*vectors, pairing.reversed(4), temperature=0.02)
    assert found.item() == pytest.approx((0 + math.log(2) + math.log(2) + 0) / 4, rel=1e-5)


def test_temperature_divides_the_similarity():
    """Scores 1 and 0 at temperature 0.5: log(1 + e^-2)."""
    pairing = Pairing(torch.tensor([[True, False]]), torch.tensor([[False, True]]))
    found = info_nce(torch.eye(1, 2), torch.eye(2), pairing, temperature=0.5)
    assert found.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)


def test_a_pair_without_rivals_costs_and_teaches_nothing():
    queries = unit_vectors(2, 0).requires_grad_()
    pairing = Pairing(torch.eye(2).bool(), torch.zeros(2, 2).bool())
    loss = info_nce(queries, unit_vectors(2, 1), pairing, temperature=0.02)
    loss.backward()
    assert loss.item() == 0
    assert queries.grad.tolist() == torch.zeros(2, 5).tolist()


def test_hopeless_scores_stay_finite():
    """Opposite vectors at the lowest temperature in use: 2 / 0.001, far beyond exp in float32."""
    pairing = Pairing(torch.tensor([[True, False]]), torch.tensor([[False, True]]))
    queries = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = info_nce(queries, torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), pairing, temperature=1e-3)
    loss.backward()
    assert loss.item() == pytest.approx(2000)
    assert queries.grad.isfinite().all()


# ---- precision -----------------------------------------------------------------------------


def test_bfloat16_vectors_are_compared_in_float32_whatever_the_autocast():
    queries, positives = (unit_vectors(8, seed, 64).bfloat16() for seed in (0, 1))
    pairing = Pairing(torch.eye(8).bool(), ~torch.eye(8).bool())
    expected = info_nce(queries.float(), positives.float(), pairing, temperature=0.02)
    with torch.autocast("cpu", torch.bfloat16):
        found = info_nce(queries, positives, pairing, temperature=0.02)
        rounded = (queries @ positives.T).float()
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    target = torch.arange(8)
    in_bfloat16 = torch.nn.functional.cross_entropy(rounded / 0.02, target)
    assert abs(in_bfloat16 - found) > 1e-4


def test_gradients_are_those_of_finite_differences():
    pairing = pair_candidates(
        torch.tensor([1, 2, 2]), torch.tensor([5, 6, 7, 5, 8, 9]), owners=torch.tensor([0, 0, 1, 2])
    )
    vectors = [unit_vectors(3, 0).requires_grad_(), unit_vectors(6, 1).requires_grad_()]

    def loss(queries, candidates):
        back = pairing.reversed(4)
        return info_nce(queries, candidates, pairing, temperature=0.3) + info_nce(
            candidates[:4], queries, back, temperature=0.3
        )

    assert torch.autograd.gradcheck(loss, vectors)
    whole, detached = (
        torch.autograd.grad(loss(vectors[0], c), vectors[0])[0]
        for c in (vectors[1], vectors[1].detach())
    )
    assert_close(whole, detached)
    assert whole.abs().max() > 1e-3
