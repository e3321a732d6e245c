"""Late interaction: each query token's best passage token, summed over the query."""

from collections.abc import Sequence

import torch
from torch import Tensor

TOKENS_PER_BLOCK = 2**15


def maxsim_scores(queries: Sequence[Tensor], passages: Sequence[Tensor]) -> Tensor:
    """Score queries against passages, in float64 so that no bit depends on the blocks.

    Nothing is padded: a padded row would be a match of 0 for a token whose best is below.

    Args:
        queries: Q tensors (L, D).
        passages: P tensors (M, D).

    Returns:
        (Q, P) float32.
    """
    rows = []
    for block in _blocks(queries, TOKENS_PER_BLOCK // max(map(len, passages))):
        tokens, lengths = torch.cat(block).double(), [len(query) for query in block]
        best = torch.stack([(tokens @ p.double().T).amax(dim=1) for p in passages])  # (P, tokens)
        rows.append(torch.stack([part.sum(dim=1) for part in best.split(lengths, dim=1)]))
    return torch.cat(rows).float()


def _blocks(queries: Sequence[Tensor], room: int) -> list[list[Tensor]]:
    """Cut queries into runs of at most `room` tokens, or of one query."""
    blocks: list[list[Tensor]] = []
    left = 0
    for query in queries:
        if not blocks or len(query) > left:
            blocks.append([])
            left = room
        blocks[-1].append(query)
        left -= len(query)
    return blocks
