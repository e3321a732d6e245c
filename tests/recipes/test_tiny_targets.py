"""What the tiny Jina's vectors are to become, on features of which the answer is known."""

from dataclasses import replace

import pytest
import torch

from recipes.tiny_targets import Targets, ridge


@pytest.fixture
def related_set(tiny_set):
    """The squares, seen by a teacher that knows what their captions mean."""
    texts = torch.randn(5, 80, generator=torch.Generator().manual_seed(1))
    seen = texts[[0, 1, 2, 3] * 2] @ torch.randn(80, 12)
    return replace(tiny_set, text_features=texts, picture_features=seen)


def test_a_picture_is_to_be_where_its_caption_is(related_set):
    targets = Targets.of(related_set, 4)
    own = (targets.pictures * targets.captions).sum(1)
    other = (targets.pictures * targets.texts[[1, 2, 3, 0] * 2]).sum(1)
    assert own.min() > 0.9
    assert other.max() < 0.5


def test_targets_have_length_one_and_the_size_that_was_asked_for(related_set):
    targets = Targets.of(related_set, 3)
    assert targets.texts.shape == (5, 3)
    assert targets.pictures.shape == (8, 3)
    for vectors in (targets.texts, targets.pictures, *targets.sights.chunk(2, dim=1)):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_the_leading_numbers_say_most(related_set):
    spread = Targets.of(related_set, 4).pictures.square().sum(0)
    assert spread[0] > spread[3]


def test_pictures_held_out_change_no_target_of_the_others(tiny_set, monkeypatch):
    monkeypatch.setattr(type(tiny_set), "held_out", lambda self: [7])

    def targets_with(features):
        return Targets.of(replace(tiny_set, picture_features=features), 4)

    other = tiny_set.picture_features.clone()
    other[7] += 5
    one, two = targets_with(tiny_set.picture_features), targets_with(other)
    for name in ("texts", "captions"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name))
    for name in ("pictures", "sights"):
        torch.testing.assert_close(getattr(one, name)[:7], getattr(two, name)[:7])
        assert (getattr(one, name)[7] - getattr(two, name)[7]).abs().max() > 0.01


def test_the_ridge_finds_a_linear_map_and_rows_without_weight_do_not_count():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 5, generator=generator)
    wanted = torch.randn(5, 3, generator=generator)
    outputs = inputs @ wanted
    outputs[100:] = 9.0
    halves = torch.tensor([1.0] * 100 + [0.0] * 100)
    assert (ridge(inputs, outputs, halves) - wanted).abs().max() < 0.15
    assert (ridge(inputs, outputs, torch.ones(200)) - wanted).abs().max() > 0.5
