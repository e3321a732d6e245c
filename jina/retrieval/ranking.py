"""Rank documents for queries: scores shard by shard, the best kept, ties ordered as by trec_eval.

    (queries, documents) vectors ─ a block of queries ─ a shard of documents ─► scores ─► the best

Scores are computed in float64 and rounded to float32, which is what trec_eval reads, so that the
last bit, and with it the order, doesn't hinge on how the work was cut. Equal scores are ordered by
document, the highest identity first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jina.retrieval.stored_vectors import StoredVectors

MAX_SIMILARITIES = 2**21  # of token vectors at a time: what a cache holds, twice as fast on a CPU

# Places of some queries and of some documents to their (queries, documents) float32 scores.
Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]


class RankingError(ValueError):
    """Scores that can't be ordered."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best documents of some queries, best first.

    Attributes:
        documents: (queries, depth) places of documents; -1 behind the last.
        scores: (queries, depth) float32, descending.
    """

    documents: np.ndarray
    scores: np.ndarray


def single_scorer(
    queries: StoredVectors, documents: StoredVectors, *, size: int, device: torch.device
) -> Scorer:
    """Return a scorer by cosine of single vectors cut to their first `size` components."""

    def cut(vectors: np.ndarray) -> Tensor:
        """Return the first components of vectors (N, D), of length 1 again: (N, size)."""
        wide = torch.from_numpy(vectors[:, :size].astype(np.float64)).to(device)
        return wide / wide.norm(dim=1, keepdim=True)

    def score(asked: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Return cosines (queries, documents) of the vectors at two lists of places."""
        scores = cut(queries.single[asked]) @ cut(documents.single[found]).T
        return scores.float().cpu().numpy()

    return score


def multi_scorer(
    queries: StoredVectors, documents: StoredVectors, *, device: torch.device
) -> Scorer:
    """Return a scorer by MaxSim: each query token's best document token, summed over the query."""

    def tokens(vectors: StoredVectors, places: np.ndarray) -> tuple[Tensor, list[int]]:
        """Return the token vectors of items, one below the other, and how many each has."""
        pieces = [vectors.tokens_of(place) for place in places]
        joined = torch.from_numpy(np.concatenate(pieces).astype(np.float64)).to(device)
        return joined, [len(piece) for piece in pieces]

    def score(asked: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Return MaxSim (queries, documents) of the items at two lists of places."""
        query_tokens, lengths = tokens(queries, asked)
        room = max(1, MAX_SIMILARITIES // len(query_tokens))
        blocks = []
        for block in _by_tokens(found, documents.lengths[found], room):
            document_tokens, ends = tokens(documents, block)
            similarities = query_tokens @ document_tokens.T  # (query tokens, document tokens)
            best = torch.stack([part.amax(1) for part in similarities.split(ends, dim=1)])
            sums = [part.sum(1) for part in best.split(lengths, dim=1)]
            blocks.append(torch.stack(sums).float().cpu().numpy())
        return np.concatenate(blocks, axis=1)

    return score


def rank(
    score: Scorer,
    queries: np.ndarray,
    documents: np.ndarray,
    *,
    own: np.ndarray,
    depth: int,
    shard: int,
) -> Ranking:
    """Rank documents for a block of queries.

    Args:
        score: of places in the vectors.
        queries: (Q,) places of the queries.
        documents: (D,) places of the documents, in the order of their identities.
        own: (Q,) which of the documents is a copy of the query and not to be found; -1 for none.
        depth: how many documents to keep for each query.
        shard: how many documents to score at a time.

    Raises:
        RankingError: a score isn't finite.
    """
    best = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(documents), shard):
        scores = score(queries, documents[start : start + shard])
        if not np.isfinite(scores).all():
            raise RankingError("scores: are not finite; got NaN or infinity; mend the checkpoint")
        best = _merged(best, _keys(scores, start, own), depth)
    return _unpacked(np.sort(best, axis=1)[:, ::-1])


def blocks(sizes: np.ndarray, room: int) -> Iterator[np.ndarray]:
    """Cut consecutive items into runs whose sizes sum to no more than `room`, or of one item."""
    yield from _by_tokens(np.arange(len(sizes)), sizes, room)


def _by_tokens(places: np.ndarray, sizes: np.ndarray, room: int) -> Iterator[np.ndarray]:
    """Yield runs of places whose sizes sum to no more than `room`, or that are one place."""
    start, used = 0, 0
    for end, size in enumerate(sizes.tolist()):
        if end > start and used + size > room:
            yield places[start:end]
            start, used = end, 0
        used += size
    if start < len(places):
        yield places[start:]


# A score and the place of its document in one number: numbers are ordered as trec_eval orders both.
_DOCUMENT_BITS = 32
_MISSING = np.iinfo(np.int64).min


def _keys(scores: np.ndarray, start: int, own: np.ndarray) -> np.ndarray:
    """Return (Q, n) sortable numbers for the scores of documents `start` and following."""
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.int32).astype(np.int64)  # no -0.0
    ordered = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    keys = (ordered << _DOCUMENT_BITS) + start + np.arange(scores.shape[1])
    here = np.flatnonzero((own >= start) & (own < start + scores.shape[1]))
    keys[here, own[here] - start] = _MISSING
    return keys


def _merged(best: np.ndarray, keys: np.ndarray, depth: int) -> np.ndarray:
    """Return the `depth` highest of both, in no order."""
    joined = np.concatenate([best, keys], axis=1)
    if joined.shape[1] <= depth:
        return joined
    return np.partition(joined, -depth, axis=1)[:, -depth:]


def _unpacked(keys: np.ndarray) -> Ranking:
    """Take sorted numbers apart again."""
    is_missing = keys == _MISSING
    documents = np.where(is_missing, -1, keys & (2**_DOCUMENT_BITS - 1))
    ordered = (keys >> _DOCUMENT_BITS).astype(np.int32)
    bits = np.where(ordered < 0, ordered ^ np.int32(0x7FFFFFFF), ordered)
    scores = np.where(is_missing, -np.inf, bits.view(np.float32)).astype(np.float32)
    return Ranking(documents, scores)
