"""The losses of pretraining, on vectors of which the answer is known."""

import torch
from torch.nn.functional import normalize

from jina.models.contrastive_loss import ContrastiveLoss
from jina.models.embeddings import Embeddings, TokenVectors
from recipes.tiny_objective import (
    WEIGHTS,
    TowerHead,
    distance,
    pair_loss,
    sight_loss,
    token_vectors,
)


def random_unit(*shape, seed=0):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_vectors_at_their_targets_cost_nothing():
    targets = random_unit(20, 12)
    assert distance(3 * targets, targets, [4, 12]) < 1e-5
    assert distance(random_unit(20, 12, seed=1), targets, [4, 12]) > 0.5


def test_every_size_of_a_vector_is_compared_with_its_target():
    targets = random_unit(20, 12)
    small = torch.cat([targets[:, :4], torch.zeros(20, 8)], dim=1)
    assert distance(small, targets, [4]) < 1e-5
    both = distance(small, targets, [4, 12])
    torch.testing.assert_close(both, distance(small, targets, [12]) / 2, atol=1e-5, rtol=0)
    assert both > 0.1


def test_pictures_are_compared_with_each_of_the_teachers_two_vectors():
    head = TowerHead(6, 8)
    features = torch.randn(5, 6)
    found = head(features).detach()
    assert sight_loss(head, features, found) < 1e-5
    half = torch.cat([found[:, :4], -found[:, 4:]], dim=1)
    torch.testing.assert_close(sight_loss(head, features, half), torch.tensor(1.0))


def test_a_token_means_what_its_texts_have_in_common():
    features = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = token_vectors([[0, 1], [0], [2]], features, 4)
    shared = torch.tensor([0.5, 0.5, 0]) - 1 / 3
    torch.testing.assert_close(found[0], shared / shared.std())
    assert found[2].argmax() == 2
    assert found[3].abs().sum() > 0


def pairs(texts, images, captions):
    sides = [Embeddings(side, TokenVectors(side, [1] * len(side))) for side in (texts, images)]
    return pair_loss(ContrastiveLoss(WEIGHTS, (4, 8), symmetric=True), *sides, captions)


def test_equal_captions_are_no_negatives_of_each_other():
    texts, images = random_unit(2, 8), random_unit(2, 8, seed=1)
    assert pairs(texts, images, ["A dog.", "a dog"]) < 1e-5
    assert pairs(texts, images, ["a dog", "a cat"]) > 0.1


def test_pairs_that_are_alike_cost_less_than_pairs_that_are_crossed():
    vectors, captions = random_unit(4, 8), ["a", "b", "c", "d"]
    assert pairs(vectors, vectors, captions) < pairs(vectors, vectors.roll(1, 0), captions)
