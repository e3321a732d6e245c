"""What a step says about itself: parts of the loss, speed, and signs of collapse.

    parts of the loss of each step ─► means since the last log
    vectors of the last step ───────► mean cosine, effective rank

Figures stay on the device until they are logged, so that no step waits for them.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from jina.models.flops import TERA
from jina.training.distributed import sum_over_processes, world_size
from jina.training.global_batch import GlobalBatch

logger = logging.getLogger("smartembed")

LOOKED_AT = 512  # vectors, for signs of collapse
COLLAPSED_COSINE = 0.95  # between vectors of different contents
COLLAPSED_RANK = 2.0


class StepFigures:
    """Figures of the steps since the last log.

    Args:
        peak: of the device in TFLOP/s, if known.
    """

    def __init__(self, peak: float | None = None) -> None:
        self.peak = peak
        self._steps: list[dict[str, Tensor]] = []
        self._vectors: Tensor | None = None
        self._pairs, self._own = 0, [0.0, 0.0]
        self._since = 0.0
        self._has_warned = False

    def start(self) -> None:
        """Begin to count the time."""
        self._since = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time of what runs inside."""
        started = time.perf_counter()
        yield
        self._since += time.perf_counter() - started

    def add(
        self, totals: dict[str, Tensor], batch: GlobalBatch, *, tokens: int, flops: float
    ) -> None:
        """Add a step.

        Args:
            totals: parts of the loss, of all processes.
            batch: what was embedded.
            tokens: of this process.
            flops: operations that these tokens need at least.
        """
        self._steps.append(totals)
        self._pairs += batch.pairing.own.shape[1]
        self._own = [self._own[0] + tokens, self._own[1] + flops / TERA]
        contents, single = batch.pairing.column_contents, batch.candidates.single
        if single is not None:  # one of each content, else copies would look like a collapse
            one = contents.new_zeros(batch.pairing.num_contents[1])
            one[contents] = torch.arange(len(contents), device=contents.device)
            self._vectors = single.detach()[one[:LOOKED_AT]]

    def take(self) -> dict[str, float]:
        """Return the figures since the last call, and begin anew."""
        if not self._steps:
            return {}
        names = dict.fromkeys(name for step in self._steps for name in step)
        figures = {}
        for name in names:
            values = torch.stack([step[name].float() for step in self._steps if name in step])
            figures[name] = values.mean().item()
        seconds = time.perf_counter() - self._since
        own = torch.tensor(self._own, device=values.device)
        tokens, tera = (sum_over_processes(own) / seconds).tolist()
        figures["pairs_per_second"] = self._pairs / seconds
        figures |= {"tokens_per_second": tokens, "tflops_per_second": tera}
        if self.peak is not None:
            figures["share_of_peak"] = tera / world_size() / self.peak
        if self._vectors is not None and len(self._vectors) > 1:
            figures |= signs_of_collapse(self._vectors)
            self.warn_once(figures)
        self._steps, self._pairs, self._own = [], 0, [0.0, 0.0]
        self.start()
        return figures

    def warn_once(self, figures: dict[str, float]) -> None:
        """Say that embeddings have collapsed, the first time they have."""
        cosine, rank = figures["mean_cosine"], figures["effective_rank"]
        if not self._has_warned and (cosine > COLLAPSED_COSINE or rank < COLLAPSED_RANK):
            logger.warning(
                "embeddings have collapsed: different contents have nearly the same vector; got "
                "mean cosine %.3f, effective rank %.1f; lower training.learning_rate or raise "
                "loss.temperature, unless the model is untrained (said once)",
                cosine,
                rank,
            )
            self._has_warned = True


def signs_of_collapse(vectors: Tensor) -> dict[str, float]:
    """Measure how alike vectors of different contents are.

    Args:
        vectors: (N, H) of length 1.

    Returns:
        `mean_cosine` over all pairs, and `effective_rank`, the exponential of the entropy of the
        normalised singular values (Roy and Vetterli, EUSIPCO 2007).
    """
    count, vectors = len(vectors), vectors.float()
    cosine = (vectors.sum(0).square().sum() - count) / (count * (count - 1))
    shares = torch.linalg.svdvals(vectors)
    rank = torch.exp(torch.special.entr(shares / shares.sum()).sum())
    return {"mean_cosine": cosine.item(), "effective_rank": rank.item()}
