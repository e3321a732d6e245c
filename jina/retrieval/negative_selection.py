"""Which of the best-scoring documents are hard negatives, and which are likely to be right.

    ranking without positives ─ rank window ─ near duplicates ─ positive-aware margin ─ sampling ─►

The margin is that of NV-Retriever (arXiv 2407.15831): what scores about as high as the positive
probably answers the query too, so a negative has to stay below it by a share of it, or by an
amount.

Shapes: K candidates, P positives of the query.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from jina.retrieval.errors import RetrievalError

SAMPLINGS = ("top", "random")

# Why candidates are left out.
NEAR_DUPLICATES = "near duplicates of a positive"
TOO_CLOSE = "too close to the positive's score"


@dataclass(frozen=True, kw_only=True)
class SelectionRules:
    """How negatives are chosen.

    Attributes:
        count: Negatives wanted for a row.
        first_rank: The best rank that counts, from 1; positives have no rank.
        last_rank: The worst rank that counts.
        relative_margin: A negative scores below this share of the positive's score; None for no
            such limit.
        absolute_margin: A negative scores below the positive by more than this; None likewise.
        near_duplicate: A document is as good as a positive from this cosine to it.
        sampling: `top` takes the hardest, `random` any of those that are left.
        seed: Draws the random ones, together with the number of the row.
    """

    count: int = 4
    first_rank: int = 1
    last_rank: int = 100
    relative_margin: float | None = 0.95
    absolute_margin: float | None = None
    near_duplicate: float = 0.95
    sampling: str = "top"
    seed: int = 0

    def check(self) -> None:
        """Raise `RetrievalError` with all that is out of range."""
        problems = []
        if self.count < 1:
            problems.append(f"--negatives: is too small; got {self.count}; give 1 or more")
        if not 1 <= self.first_rank <= self.last_rank:
            got = f"got {self.first_rank} to {self.last_rank}"
            problems.append(f"--ranks: is no window; {got}; give such as 1 100")
        if self.relative_margin is not None and not 0 < self.relative_margin <= 1:
            advice = "give a share of the positive's score, above 0 and up to 1"
            problems.append(
                f"--relative-margin: out of range; got {self.relative_margin}; {advice}"
            )
        if self.absolute_margin is not None and not 0 <= self.absolute_margin < 2:
            problems.append(
                f"--absolute-margin: out of range; got {self.absolute_margin}; give 0 to 2"
            )
        if not 0 < self.near_duplicate <= 1:
            problems.append(
                f"--near-duplicate: out of range; got {self.near_duplicate}; "
                "give a cosine above 0 and up to 1"
            )
        if self.sampling not in SAMPLINGS:
            advice = f"choose one of {', '.join(SAMPLINGS)}"
            problems.append(f"--sampling: unknown; got {self.sampling}; {advice}")
        if problems:
            raise RetrievalError(*problems)

    def limit(self, positive_score: float) -> float:
        """Return the score a negative has to stay below.

        A share of a score below zero would lie above it; there the same distance is kept below.
        """
        limits = [np.inf]
        if self.relative_margin is not None:
            limits.append(positive_score - abs(positive_score) * (1 - self.relative_margin))
        if self.absolute_margin is not None:
            limits.append(positive_score - self.absolute_margin)
        return min(limits)


@dataclass(frozen=True, eq=False)
class Ranking:
    """What was found for one query, positives and their copies left out.

    Attributes:
        documents: (K,) numbers of the documents, best first; the first has rank 1.
        scores: (K,) their scores for the query.
        likeness: (K,) largest cosine of each to a positive of the query.
    """

    documents: np.ndarray
    scores: np.ndarray
    likeness: np.ndarray


@dataclass(frozen=True)
class Negative:
    """A document that was chosen."""

    document: int
    rank: int
    score: float


def choose_negatives(
    ranking: Ranking,
    positive_score: float,
    rules: SelectionRules,
    *,
    row: int,
    excluded: Counter[str],
) -> list[Negative]:
    """Choose hard negatives for one row.

    Args:
        ranking: The candidates.
        positive_score: Of the row's positive for the query, the lowest of several.
        rules: How to choose.
        row: Number of the row; with the seed it draws the random choice.
        excluded: Is told how many candidates of the rank window were left out, and why.

    Returns:
        At most `rules.count`, the hardest first.
    """
    window = slice(rules.first_rank - 1, rules.last_rank)
    ranks = np.arange(1, len(ranking.documents) + 1)[window]
    is_copy = ranking.likeness[window] >= rules.near_duplicate
    is_close = ~(ranking.scores[window] < rules.limit(positive_score))
    excluded[NEAR_DUPLICATES] += int(is_copy.sum())
    excluded[TOO_CLOSE] += int((is_close & ~is_copy).sum())
    left = ranks[~is_copy & ~is_close]
    if rules.sampling == "random":
        draw = np.random.default_rng([rules.seed, row])
        left = np.sort(draw.choice(left, min(rules.count, len(left)), replace=False))
    return [
        Negative(int(ranking.documents[rank - 1]), int(rank), float(ranking.scores[rank - 1]))
        for rank in left[: rules.count]
    ]
