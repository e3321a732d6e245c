"""Contrastive losses: pure functions of embeddings, computed in float32 whatever the autocast.

Shapes: N queries, P positives, C candidates (all positives of the batch, then all hard negatives),
H vector size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class Pairing:
    """Which candidate is what to which query.

    Attributes:
        is_positive: (N, C) bool, the query's own positives.
        is_negative: (N, C) bool, candidates it is pushed away from. What is neither is left out: it
            has the content of the query or of one of its positives and would be a false negative.
    """

    is_positive: Tensor
    is_negative: Tensor

    def reversed(self, num_positives: int) -> "Pairing":
        """Return the roles seen from the positives, for the symmetric loss: (P, N) each."""
        return Pairing(self.is_positive[:, :num_positives].T, self.is_negative[:, :num_positives].T)


def pair_candidates(
    query_identities: Tensor, candidate_identities: Tensor, *, owners: Tensor
) -> Pairing:
    """Sort out positives, negatives and false negatives of a batch by identity, not similarity.

    A candidate is a false negative of a query if it has the content of the query itself, or of one
    of that query's positives, in whichever row of the batch the two met.

    Args:
        query_identities: (N,) int64 content hashes.
        candidate_identities: (C,) int64 content hashes, positives first.
        owners: (P,) int64, the row each positive belongs to.
    """
    rows = torch.arange(len(query_identities), device=owners.device)
    positives = candidate_identities[: len(owners)]
    is_own = owners == rows.unsqueeze(1)  # (N, P)
    same_query = query_identities[owners] == query_identities.unsqueeze(1)  # (N, P)
    same_content = positives.unsqueeze(1) == candidate_identities  # (P, C)
    is_match = (same_query.float() @ same_content.float()) > 0  # (N, C)
    is_match |= query_identities.unsqueeze(1) == candidate_identities
    is_positive = torch.zeros_like(is_match)
    is_positive[:, : len(owners)] = is_own
    return Pairing(is_positive, ~is_match)


def info_nce(
    queries: Tensor, candidates: Tensor, pairing: Pairing, *, temperature: float
) -> Tensor:
    """InfoNCE with in-batch and hard negatives (van den Oord et al., arXiv 1807.03748).

    For each query and each of its positives: the cross-entropy of picking that positive out of
    itself and the query's negatives. Positives of one query don't compete and share its weight.

    Args:
        queries: (N, H) of length 1.
        candidates: (C, H) of length 1.
        pairing: the roles of the candidates; every query needs a positive.
        temperature: divides the similarities.

    Returns:
        Mean over queries, a float32 scalar.
    """
    wide = torch.promote_types(queries.dtype, torch.float32)
    with torch.autocast(queries.device.type, enabled=False):
        scores = queries.to(wide) @ candidates.to(wide).T / temperature  # (N, C)
        rivals = scores.masked_fill(~pairing.is_negative, -torch.inf).logsumexp(1, keepdim=True)
        losses = -logsigmoid(scores - rivals)  # -log(e^s / (e^s + sum over negatives))
        weights = pairing.is_positive.to(wide) / pairing.is_positive.sum(1, keepdim=True)
        return losses.masked_fill(~pairing.is_positive, 0.0).mul(weights).sum(1).mean()
