"""How far a figure would move with another draw of queries: bootstrap 95 % intervals.

Queries are drawn with replacement, as many as there are, a thousand times (the percentile method of
Efron, 1979); the same seed draws the same queries, so that two models are compared on equal draws.
"""

from collections.abc import Callable

import numpy as np

RESAMPLES = 1000
COVERED = (2.5, 97.5)

# Numbers of the drawn queries to (figures,).
Statistic = Callable[[np.ndarray], np.ndarray]


def interval(count: int, statistic: Statistic, *, resamples: int = RESAMPLES) -> np.ndarray:
    """Return (2, figures): between these 95 % of the resampled figures lie; NaN draws are left out.

    Args:
        count: how many queries there are.
        statistic: the figures of a draw.
        resamples: how many draws.
    """
    draw = np.random.default_rng(0)
    figures = [statistic(draw.integers(0, count, count)) for _ in range(resamples)]
    stacked = np.stack(figures)
    is_known = np.isfinite(stacked).any(axis=0)
    bounds = np.full((2, stacked.shape[1]), np.nan)
    bounds[:, is_known] = np.nanpercentile(stacked[:, is_known], COVERED, axis=0)
    return bounds


def mean_of(values: np.ndarray) -> Statistic:
    """Return the mean over drawn queries of (queries, figures) as a statistic."""
    return lambda drawn: np.bincount(drawn, minlength=len(values)) @ values / len(values)
