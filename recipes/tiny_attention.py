"""Attention of all sequences of a batch in one product: what makes pretraining quick on a CPU.

The product's attention takes sequences one after the other, which costs nothing for long ones. Here
thousands are short, and the backward pass of torch's fused attention takes a quarter of a step. The
numbers are the same up to rounding.

Shapes: N sequences, L tokens of the longest, T of all.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

DECODER, TOWER = "dense_attention", "flash_dense_attention"  # transformers reads "flash": unsplit


def decoder_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attend causally within each sequence; arguments and result are those of `packed_sdpa`."""
    lengths = torch.tensor(kwargs["lengths"])
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    return _attend(query, key, value, lengths, kwargs["scaling"], is_causal=True), None


def tower_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attend within each image."""
    lengths = kwargs["cu_seq_lens_q"].diff()
    return _attend(query, key, value, lengths, kwargs["scaling"], is_causal=False), None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, scaling: float, *, is_causal: bool
) -> Tensor:
    """Return (1, T, heads, head_dim) of what is (1, heads, T, head_dim)."""
    longest = int(lengths.max())
    place = torch.arange(longest)
    is_token = place < lengths[:, None]  # (N, L)
    is_even = bool(is_token.all())
    index = (lengths.cumsum(0) - lengths)[:, None] + place.where(is_token, 0)
    query, key, value = (
        x[0].unflatten(1, (-1, longest)).transpose(0, 1)
        if is_even
        else x[0].transpose(0, 1)[index].transpose(1, 2)
        for x in (query, key, value)
    )
    scores = query @ key.transpose(2, 3) * scaling  # (N, heads, L, L)
    if is_causal or not is_even:
        is_seen = is_token[:, None, None, :] & (place <= (place[:, None] if is_causal else longest))
        scores = scores.masked_fill(~is_seen, -torch.inf)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    attended = (weights @ value).transpose(1, 2)
    return (attended.flatten(0, 1) if is_even else attended[is_token]).unsqueeze(0)


AttentionInterface.register(DECODER, decoder_attention)
AttentionInterface.register(TOWER, tower_attention)
