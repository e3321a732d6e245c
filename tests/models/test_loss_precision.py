"""What the loss keeps of its precision in bfloat16, and how little memory it takes."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from jina.models.contrastive_loss import ContrastiveLoss, Weights
from jina.models.embeddings import Embeddings
from jina.models.pairing import pair_candidates


def close_vectors(count=64, size=2048, positive=0.73, negative=0.59):
    """Queries and positives in float64 with the cosines of a trained model (a narrow cone)."""
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    cone, shared = draw(size), draw(count, size)
    sides = []
    for _ in range(2):
        mixed = negative**0.5 * cone + (positive - negative) ** 0.5 * shared
        sides.append(normalize(mixed + (1 - positive) ** 0.5 * draw(count, size), dim=1))
    return sides


def loss_of_pairs(sides, scale=1.0):
    """The product's loss of queries and positives, times `scale`, and its gradients."""
    sides = [side.detach().requires_grad_() for side in sides]
    rows = torch.arange(len(sides[0]))
    pairing = pair_candidates(rows, rows + len(rows), owners=rows)
    compute = ContrastiveLoss(Weights(1.0, 0.0, 0.0), (sides[0].shape[1],))
    queries, candidates = (Embeddings(side, None) for side in sides)
    loss, _ = compute(queries, candidates, pairing, temperature=torch.tensor(0.02))
    return loss, torch.autograd.grad(loss * scale, sides)


def errors_of_pairs(found, expected):
    """Relative errors of the loss and of the gradient."""
    values, gradients = [], []
    for loss, of_sides in (found, expected):
        values.append(loss.item())
        gradients.append(torch.cat([gradient.double().flatten() for gradient in of_sides]))
    of_gradient = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    return abs(values[0] / values[1] - 1), of_gradient.item()


def test_bfloat16_vectors_give_the_loss_of_float64_at_a_low_temperature():
    exact = close_vectors()
    cosines = exact[0] @ exact[1].T
    assert cosines.diag().mean().item() == pytest.approx(0.73, abs=0.01)
    assert cosines[~torch.eye(64).bool()].mean().item() == pytest.approx(0.59, abs=0.01)
    sides = [side.bfloat16() for side in exact]
    expected = loss_of_pairs(exact)
    loss, gradients = loss_of_pairs(sides)
    assert loss.dtype == torch.float32
    assert {gradient.dtype for gradient in gradients} == {torch.bfloat16}
    of_loss, of_gradient = errors_of_pairs((loss, gradients), expected)
    assert of_loss < 1e-3
    assert of_gradient < 1e-2

    low = [side.clone().requires_grad_() for side in sides]
    all_low = cross_entropy((low[0] @ low[1].T) / 0.02, torch.arange(64))
    control = (all_low.detach(), torch.autograd.grad(all_low, low))
    of_loss, of_gradient = errors_of_pairs(control, expected)
    assert of_loss > 1e-3
    assert of_gradient > 1e-2


def test_a_gradient_is_scaled_before_it_is_rounded():
    sides = [side.bfloat16() for side in close_vectors(8, 16)]
    wide = loss_of_pairs([side.float() for side in sides])[1]
    found = loss_of_pairs(sides, scale=1 / 3)[1]
    for gradient, exact in zip(found, wide, strict=True):
        assert torch.equal(gradient, (exact * (1 / 3)).bfloat16())
        assert not torch.equal(gradient, exact.bfloat16() * (1 / 3))


# ---- memory --------------------------------------------------------------------------------


def measured(*arguments):
    """The figures of `benchmarks.loss_memory`, which measures in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.loss_memory", *arguments]
    root = Path(__file__).parents[2]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=root).stdout)


@pytest.mark.slow
def test_a_batch_of_32768_takes_less_than_300_mib_beyond_its_inputs():
    found = measured("narrow", "--rows", "4096")
    assert found["items"] == 32_768
    assert found["beyond_mib"] < 300


@pytest.mark.slow
def test_the_joint_loss_of_1024_items_takes_less_than_300_mib_beyond_its_inputs():
    assert measured("joint", "--rows", "256")["beyond_mib"] < 300


@pytest.mark.slow
def test_a_loss_in_one_tile_takes_more():
    whole = ["narrow", "--items", "4096"]
    assert measured(*whole, "--tile", str(2**40))["beyond_mib"] > 300
    assert measured(*whole)["beyond_mib"] < 300
