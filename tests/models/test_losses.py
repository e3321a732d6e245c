"""The losses of given scores against slow loops and hand-derived values."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from jina.models.losses import cosent, info_nce, score_divergence
from tests.models.slow_losses import slow_cosent, slow_divergence, slow_info_nce

SEEDS = range(12)
TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 1e-5)]
TEMPERATURES = [1.0, 0.1, 0.02]


def draw(seed, count=1):
    """Scores (R, C) that float32 holds, and masks of positives and of negatives."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = 1 + seed % 5, 2 + seed % 7
    matrices = torch.rand(count, rows, columns, generator=generator) * 2 - 1
    kinds = torch.randint(0, 3, (rows, columns), generator=generator)
    kinds[:, seed % columns] = 1
    return [matrix.double() for matrix in matrices], kinds == 1, kinds == 2


def with_gradients(loss, inputs):
    """Weighted sum of a loss's rows (a scalar as it is) and its gradients, in float64."""
    weights = torch.arange(1, loss.numel() + 1, dtype=loss.dtype)
    total = (loss.flatten() * weights).sum()
    return [each.detach().double() for each in (total, *torch.autograd.grad(total, inputs))]


def assert_same(function, slow, scores, temperature, dtype, tolerance):
    """Compare values and gradients by scores and temperature with those of slow loops."""
    found, expected = (
        with_gradients(compute(*inputs), inputs)
        for compute, inputs in (
            (function, leaves(scores, temperature, dtype)),
            (slow, leaves(scores, temperature, torch.float64)),
        )
    )
    natural = (1, *[1 / temperature] * len(scores), 1 / temperature**2)  # sizes of derivatives
    for one, other, size in zip(found, expected, natural, strict=True):
        assert one.isfinite().all()
        assert float((one - other).norm()) <= tolerance * max(float(other.norm()), size)


def leaves(scores, temperature, dtype):
    values = [*scores, torch.tensor(temperature)]
    return [value.detach().to(dtype).clone().requires_grad_() for value in values]


def rows_of(tensor):
    return [list(row) for row in tensor]


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=str)
def test_info_nce_follows_its_definition(temperature, dtype, tolerance):
    for seed in SEEDS:
        scores, positive, negative = draw(seed)
        lists = positive.tolist(), negative.tolist()

        def slow(matrix, tau, masks=lists):
            return torch.stack(slow_info_nce(rows_of(matrix), *masks, tau))

        def product(matrix, tau, masks=(positive, negative)):
            return info_nce(matrix, *masks, tau)

        assert_same(product, slow, scores, temperature, dtype, tolerance)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=str)
def test_divergence_follows_its_definition(temperature, dtype, tolerance):
    for seed in SEEDS:
        scores, positive, negative = draw(seed, count=2)
        either = positive | negative
        lists = either.tolist()

        def slow(dense, late, tau, mask=lists):
            return torch.stack(slow_divergence(rows_of(dense), rows_of(late), mask, tau))

        def product(dense, late, tau, mask=either):
            return score_divergence(dense, late, mask, tau)

        assert_same(product, slow, scores, temperature, dtype, tolerance)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=str)
@pytest.mark.parametrize("grades", [2, 3, 1000])
def test_cosent_follows_its_definition(temperature, dtype, tolerance, grades):
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        count = 2 + seed
        ratings = torch.randint(0, grades, (count,), generator=generator) / 10
        ratings[:2] = torch.tensor([0.0, grades])
        scores = (torch.rand(count, generator=generator) * 2 - 1).double()
        numbers = ratings.tolist()

        def slow(values, tau, truth=numbers):
            return slow_cosent(values, truth, tau)

        def product(values, tau, truth=ratings):
            return cosent(values, truth, tau)

        assert_same(product, slow, [scores], temperature, dtype, tolerance)


# ---- derived by hand -----------------------------------------------------------------------


@pytest.mark.parametrize("hard_negatives", [0, 3])
def test_equal_scores_cost_the_logarithm_of_the_choices(hard_negatives):
    scores, positive = torch.full((4, 4 + hard_negatives), 0.3), torch.eye(4, 4 + hard_negatives)
    found = info_nce(scores, positive.bool(), ~positive.bool(), 0.02)
    assert found.tolist() == pytest.approx([math.log(4 + hard_negatives)] * 4, rel=1e-5)


def test_with_one_positive_a_row_it_is_the_cross_entropy():
    scores = draw(4)[0][0][:, :5]
    own = torch.eye(len(scores), 5).bool()
    target = torch.arange(len(scores))
    found = info_nce(scores, own, ~own, 0.1)
    assert found.tolist() == pytest.approx(
        cross_entropy(scores / 0.1, target, reduction="none").tolist(), rel=1e-12
    )
    wrong = cross_entropy(scores / 0.1, (target + 1) % 5, reduction="none")
    assert (found - wrong).abs().max() > 1e-2


def test_positives_of_one_query_do_not_compete_and_share_its_weight():
    roles = torch.tensor([[True, True, True, False]])
    found = info_nce(torch.zeros(1, 4), roles, ~roles, 0.02)
    assert found.item() == pytest.approx(math.log(2), rel=1e-6)  # and neither 3 ln 2 nor ln 4


def test_a_column_that_is_neither_counts_for_nothing():
    own, rivals = torch.tensor([[True, False, False]]), torch.tensor([[False, True, False]])
    losses = [
        info_nce(torch.tensor([[0.5, 0.2, other]]), own, rivals, 0.1).item() for other in (-1, 1)
    ]
    assert losses[0] == losses[1]
    assert info_nce(torch.tensor([[0.5, 0.2, 1.0]]), own, ~own, 0.1).item() > losses[0] + 1


def test_temperature_divides_the_similarity():
    own = torch.tensor([[True, False]])
    found = info_nce(torch.tensor([[1.0, 0.0]]), own, ~own, 0.5)
    assert found.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)


def test_a_pair_without_rivals_costs_and_teaches_nothing():
    scores = torch.rand(2, 2).requires_grad_()
    temperature = torch.tensor(0.02, requires_grad=True)
    loss = info_nce(scores, torch.eye(2).bool(), torch.zeros(2, 2).bool(), temperature).sum()
    loss.backward()
    assert loss.item() == 0
    assert not scores.grad.any()
    assert temperature.grad.item() == 0


def test_divergence_is_the_one_of_torch_dense_first():
    (dense, late), _, _ = draw(4, count=2)
    everything = torch.ones_like(dense).bool()
    found = score_divergence(dense, late, everything, 0.1)
    logs = [log_softmax(scores / 0.1, 1) for scores in (dense, late)]
    expected, turned = (
        kl_div(target, source, reduction="none", log_target=True).sum(1)
        for source, target in (logs, logs[::-1])
    )
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-12)
    assert (found - turned).abs().max() > 1e-2


def test_equal_scores_and_scores_moved_alike_do_not_diverge():
    (scores,), positive, negative = draw(4)
    either = positive | negative
    for late in (scores, scores + 0.3):
        found = score_divergence(scores, late, either, 0.02)
        assert found.tolist() == pytest.approx([0.0] * len(scores), abs=1e-12)
    assert score_divergence(scores, scores / 2, either, 0.02).max() > 1e-2


def test_divergence_pulls_both_sides():
    scores = [matrix.requires_grad_() for matrix in draw(4, count=2)[0]]
    score_divergence(*scores, torch.ones_like(scores[0]).bool(), 0.1).sum().backward()
    assert min(matrix.grad.abs().max() for matrix in scores) > 1e-2


def test_two_rated_pairs_cost_by_how_far_they_are_out_of_order():
    scores, ratings = torch.tensor([0.2, 0.5], dtype=torch.float64), torch.tensor([5.0, 1.0])
    found = [cosent(scores, each, 0.1).item() for each in (ratings, ratings.flip(0))]
    assert found == pytest.approx([math.log1p(math.exp(3)), math.log1p(math.exp(-3))], rel=1e-12)


def test_only_the_order_of_ratings_counts():
    scores = torch.rand(6, generator=torch.Generator().manual_seed(0))
    ratings = torch.tensor([0.0, 1.0, 1.0, 2.0, 5.0, 3.0])
    found = cosent(scores, ratings, 0.1).item()
    assert cosent(scores, ratings.exp(), 0.1).item() == found
    assert cosent(scores, (ratings * 2).long(), 0.1).item() == found
    assert abs(cosent(scores, -ratings, 0.1).item() - found) > 1e-2


def test_pairs_of_equal_rating_are_not_ordered():
    scores = torch.tensor([0.1, 0.9], requires_grad=True)
    loss = cosent(scores, torch.tensor([3.0, 3.0]), 0.02)
    loss.backward()
    assert loss.item() == 0
    assert scores.grad.tolist() == [0, 0]


# ---- extremes ------------------------------------------------------------------------------


def test_hopeless_scores_stay_finite():
    """Opposite vectors at the lowest temperature in use: 2 / 0.001, far beyond exp in float32."""
    scores = torch.tensor([[-1.0, 1.0]], requires_grad=True)
    own = torch.tensor([[True, False]])
    losses = [
        info_nce(scores, own, ~own, 1e-3).sum(),
        cosent(scores[0], torch.tensor([1.0, 0.0]), 1e-3),
    ]
    for loss in losses:
        assert loss.item() == pytest.approx(2000)
        slope = torch.autograd.grad(loss, scores)[0].flatten().tolist()
        assert slope == pytest.approx([-1000, 1000])
    opposite = score_divergence(scores, -scores, torch.ones(1, 2).bool(), 1e-3)
    assert opposite.item() == pytest.approx(2000)
    assert torch.autograd.grad(opposite.sum(), scores)[0].isfinite().all()


def test_cosent_of_pairs_far_out_of_order_is_exact():
    """ln(1 + e^20.5) is 20.5 + e^-20.5, of which `softplus` keeps the first half."""
    scores = torch.tensor([0.0, 20.5], dtype=torch.float64)
    rest = cosent(scores, torch.tensor([1.0, 0.0]), 1.0).item() - 20.5
    assert rest == pytest.approx(math.exp(-20.5), rel=1e-5)


def test_many_rated_pairs_need_no_square():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(200_000, generator=generator)  # a matrix of all pairs would take 160 GB
    assert cosent(scores, torch.rand(200_000, generator=generator), 0.05).isfinite()
