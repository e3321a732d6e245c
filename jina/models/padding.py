"""The official padded form, taken apart at the door and put back on the way out.

Shapes: N rows, L longest row, P patches, H vector size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from jina.models.packing import TokenSequence, rope_positions

Grid = tuple[int, int, int]


@dataclass
class JinaEmbeddingsV4ModelOutput(ModelOutput):
    """The official output record.

    Attributes:
        vlm_last_hidden_states: (N, L, H) decoder output, zero on padding; only on request.
        single_vec_emb: (N, H) float32, of length 1.
        multi_vec_emb: (N, L, D) float32, each row of length 1, zero on padding.
    """

    vlm_last_hidden_states: Tensor | None = None
    single_vec_emb: Tensor | None = None
    multi_vec_emb: Tensor | None = None


def unpad(
    input_ids: Tensor,
    attention_mask: Tensor,
    pixel_values: Tensor | None,
    image_grid_thw: Tensor | None,
    *,
    image_token_id: int,
    merge_size: int,
) -> list[TokenSequence]:
    """Take the real tokens and patches out of padded rows.

    Args:
        input_ids: (N, L).
        attention_mask: (N, L), 1 on real tokens, which may lie on either side.
        pixel_values: (images, max patches, 1176) filled up with zeros, or (P, 1176).
        image_grid_thw: (images, 3); images belong to the rows with image tokens, in order.
        image_token_id: id that stands for a vision token.
        merge_size: patches along a side of one vision token.

    Raises:
        ValueError: images and rows don't match one to one.
    """
    images = _images(pixel_values, image_grid_thw)
    rows = [row[mask] for row, mask in zip(input_ids, attention_mask.bool(), strict=True)]
    if not all(len(row) for row in rows):
        raise ValueError("attention_mask: a row without any token; leave it out")
    has_image = [bool((row == image_token_id).any()) for row in rows]
    if sum(has_image) != len(images):
        raise ValueError(
            f"image_grid_thw: one image a row; got {len(images)} images for {sum(has_image)} rows "
            "with image tokens; embed further images as rows of their own"
        )
    remaining = iter(images)
    return [
        _image_row(row, *next(remaining), image_token_id, merge_size) if image else _text_row(row)
        for row, image in zip(rows, has_image, strict=True)
    ]


def repad(rows: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Put rows of real tokens back where the mask has them: (L, H) each to (N, L, H), else zero."""
    padded = rows[0].new_zeros(*mask.shape, rows[0].shape[-1])
    return padded.masked_scatter(mask.unsqueeze(-1).to(padded.device), torch.cat(tuple(rows)))


def _text_row(ids: Tensor) -> TokenSequence:
    return TokenSequence(ids, rope_positions(len(ids)).to(ids.device), (0, len(ids)))


def _image_row(
    ids: Tensor, grid: Grid, patches: Tensor, image_token_id: int, merge_size: int
) -> TokenSequence:
    image_tokens = (ids == image_token_id).nonzero()
    start, merged = int(image_tokens[0]), (grid[1] // merge_size, grid[2] // merge_size)
    if len(image_tokens) != merged[0] * merged[1]:
        raise ValueError(
            "input_ids: image tokens don't match the row's image; "
            f"got {len(image_tokens)} for a grid of {merged[0]} x {merged[1]}; "
            "one image a row, further images as rows of their own"
        )
    return TokenSequence(
        input_ids=ids,
        position_ids=rope_positions(len(ids), start, merged).to(ids.device),
        pooled=(start - 1, start + len(image_tokens) + 1),  # the two vision markers included
        patches=patches,
        grid_thw=grid,
        vision_tokens=len(image_tokens),
    )


def _images(
    pixel_values: Tensor | None, image_grid_thw: Tensor | None
) -> list[tuple[Grid, Tensor]]:
    """Pair each grid with its patches, from the padded or the flat form."""
    if pixel_values is None and image_grid_thw is None:
        return []
    if pixel_values is None or image_grid_thw is None:
        raise ValueError("pixel_values, image_grid_thw: got one without the other; pass both")
    grids: list[Grid] = [(t, rows, columns) for t, rows, columns in image_grid_thw.tolist()]
    sizes = [rows * columns for _, rows, columns in grids]
    if pixel_values.dim() == 2:
        return list(zip(grids, pixel_values.split(sizes), strict=True))
    patches = [image[:size] for image, size in zip(pixel_values, sizes, strict=True)]
    return list(zip(grids, patches, strict=True))
