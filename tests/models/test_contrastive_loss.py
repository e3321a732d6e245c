"""The joint loss and its gradients against slow loops, however it is cut into tiles and parts."""

from functools import cache
from itertools import product

import pytest
import torch
from torch.nn.functional import cosine_similarity

from jina.models import contrastive_loss, scores
from jina.models.contrastive_loss import ContrastiveLoss, Weights
from jina.models.embeddings import Embeddings, TokenVectors
from jina.models.pairing import pair_candidates
from tests.models.slow_losses import random_batch, slow_loss

JOINT, SIZES = Weights(1.0, 0.7, 0.3), (3, 8, 12)
FORMS = {
    "one-way": {"symmetric": False, "rated": False},
    "symmetric": {"symmetric": True, "rated": False},
    "rated": {"symmetric": False, "rated": True},
}
SEEDS = range(12)
BATCHES = {
    (seed, rated): random_batch(seed, rated=rated) for seed in SEEDS for rated in (False, True)
}
SUBSETS = [Weights(*each) for each in product((0.0, 0.7), (0.0, 0.6), (0.0, 0.5)) if any(each)]


@pytest.fixture
def cut(monkeypatch):
    """Return a function that sets how many scores, similarities, tokens and matches fit."""

    def set_limits(number):
        monkeypatch.setattr(contrastive_loss, "TILE", number)
        for name in ("SIMILARITIES", "QUERY_TOKENS", "MATCHES"):
            monkeypatch.setattr(scores, name, number)

    return set_limits


def leaves(batch, dtype=torch.float64):
    """A batch's vectors and temperature, ready to take gradients."""
    temperature = torch.tensor(batch.temperature)
    return [
        tensor.detach().to(dtype).clone().requires_grad_()
        for tensor in (*batch.vectors, temperature)
    ]


def run(batch, inputs, *, weights=JOINT, sizes=SIZES, symmetric=False, **options):
    """Compute the product's loss; the kinds of vectors it doesn't need are left out."""
    *vectors, temperature = inputs
    queries, candidates = vectors[:2] if weights.needs_single else (None, None)
    tokens = [None, None]
    if weights.needs_multi:
        sides = (batch.query_lengths, batch.candidate_lengths)
        tokens = list(map(TokenVectors, vectors[2:], sides))
    pairing = pair_candidates(
        torch.tensor(batch.query_contents),
        torch.tensor(batch.candidate_contents),
        owners=torch.tensor(batch.owners),
    )
    ratings = None if batch.ratings is None else torch.tensor(batch.ratings)
    return ContrastiveLoss(weights, tuple(sizes), symmetric)(
        Embeddings(queries, tokens[0]),
        Embeddings(candidates, tokens[1]),
        pairing,
        temperature=temperature,
        ratings=ratings,
        **options,
    )


def with_gradients(loss, inputs):
    """The loss and its gradients, zeros where an input has none; in float64."""
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
    gradients = [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(inputs, gradients, strict=True)
    ]
    return [tensor.detach().double() for tensor in (loss, *gradients)]


@cache
def expected(seed, rated=False, weights=JOINT, sizes=SIZES, symmetric=False):
    """The slow loss of a batch and its gradients."""
    batch = BATCHES[seed, rated]
    inputs = leaves(batch)
    loss = slow_loss(
        batch, weights, sizes, symmetric=symmetric, vectors=inputs[:-1], temperature=inputs[-1]
    )
    return with_gradients(loss, inputs)


def worst_error(found, expected, floor=1e-3):
    """The greatest error of any tensor, relative to its length, or to `floor` if that is more."""
    return max(
        float((one - other).norm() / other.norm().clamp(min=floor))
        for one, other in zip(found, expected, strict=True)
    )


def error_of(seed, *, rated=False, symmetric=False, **options):
    """How far the product's loss and gradients are from the slow ones."""
    batch = BATCHES[seed, rated]
    inputs = leaves(batch)
    loss, _ = run(batch, inputs, symmetric=symmetric, **options)
    reference = expected(seed, rated=rated, symmetric=symmetric, **options)
    return worst_error(with_gradients(loss, inputs), reference)


def test_the_random_batches_hold_every_case():
    plain = [BATCHES[seed, False] for seed in SEEDS]
    assert any(len(set(b.owners)) < len(b.owners) for b in plain)  # several positives
    assert any(len(set(b.query_contents)) < len(b.query_contents) for b in plain)
    assert any(len(set(b.candidate_contents)) < len(b.candidate_contents) for b in plain)
    assert any(set(b.query_contents) & set(b.candidate_contents) for b in plain)
    assert {1, 5} <= {length for b in plain for length in b.query_lengths + b.candidate_lengths}
    assert any(b.is_apart for b in plain)
    ratings = [BATCHES[seed, True].ratings for seed in SEEDS]
    assert any(1 < len(set(each)) < len(each) for each in ratings)  # ties
    assert any(len(set(each)) == 1 for each in ratings)


# ---- values and gradients ------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 40, 2**21])
@pytest.mark.parametrize("form", FORMS)
def test_loss_and_gradients_are_those_of_slow_loops_in_tiles_of_any_size(cut, form, limit):
    cut(limit)
    seeds = SEEDS[:6] if limit == 1 else SEEDS  # a tile a row is slow
    assert max(error_of(seed, **FORMS[form]) for seed in seeds) <= 1e-12


def joined(tensors):
    """Loss, gradient by all vectors as one, and gradient by the temperature."""
    loss, *vectors, temperature = tensors
    return loss, torch.cat([each.flatten() for each in vectors]), temperature


@pytest.mark.parametrize("form", FORMS)
def test_float32_keeps_five_digits(form):
    symmetric, rated = FORMS[form].values()
    errors = []
    for seed in SEEDS:
        batch = BATCHES[seed, rated]
        inputs = leaves(batch, torch.float32)
        loss, _ = run(batch, inputs, symmetric=symmetric)
        found = joined(with_gradients(loss, inputs))
        reference = joined(expected(seed, rated=rated, symmetric=symmetric))
        errors.append(worst_error(found, reference, floor=1e-2))
    assert 1e-8 < max(errors) <= 1e-5  # float64 would be closer


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weights", SUBSETS, ids=str)
def test_each_subset_of_the_parts_is_that_of_slow_loops(cut, form, weights):
    cut(40)
    for sizes in (SIZES, (12,)):
        options = {**FORMS[form], "weights": weights, "sizes": sizes}
        assert max(error_of(seed, **options) for seed in (0, 1)) <= 1e-12


CHANGES = {
    "symmetric": {"symmetric": True},
    "sizes": {"sizes": (12,)},
    "single": {"weights": JOINT._replace(single=0.9)},
    "multi": {"weights": JOINT._replace(multi=0.6)},
    "kl": {"weights": JOINT._replace(kl=0.2)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_form_gives_another_loss(change):
    errors = [worst_error(expected(seed, **CHANGES[change]), expected(seed)) for seed in (1, 2)]
    assert max(errors) > 1e-2


def test_a_matryoshka_size_costs_what_the_short_vectors_cost_alone():
    batch, weights = random_batch(1), Weights(1.0, 0.0, 0.0)
    _, parts = run(batch, leaves(batch), weights=weights)
    for size in SIZES:
        short = random_batch(1)
        short.vectors[:2] = [vectors[:, :size] for vectors in batch.vectors[:2]]
        alone, _ = run(short, leaves(short), weights=weights, sizes=(size,))
        assert parts[f"single_loss_{size}"].item() == pytest.approx(alone.item(), rel=1e-12)


def test_the_parts_are_named_and_make_up_the_loss():
    batch = BATCHES[1, False]
    loss, parts = run(batch, leaves(batch))
    assert parts["contrastive_loss"].item() == loss.item()
    sizes = [parts[f"single_loss_{size}"] for size in SIZES]
    assert parts["single_loss"].item() == pytest.approx(sum(sizes).item() / 3, rel=1e-12)
    named = [parts[name] for name in ("single_loss", "multi_loss", "kl_loss")]
    total = sum(weight * part for weight, part in zip(JOINT, named, strict=True))
    assert loss.item() == pytest.approx(total.item(), rel=1e-12)
    assert len({round(part.item(), 9) for part in (*sizes, *named[1:])}) == 5


def test_similarities_are_the_means_over_positives_and_over_negatives():
    batch = BATCHES[1, False]
    _, parts = run(batch, leaves(batch))
    roles = pair_candidates(
        torch.tensor(batch.query_contents),
        torch.tensor(batch.candidate_contents),
        owners=torch.tensor(batch.owners),
    ).tile(0, len(batch.query_contents))
    cosines = cosine_similarity(batch.vectors[0][:, None], batch.vectors[1], dim=2)
    for name, mask in zip(("positive", "negative"), roles, strict=True):
        means = [row[of_row].mean() for row, of_row in zip(cosines, mask, strict=True)]
        value = torch.stack(means).mean().item()
        assert parts[f"{name}_similarity"].item() == pytest.approx(value, rel=1e-9)


def test_a_learned_temperature_gets_the_slope_of_finite_differences():
    batch, step = BATCHES[2, False], 1e-6
    *vectors, temperature = leaves(batch)
    loss, _ = run(batch, [*vectors, temperature], symmetric=True)
    loss.backward()
    above, below = (
        run(batch, [*vectors, temperature.detach() + sign * step], symmetric=True)[0].item()
        for sign in (1, -1)
    )
    assert temperature.grad.item() == pytest.approx((above - below) / (2 * step), rel=1e-6)
    assert abs(temperature.grad.item()) > 1e-3


def test_positives_of_rated_rows_may_stand_in_any_order():
    batch = BATCHES[3, True]
    order = list(range(len(batch.owners)))[::-1]
    places = torch.tensor(order)
    turned = random_batch(3, rated=True)
    turned.owners = order
    turned.candidate_contents = [batch.candidate_contents[at] for at in order]
    turned.vectors[1] = batch.vectors[1][places]
    weights = Weights(1.0, 0.0, 0.0)
    found, same = (run(each, leaves(each), weights=weights) for each in (turned, batch))
    assert found[0].item() == pytest.approx(same[0].item(), rel=1e-12)
    turned.vectors[1] = batch.vectors[1]
    other, _ = run(turned, leaves(turned), weights=weights)
    assert abs(other.item() - same[0].item()) > 1e-3


def test_rows_of_equal_rating_teach_nothing():
    batch = random_batch(5, rated=True)
    batch.ratings = [2.0] * len(batch.owners)
    inputs = leaves(batch)
    loss, _ = run(batch, inputs, weights=Weights(1.0, 1.0, 0.0))
    loss, *gradients = with_gradients(loss, inputs)
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in gradients)


# ---- parts of a batch ----------------------------------------------------------------------


def sum_of_parts(batch, pieces, **options):
    """Loss, gradients and named parts of several pieces (rows, positives), added up."""
    totals, named = None, {}
    for rows, positives in pieces:
        inputs = leaves(batch)
        loss, parts = run(batch, inputs, rows=rows, positives=positives, **options)
        found = with_gradients(loss, inputs)
        totals = found if totals is None else [a + b for a, b in zip(totals, found, strict=True)]
        assert not named or named.keys() == parts.keys()
        named = {name: named.get(name, 0) + value for name, value in parts.items()}
    return totals, named


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("limit", [1, 2**21])
def test_parts_add_up_to_the_whole_and_a_part_may_be_empty(cut, form, limit):
    cut(limit)
    symmetric, rated = FORMS[form].values()
    for seed in range(3):
        batch = BATCHES[seed, rated]
        rows, positives = len(batch.query_contents), len(batch.owners)
        pieces = [
            (range(0, 1), range(0, 0)),
            (range(1, 1), range(0, positives // 2)),
            (range(1, rows), range(positives // 2, positives)),
            (range(rows, rows), range(positives, positives)),
        ]
        found, parts = sum_of_parts(batch, pieces, symmetric=symmetric)
        whole = expected(seed, rated=rated, symmetric=symmetric)
        assert worst_error(found, whole) <= 1e-12
        _, named = run(batch, leaves(batch), symmetric=symmetric)
        assert parts.keys() == named.keys()
        for name, value in named.items():
            assert parts[name].item() == pytest.approx(value.item(), rel=1e-12, abs=1e-12)


def test_a_missing_part_is_missed():
    batch = BATCHES[1, False]
    rows, positives = len(batch.query_contents), len(batch.owners)
    for piece in ((range(1, rows), range(positives)), (range(rows), range(1, positives))):
        found, _ = sum_of_parts(batch, [piece], symmetric=True)
        assert worst_error(found, expected(1, symmetric=True)) > 1e-2


# ---- gradients are computed along with the loss --------------------------------------------


def test_without_gradients_the_loss_is_the_same():
    batch = BATCHES[1, False]
    inputs = leaves(batch)
    with_graph, _ = run(batch, inputs)
    with torch.no_grad():
        found, _ = run(batch, inputs)
    assert found.item() == with_graph.item()
    assert with_graph.requires_grad
    assert not found.requires_grad


def test_a_frozen_temperature_changes_no_other_gradient():
    batch = BATCHES[1, False]
    inputs = leaves(batch)
    inputs[-1].requires_grad_(False)
    loss, _ = run(batch, inputs)
    loss.backward()
    assert inputs[-1].grad is None
    found = [loss.detach(), *(tensor.grad for tensor in inputs[:-1])]
    assert worst_error(found, expected(1)[:-1]) <= 1e-12


def test_the_scale_of_the_loss_scales_its_gradients():
    batch = BATCHES[1, False]
    inputs = leaves(batch)
    (run(batch, inputs)[0] / 3).backward()
    thirds = [gradient / 3 for gradient in expected(1)[1:]]
    assert worst_error([tensor.grad for tensor in inputs], thirds) <= 1e-12


def test_a_gradient_is_handed_out_once():
    batch = BATCHES[1, False]
    loss, _ = run(batch, leaves(batch))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="got a second backward pass; compute the loss again"):
        loss.backward()


def test_there_is_no_second_derivative():
    batch = BATCHES[1, False]
    inputs = leaves(batch)
    loss, _ = run(batch, inputs)
    slope = torch.autograd.grad(loss, inputs[0], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="does not require grad"):
        slope.sum().backward()


# ---- precision -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_autocast_around_the_loss_changes_no_bit(form):
    symmetric, rated = FORMS[form].values()
    batch = BATCHES[1, rated]
    plain = leaves(batch, torch.float32)
    without = with_gradients(run(batch, plain, symmetric=symmetric)[0], plain)
    with torch.autocast("cpu", torch.bfloat16):
        inputs = leaves(batch, torch.float32)
        loss, _ = run(batch, inputs, symmetric=symmetric)
        within = with_gradients(loss, inputs)
        product = inputs[0] @ inputs[1].T
    assert all(map(torch.equal, within, without))
    assert product.dtype == torch.bfloat16  # what the autocast does to a score outside
