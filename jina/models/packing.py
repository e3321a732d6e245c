"""A batch without padding: token sequences laid end to end, and attention that keeps them apart.

    TokenSequence (L,) ─┐
    TokenSequence (L,) ─┼─ pack() ─► PackedBatch (T,), T = sum of lengths ─► decoder ─► (T, H)
    TokenSequence (L,) ─┘

Nothing is ever padded, so no mask, no padding side and no padded row can change a result.

Shapes: N sequences, L tokens of one sequence, T tokens of the batch, P patches, H hidden size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

PACKED_SDPA = "packed_sdpa"


@dataclass(frozen=True)
class TokenSequence:
    """One item ready for the model.

    Attributes:
        input_ids: (L,) int64.
        position_ids: (3, L) int64, the temporal, row and column index of each token.
        pooled: half-open range of the tokens whose mean is the single vector.
        patches: (P, 588) uint8 colours of the item's image, if it has one; or (P, 1176) float32 as
            the official processor gives them.
        grid_thw: patches of that image in time, height and width.
        vision_tokens: how many of the tokens stand for the image.
        image_identity: what images of equal pixels share; empty where that isn't known.
        content: what sequences share that are one to the model, image included; empty where that
            isn't known.
    """

    input_ids: Tensor
    position_ids: Tensor
    pooled: tuple[int, int]
    patches: Tensor | None = None
    grid_thw: tuple[int, int, int] | None = None
    vision_tokens: int = 0
    image_identity: bytes = b""
    content: bytes = b""

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class PackedBatch:
    """N sequences laid end to end.

    Attributes:
        input_ids: (T,) int64.
        position_ids: (3, T) int64.
        lengths: tokens of each sequence; plain numbers, since they steer the work from the host.
        pooled: for each sequence the half-open range, counted from its own start, that is averaged.
        vision_tokens: how many tokens of each sequence stand for its image.
        patch_counts: how many of the patches are each sequence's.
        image_identities: of each sequence, as of `TokenSequence`.
        contents: of each sequence, as of `TokenSequence`.
        patches: of all images that have any here, in order, or `None` if none has.
        image_grid_thw: (images with patches, 3) int64, or `None`.
        vision_features: (V, H) what the vision tower made of the patches, in their place.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: list[int]
    pooled: list[tuple[int, int]]
    vision_tokens: list[int]
    patch_counts: list[int]
    image_identities: list[bytes]
    contents: list[bytes]
    patches: Tensor | None = None
    image_grid_thw: Tensor | None = None
    vision_features: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device | str) -> "PackedBatch":
        """Return the batch with its tensors on `device`."""
        tensors = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)

    def part(self, start: int, stop: int) -> "PackedBatch":
        """Return the sequences from `start` to before `stop`, their tensors as views.

        Images must have been turned into features.
        """
        tokens = _span(self.lengths, start, stop)
        features = self.vision_features
        return PackedBatch(
            input_ids=self.input_ids[tokens],
            position_ids=self.position_ids[:, tokens],
            lengths=self.lengths[start:stop],
            pooled=self.pooled[start:stop],
            vision_tokens=self.vision_tokens[start:stop],
            patch_counts=self.patch_counts[start:stop],
            image_identities=self.image_identities[start:stop],
            contents=self.contents[start:stop],
            vision_features=(
                None if features is None else features[_span(self.vision_tokens, start, stop)]
            ),
        )

    def without_unpooled_ends(self) -> "PackedBatch":
        """Return the batch without the tokens behind each pooled span.

        Attention is causal: what is averaged into the single vector never sees them.
        """
        kept = [end for _, end in self.pooled]
        if kept == self.lengths:
            return self
        index = torch.cat(
            [
                torch.arange(first, first + count)
                for first, count in zip(accumulate(self.lengths, initial=0), kept, strict=False)
            ]
        ).to(self.input_ids.device)
        return replace(
            self,
            input_ids=self.input_ids[index],
            position_ids=self.position_ids[:, index],
            lengths=kept,
        )

    def to_dict(self, prefix: str) -> dict[str, Any]:
        """Return the fields as a flat dictionary whose keys start with `prefix`."""
        return {f"{prefix}{name}": value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, batch: dict[str, Any], prefix: str) -> "PackedBatch":
        """Take the fields that start with `prefix` out of a flat dictionary."""
        return cls(**{field.name: batch[f"{prefix}{field.name}"] for field in fields(cls)})


def pack(sequences: Sequence[TokenSequence]) -> PackedBatch:
    """Lay sequences end to end, in the order given."""
    images = [s for s in sequences if s.patches is not None]
    return PackedBatch(
        input_ids=torch.cat([s.input_ids for s in sequences]),
        position_ids=torch.cat([s.position_ids for s in sequences], dim=1),
        lengths=[len(s) for s in sequences],
        pooled=[s.pooled for s in sequences],
        vision_tokens=[s.vision_tokens for s in sequences],
        patch_counts=[0 if s.patches is None else len(s.patches) for s in sequences],
        image_identities=[s.image_identity for s in sequences],
        contents=[s.content for s in sequences],
        patches=torch.cat([s.patches for s in images]) if images else None,
        image_grid_thw=torch.tensor([s.grid_thw for s in images]) if images else None,
    )


def concatenate(batches: Sequence[PackedBatch]) -> PackedBatch:
    """Join packed batches into one, so that they share a single forward pass."""
    images = [b for b in batches if b.patches is not None]
    return PackedBatch(
        input_ids=torch.cat([b.input_ids for b in batches]),
        position_ids=torch.cat([b.position_ids for b in batches], dim=1),
        lengths=[length for b in batches for length in b.lengths],
        pooled=[span for b in batches for span in b.pooled],
        vision_tokens=[count for b in batches for count in b.vision_tokens],
        patch_counts=[count for b in batches for count in b.patch_counts],
        image_identities=[identity for b in batches for identity in b.image_identities],
        contents=[content for b in batches for content in b.contents],
        patches=torch.cat([b.patches for b in images]) if images else None,
        image_grid_thw=torch.cat([b.image_grid_thw for b in images]) if images else None,
    )


def _span(lengths: Sequence[int], start: int, stop: int) -> slice:
    """Return where the pieces from `start` to before `stop` lie, end to end."""
    first = sum(lengths[:start])
    return slice(first, first + sum(lengths[start:stop]))


def image_groups(
    grids: Sequence[tuple[int, int, int]], max_patches: int
) -> Iterator[tuple[int, list[Any]]]:
    """Group neighbouring images for the vision tower: the first patch and the grids of each."""
    first, size, group = 0, 0, []
    for grid in grids:
        patches = grid[1] * grid[2]
        if group and size + patches > max_patches:
            yield first, group
            first, size, group = first + size, 0, []
        size += patches
        group.append(grid)
    yield first, group


def rope_positions(
    length: int, image_start: int | None = None, merged_grid: tuple[int, int] | None = None
) -> Tensor:
    """Positions of one sequence in Qwen2.5-VL's multimodal rotary embedding (arXiv 2502.13923).

    Text counts up by one in all three rows. An image's tokens share one temporal index and carry
    their row and column, all offset by the position of the image's first token; the text behind it
    goes on after the larger side.

    Args:
        length: number of tokens L.
        image_start: index of the first image token, `None` for text.
        merged_grid: rows and columns of image tokens.

    Returns:
        (3, L) int64.
    """
    if image_start is None or merged_grid is None:
        return torch.arange(length).expand(3, -1)
    rows, columns = merged_grid
    index = torch.arange(rows * columns)
    image = torch.stack([torch.zeros_like(index), index // columns, index % columns]) + image_start
    before = torch.arange(image_start).expand(3, -1)
    after = torch.arange(length - image_start - rows * columns).expand(3, -1)
    return torch.cat([before, image, after + image_start + max(rows, columns)], dim=1)


def packed_sdpa(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    lengths: list[int],
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend causally within each sequence of a packed batch; a transformers attention function.

    Args:
        module: the attention layer, unused.
        query: (1, heads, T, head_dim).
        key: (1, key-value heads, T, head_dim).
        value: (1, key-value heads, T, head_dim).
        attention_mask: unused; `lengths` says what belongs together.
        lengths: tokens of each sequence, summing to T.
        scaling: factor on the scores.
        dropout: probability of dropping an attention weight.

    Returns:
        (1, T, heads, head_dim) and no weights.
    """
    pieces = [
        scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True
        )
        for q, k, v in zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
    ]
    return torch.cat(pieces, dim=2).transpose(1, 2), None


def attention_arguments(lengths: list[int], device: torch.device) -> dict[str, Any]:
    """Keyword arguments that tell flash attention and `packed_sdpa` where sequences end."""
    ends = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
    return {
        "lengths": lengths,
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }


AttentionInterface.register(PACKED_SDPA, packed_sdpa)
