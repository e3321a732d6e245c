"""Exact top-k by brute force, in blocks, on the GPU if there is one.

Shapes: Q queries, N documents, D vector size, K results.
"""

from collections.abc import Iterator

import numpy as np
import torch

QUERIES_AT_A_TIME = 256
DOCUMENTS_AT_A_TIME = 65_536


def exact_top_k(
    queries: np.ndarray, documents: np.ndarray, top: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the documents with the largest inner products, query by query.

    Args:
        queries: (Q, D) float32.
        documents: (N, D) float32; may be memory-mapped.
        top: K; all documents if there are fewer.

    Yields:
        Scores (K,) float32, falling, and rows (K,) int64; among equal scores the lower row first.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    top = min(top, len(documents))
    for start in range(0, len(queries), QUERIES_AT_A_TIME):
        block = torch.from_numpy(queries[start : start + QUERIES_AT_A_TIME]).to(device)
        scores, rows = _best(block, documents, top, device)
        for found, numbers in zip(scores.cpu().numpy(), rows.cpu().numpy(), strict=True):
            order = np.lexsort((numbers, -found))
            yield found[order], numbers[order]


def _best(
    queries: torch.Tensor, documents: np.ndarray, top: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best of all documents for a block of queries: (Q, K) scores and rows."""
    scores = torch.empty((len(queries), 0), device=device)
    rows = torch.empty((len(queries), 0), dtype=torch.int64, device=device)
    for start in range(0, len(documents), DOCUMENTS_AT_A_TIME):
        block = torch.from_numpy(
            np.ascontiguousarray(documents[start : start + DOCUMENTS_AT_A_TIME])
        )
        found = queries @ block.to(device).T  # (Q, block)
        numbers = torch.arange(start, start + len(block), device=device).expand(len(queries), -1)
        scores, rows = torch.cat([scores, found], dim=1), torch.cat([rows, numbers], dim=1)
        scores, chosen = scores.topk(min(top, scores.shape[1]), dim=1)
        rows = rows.gather(1, chosen)
    return scores, rows
