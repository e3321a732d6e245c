"""Views of a picture: always new, always repeatable, and still of that picture."""

import math

import pytest
import torch

from recipes.tiny_augmentation import TOKEN, augmented_views, draw_shape, plain_views

SHAPE = (84, 112)


def drawn(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pixels(tiny_set):
    return torch.from_numpy(tiny_set.pixels)


def test_one_seed_gives_one_view_and_another_seed_another(pixels):
    can_flip = torch.ones(len(pixels), dtype=torch.bool)
    first, again, other = (
        augmented_views(pixels, SHAPE, can_flip, drawn(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == (len(pixels), 3, *SHAPE)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_drawing_keeps_most_of_its_colour(pixels):
    views = augmented_views(pixels[:2].repeat(40, 1, 1, 1), SHAPE, torch.ones(80) > 0, drawn(0))
    middle = views[:, :, 36:48, 50:62].float().mean((2, 3))
    reds, greens = middle[0::2], middle[1::2]
    assert (reds[:, 0] > reds[:, 1]).float().mean() > 0.8
    assert (greens[:, 1] > greens[:, 0]).float().mean() > 0.8


def test_what_shows_its_side_is_never_mirrored():
    halves = torch.zeros(60, 128, 128, 4, dtype=torch.uint8)
    halves[..., 3] = 255
    halves[:, :, 64:, :3] = 255  # black on the left, white on the right

    def mirrored(can_flip):
        views = augmented_views(halves, SHAPE, torch.full((60,), can_flip), drawn(3)).float()
        return views[:, :, 30:54, 20:50].mean((1, 2, 3)) > views[:, :, 30:54, 62:92].mean((1, 2, 3))

    assert not mirrored(False).any()
    assert 0.2 < mirrored(True).float().mean() < 0.8


def test_plain_views_lie_on_white(pixels):
    views = plain_views(pixels, (112, 112))
    assert (views[:, :, 0, 0] == 255).all()
    assert views[0, :, 56, 56].tolist() == [255, 0, 0]


def test_shapes_are_whole_tokens_and_grow():
    largest = []
    for progress in (0.0, 0.5, 0.95):
        shapes = {draw_shape(progress, drawn(seed)) for seed in range(100)}
        assert all(side % TOKEN == 0 for shape in shapes for side in shape)
        largest.append(max(shapes, key=math.prod))
    assert largest == [(84, 84), (112, 112), (224, 224)]
