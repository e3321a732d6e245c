"""Graded pairs: how well similarities follow the scores that people gave.

Spearman's correlation asks for the order alone, Pearson's for proportion. A pair whose similarity
or score is the same for all has neither.
"""

import numpy as np
from scipy.stats import rankdata

from jina.retrieval.intervals import Statistic

CORRELATIONS = ("spearman", "pearson")


def correlations(similarities: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return (2,) Spearman's and Pearson's correlation; NaN where one side doesn't vary."""
    return np.array(
        [_pearson(rankdata(similarities), rankdata(scores)), _pearson(similarities, scores)]
    )


def correlations_of(similarities: np.ndarray, scores: np.ndarray) -> Statistic:
    """Return the correlations of drawn pairs as a statistic."""
    return lambda drawn: correlations(similarities[drawn], scores[drawn])


def _pearson(left: np.ndarray, right: np.ndarray) -> float:
    """Return the cosine of the deviations from the mean."""
    left, right = left - left.mean(), right - right.mean()
    size = np.sqrt((left @ left) * (right @ right))
    return float(left @ right / size) if size > 0 else float("nan")
