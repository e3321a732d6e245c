"""Contrastive losses: pure functions of scores, a value for each row or for all rated pairs.

Scores are float32 at least, whatever the autocast; `contrastive_loss.py` makes them, in tiles of
rows, and puts the losses together. This module knows nothing else of the project.

Shapes: R rows (queries), C columns (candidates), N pairs of texts with a rating.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def info_nce(
    scores: Tensor, is_positive: Tensor, is_negative: Tensor, temperature: Tensor | float
) -> Tensor:
    """InfoNCE with in-batch and hard negatives (van den Oord et al., arXiv 1807.03748).

    For each row and each of its positives: the cross-entropy of picking that positive out of itself
    and the row's negatives. With hard negatives of every row among the columns it is the NCE+ of
    Jina Embeddings V4 (arXiv 2506.18902). Positives of one row don't compete and share its weight.

    Args:
        scores: (R, C) similarities.
        is_positive: (R, C) bool; every row needs one.
        is_negative: (R, C) bool; columns that are neither are left out.
        temperature: divides the scores.

    Returns:
        (R,) losses.
    """
    scaled = scores / temperature
    rivals = scaled.masked_fill(~is_negative, -torch.inf).logsumexp(1, keepdim=True)
    row, column = is_positive.nonzero(as_tuple=True)
    margins = scaled[row, column] - rivals[row, 0]
    losses = -logsigmoid(margins)  # -log(e^s / (e^s + sum over negatives))
    return torch.zeros_like(rivals[:, 0]).index_add(0, row, losses) / is_positive.sum(1)


def score_divergence(
    dense: Tensor, late: Tensor, is_candidate: Tensor, temperature: Tensor | float
) -> Tensor:
    """KL(softmax(dense) || softmax(late)), which trains both heads together (arXiv 2506.18902).

    Neither side is detached: each pulls the other.

    Args:
        dense: (R, C) cosines of single vectors.
        late: (R, C) late-interaction scores.
        is_candidate: (R, C) bool, the columns that the distributions are over.
        temperature: divides both.

    Returns:
        (R,) divergences.
    """
    of_dense, of_late = (
        (scores / temperature).masked_fill(~is_candidate, -torch.inf).log_softmax(1)
        for scores in (dense, late)
    )
    difference = (of_dense - of_late).masked_fill(~is_candidate, 0.0)
    return (of_dense.exp() * difference).sum(1)


def cosent(scores: Tensor, ratings: Tensor, temperature: Tensor | float) -> Tensor:
    """CoSENT: a pair that is rated higher should score higher (Su, kexue.fm/archives/8847).

    ln(1 + sum over pairs i, j with rating i > rating j of exp((score j - score i) / temperature)),
    without ever laying out all pairs of pairs: for each i, the pairs rated lower are a prefix of
    the pairs in the order of their ratings.

    Args:
        scores: (N,) similarity of each rated pair.
        ratings: (N,) graded truth, in any unit.
        temperature: divides the scores.

    Returns:
        A scalar; zero where all ratings are equal.
    """
    ratings, order = ratings.sort()
    scaled = scores[order] / temperature
    below = torch.searchsorted(ratings, ratings)  # how many are rated lower
    so_far = scaled.logcumsumexp(0)
    exceeded = so_far[(below - 1).clamp(min=0)] - scaled
    if not (below > 0).any():
        return scaled.sum() * 0
    return -logsigmoid(-exceeded[below > 0].logsumexp(0))  # ln(1 + e^x), exact for large x, too
