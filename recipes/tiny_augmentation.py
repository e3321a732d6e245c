"""New looks for the same pictures: turned, cut, tinted, lit, on any background.

    (N, side, side, 4) RGBA ─ warp ─ tint and light ─ lay on a background ─► (N, 3, h, w) uint8

A few thousand drawings would soon be known by heart, and what is searched later are photographs and
drawings of other hands. Every view is drawn from one generator, so that a step can be repeated.

Shapes: N pictures of the batch, h x w pixels of a view.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

# Height and width of views in tokens of 28 pixels, how often a batch has them, and the share of the
# steps before which that holds: small ones for a quick start, all sizes in the end.
SHAPES = (
    (0.4, {(3, 3): 0.7, (3, 2): 0.15, (2, 3): 0.15}),
    (0.85, {(4, 4): 0.6, (4, 3): 0.15, (3, 4): 0.15, (5, 3): 0.05, (3, 5): 0.05}),
    (1.0, {(4, 4): 0.45, (5, 5): 0.2, (6, 5): 0.1, (5, 6): 0.1, (8, 8): 0.15}),
)
TOKEN = 28
TURN, LARGE_TURN = 8, 30  # degrees
COARSE = 4  # points a side of smooth light and of smooth backgrounds


def draw_shape(progress: float, generator: Generator) -> tuple[int, int]:
    """Draw the height and width of a batch's views in pixels; `progress` is from 0 to 1."""
    shares = next(shares for end, shares in SHAPES if progress < end)
    place = torch.multinomial(torch.tensor([*shares.values()]), 1, generator=generator).item()
    tall, wide = list(shares)[place]
    return tall * TOKEN, wide * TOKEN


def augmented_views(
    pixels: Tensor, shape: tuple[int, int], can_flip: Tensor, generator: Generator
) -> Tensor:
    """Return one random view of each picture.

    Args:
        pixels: (N, side, side, 4) uint8 RGBA, drawings in the middle of what is transparent.
        shape: h and w.
        can_flip: (N,) bool, pictures of which the mirror image shows the same.
        generator: of all that is random.

    Returns:
        (N, 3, h, w) uint8.
    """
    rgba = pixels.permute(0, 3, 1, 2).float() / 255
    rgba = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)  # colours weighted by alpha
    rgba = _warp(rgba, shape, can_flip, generator)
    alpha = rgba[:, 3:].clamp(1e-3, 1)
    colours = _light(_tint((rgba[:, :3] / alpha).clamp(0, 1), generator), generator)
    views = colours * rgba[:, 3:] + _backgrounds(colours, generator) * (1 - rgba[:, 3:])
    noise = torch.randn(views.shape, generator=generator)
    strength = 0.03 * torch.rand(len(views), 1, 1, 1, generator=generator)
    return ((views + noise * strength).clamp(0, 1) * 255).round().to(torch.uint8)


def plain_views(pixels: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the pictures as they are, on white: (N, 3, h, w) uint8."""
    rgba = pixels.permute(0, 3, 1, 2).float() / 255
    rgba = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)
    rgba = interpolate(rgba, shape, mode="bilinear", antialias=True)
    return ((rgba[:, :3] + 1 - rgba[:, 3:]).clamp(0, 1) * 255).round().to(torch.uint8)


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def _happens(count: int, share: float, generator: Generator) -> Tensor:
    """Draw for each picture whether something is done to it: (N, 1, 1, 1) of 0 and 1."""
    return (torch.rand(count, 1, 1, 1, generator=generator) < share).float()


def _warp(rgba: Tensor, shape: tuple[int, int], can_flip: Tensor, generator: Generator) -> Tensor:
    """Turn, stretch, zoom, shift and mirror each drawing in a view of its own."""
    count, side = len(rgba), rgba.shape[-1]
    covered = rgba[:, 3] > 0.03
    across = covered.any(1).sum(1) / side  # share of the square that the drawing takes
    down = covered.any(2).sum(1) / side
    tall, wide = shape
    even = torch.maximum(across / wide, down / tall)  # the drawing fits, its sides in proportion
    fill = 0.6 * torch.rand(count, generator=generator)
    stretch_x = across**fill * (even * wide) ** (1 - fill)
    stretch_y = down**fill * (even * tall) ** (1 - fill)
    zoom = _uniform(count, -0.35, 0.25, generator).exp()
    is_mirrored = can_flip & (torch.rand(count, generator=generator) < 0.5)
    sign = 1 - 2 * is_mirrored.float()
    largest = torch.where(torch.rand(count, generator=generator) < 0.3, LARGE_TURN, TURN)
    angle = _uniform(count, -1, 1, generator) * largest * math.pi / 180
    x, y = stretch_x / zoom, stretch_y / zoom
    shift = [0.15 * _uniform(count, -1, 1, generator) for _ in range(2)]
    rows = (
        torch.stack([angle.cos() * x * sign, -angle.sin() * y, shift[0]], dim=1),
        torch.stack([angle.sin() * x * sign, angle.cos() * y, shift[1]], dim=1),
    )
    grid = affine_grid(torch.stack(rows, dim=1), [count, 4, *shape], align_corners=False)
    return grid_sample(rgba, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _tint(colours: Tensor, generator: Generator) -> Tensor:
    """Change colours: towards grey or more vivid, brighter or darker, each channel on its own."""
    count = len(colours)
    grey = colours.mean(1, keepdim=True)
    vivid = _uniform(count, 0.4, 1.4, generator).view(-1, 1, 1, 1)
    vivid = vivid * (1 - _happens(count, 0.08, generator))
    gains = torch.rand(count, 3, 1, 1, generator=generator) * 0.4 + 0.8
    gamma = _uniform(count, -0.4, 0.4, generator).exp().view(-1, 1, 1, 1)
    changed = ((grey + (colours - grey) * vivid) * gains).clamp(1e-3, 1)
    return changed**gamma


def _smooth(count: int, channels: int, shape: torch.Size, generator: Generator) -> Tensor:
    coarse = torch.rand(count, channels, COARSE, COARSE, generator=generator)
    return interpolate(coarse, shape, mode="bilinear", align_corners=False)


def _light(colours: Tensor, generator: Generator) -> Tensor:
    """Throw soft light and shadow on half of the pictures, as on a photograph."""
    light = 0.6 + 0.8 * _smooth(len(colours), 1, colours.shape[-2:], generator)
    is_lit = _happens(len(colours), 0.5, generator)
    return (colours * (light * is_lit + 1 - is_lit)).clamp(0, 1)


def _backgrounds(colours: Tensor, generator: Generator) -> Tensor:
    """Return white for most pictures, and one colour or smooth colours for the others."""
    count, shape = len(colours), colours.shape[-2:]
    is_white = _happens(count, 0.7, generator)
    is_flat = _happens(count, 0.5, generator)
    flat = torch.rand(count, 3, 1, 1, generator=generator)
    smooth = _smooth(count, 3, shape, generator)
    return is_white + (1 - is_white) * (flat * is_flat + smooth * (1 - is_flat))
