"""The loss of a whole batch: both kinds of vectors, every Matryoshka size, in flat memory.

    queries, candidates ─ scores of some rows ─► losses ─► gradient of the scores ─► of the vectors
                          └───────────────── tile by tile, added up ──────────────────────┘

Jina Embeddings V4 (arXiv 2506.18902) trains

    single * mean over sizes of NCE(dense) + multi * NCE(late) + kl * KL(dense || late)

with one adapter for both heads; rows with a rating have CoSENT in the place of NCE. The gradient is
computed along with the loss, since the scores of a large batch can't be kept for a backward pass.

Shapes: N queries, P positives, C candidates (positives first), H vector size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from jina.models.embeddings import Embeddings, TokenVectors
from jina.models.losses import cosent, info_nce, score_divergence
from jina.models.pairing import Pairing, Roles
from jina.models.scores import DenseScores, LateScores

TILE = 2**21  # scores of one kind that are in memory at once


class Weights(NamedTuple):
    """What each part of the loss counts; a part with 0 isn't computed."""

    single: float
    multi: float
    kl: float

    @property
    def needs_single(self) -> bool:
        """Whether single vectors take part."""
        return self.single > 0 or self.kl > 0

    @property
    def needs_multi(self) -> bool:
        """Whether token vectors take part."""
        return self.multi > 0 or self.kl > 0


@dataclass(frozen=True)
class Direction:
    """Rows that look for their positives among columns.

    Attributes:
        dense: cosines, or `None`.
        late: late-interaction scores, or `None`.
        pairing: the roles of columns to rows.
        rows: the rows to work on, of all the pairing has.
        share: of the loss, over all rows.
        is_forward: from queries to candidates, not from positives back to queries.
    """

    dense: DenseScores | None
    late: LateScores | None
    pairing: Pairing
    rows: range
    share: float
    is_forward: bool

    def tiles(self, kinds: int) -> Iterator[tuple[int, int]]:
        """Cut the rows so that no kind of score takes more than its part of the memory."""
        step = max(1, TILE // max(1, len(self.pairing.column_contents) * kinds // 2))
        if self.late is not None:
            step = min(step, self.late.most_rows())
        # a process without rows of its own has one empty tile, so that all have the same parts
        for start in range(self.rows.start, max(self.rows.stop, self.rows.start + 1), step):
            yield start, min(start + step, self.rows.stop)


@dataclass(frozen=True)
class Rated:
    """CoSENT of a batch of rated pairs, ready to be spread over tiles.

    Attributes:
        values: the loss of each kind of score.
        slopes: (N,) derivative of each loss by the score of each pair.
        bends: derivative of each loss by the temperature.
    """

    values: list[Tensor]
    slopes: list[Tensor]
    bends: list[Tensor]


@dataclass(frozen=True)
class ContrastiveLoss:
    """The loss of a global batch.

    Args:
        weights: of the parts.
        sizes: Matryoshka sizes of the single vectors in rising order, the last the whole vector.
        symmetric: also rank the queries of each positive, and take the mean.
    """

    weights: Weights
    sizes: tuple[int, ...]
    symmetric: bool = False

    def __call__(
        self,
        queries: Embeddings,
        candidates: Embeddings,
        pairing: Pairing,
        *,
        temperature: Tensor,
        ratings: Tensor | None = None,
        rows: range | None = None,
        positives: range | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and what it is made of.

        With `rows` and `positives` only a part is computed, so that several processes can share the
        work: the results of all parts add up to those of the whole.

        Args:
            queries: N of them.
            candidates: C of them.
            pairing: of N rows and C columns.
            temperature: a scalar, which may take a gradient.
            ratings: (N,) graded truth; each query then has one positive.
            rows: the queries to work on.
            positives: the positives to work on in the symmetric form.

        Returns:
            The loss, a differentiable scalar in float32 or wider, and its parts by name, mean
            similarity of positives and negatives among them.
        """
        vectors = [queries.single, candidates.single]
        vectors += [side.multi.vectors if side.multi else None for side in (queries, candidates)]
        present = [tensor for tensor in (*vectors, temperature) if tensor is not None]
        has_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in present)
        parts: dict[str, Tensor] = {}

        def compute(*tensors: Tensor) -> tuple[Tensor, list[Tensor]]:
            """Return the loss and its gradients of vectors and temperature, in their own type."""
            with torch.autocast(tensors[0].device.type, enabled=False):
                work = _Work(self, queries, candidates, tensors[:-1], tensors[-1], has_gradient)
                parts.update(
                    work.run(
                        pairing,
                        ratings,
                        range(len(pairing)) if rows is None else rows,
                        range(pairing.own.shape[1]) if positives is None else positives,
                    )
                )
            return parts["contrastive_loss"], work.gradients()

        return _WithGradient.apply(compute, *present), parts


class _WithGradient(torch.autograd.Function):
    """A scalar whose gradient is computed along with it."""

    @staticmethod
    def forward(ctx: Any, compute: Callable[..., Any], *inputs: Tensor) -> Tensor:
        """Return the value and keep the gradient by each input."""
        value, ctx.gradients = compute(*inputs)
        ctx.types = [tensor.dtype for tensor in inputs]
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        """Return the gradients, each in its input's type.

        They may fill most of the memory: scaled in place and handed out once, they aren't copied.
        """
        if ctx.gradients is None:
            raise RuntimeError(
                "ContrastiveLoss: its gradient is handed out once; got a second backward pass; "
                "compute the loss again"
            )
        gradients, ctx.gradients = ctx.gradients, None
        scaled = zip(gradients, ctx.types, strict=True)
        return None, *(gradient.mul_(upstream).to(dtype) for gradient, dtype in scaled)


class _Work:
    """One evaluation of the loss: vectors in a wide type, gradients that are added up."""

    def __init__(
        self,
        loss: ContrastiveLoss,
        queries: Embeddings,
        candidates: Embeddings,
        vectors: Sequence[Tensor],
        temperature: Tensor,
        has_gradient: bool,
    ) -> None:
        self.loss = loss
        self.has_gradient = has_gradient
        wide = torch.promote_types(vectors[0].dtype, torch.float32)
        vectors = [vector.detach().to(wide) for vector in vectors]
        is_learned = has_gradient and temperature.requires_grad
        self.temperature = temperature.detach().to(wide).requires_grad_(is_learned)
        self.sums = [torch.zeros_like(vector) for vector in vectors] if has_gradient else []
        both = list(zip(vectors, self.sums or vectors, strict=True))
        self.single = [both.pop(0), both.pop(0)] if queries.single is not None else None
        self.multi = None
        if queries.multi is not None:
            sides = zip(both, (queries.multi.lengths, candidates.multi.lengths), strict=True)
            self.multi = [[TokenVectors(x, lengths) for x in pair] for pair, lengths in sides]

    def gradients(self) -> list[Tensor]:
        """Return the gradient of each input, in the wide type."""
        if not self.has_gradient:
            return []
        slope = self.temperature.grad
        return [*self.sums, torch.zeros_like(self.temperature) if slope is None else slope]

    def run(
        self, pairing: Pairing, ratings: Tensor | None, rows: range, positives: range
    ) -> dict[str, Tensor]:
        """Work through both directions and return the parts of the loss."""
        both = self.loss.symmetric and ratings is None
        forward = self._forward(pairing, rows, share=0.5 if both else 1.0)
        rated = None if ratings is None else self._rated(forward, ratings)
        directions = [forward, self._backward(pairing, positives)] if both else [forward]
        parts: dict[str, Tensor] = {}
        for direction in directions:
            kinds = len(self.loss.sizes) + 2
            for start, stop in direction.tiles(kinds):
                for name, value in self._tile(direction, start, stop, rated).items():
                    parts[name] = parts.get(name, 0) + value.detach()
        return parts

    def _forward(self, pairing: Pairing, rows: range, *, share: float) -> Direction:
        dense = late = None
        if self.single is not None:
            (queries, of_queries), (candidates, of_candidates) = self.single
            gradients = (of_queries, of_candidates)
            dense = DenseScores(queries, candidates, self.loss.sizes, gradients)
        if self.multi is not None:
            (queries, of_queries), (candidates, of_candidates) = self.multi
            late = LateScores(queries, candidates, (of_queries, of_candidates))
        return Direction(dense, late, pairing, rows, share / len(pairing), is_forward=True)

    def _backward(self, pairing: Pairing, positives: range) -> Direction:
        count = pairing.own.shape[1]
        dense = late = None
        if self.single is not None:
            queries, candidates = self.single
            rows, of_rows = (x[:count] for x in candidates)
            dense = DenseScores(rows, queries[0], self.loss.sizes, (of_rows, queries[1]))
        if self.multi is not None:
            (queries, of_queries), candidates = self.multi
            found, of_found = (x.part(0, count) for x in candidates)
            late = LateScores(queries, found, (of_queries, of_found), by_candidate=True)
        reverse = pairing.reversed(count)
        return Direction(dense, late, reverse, positives, 0.5 / count, is_forward=False)

    def _tile(
        self, direction: Direction, start: int, stop: int, rated: Rated | None
    ) -> dict[str, Tensor]:
        """Compute the losses of some rows and add up their gradients."""
        dense, late, matches = [], None, []
        if direction.dense is not None:
            dense = [s.requires_grad_(self.has_gradient) for s in direction.dense.tile(start, stop)]
        if direction.late is not None:
            late, matches = direction.late.tile(start, stop)
            late.requires_grad_(self.has_gradient)
        with torch.set_grad_enabled(self.has_gradient):
            parts = self._parts(direction, start, stop, dense, late, rated)
        if self.has_gradient:
            if parts["contrastive_loss"].requires_grad:  # KL has nothing to say on the way back
                parts["contrastive_loss"].backward()
            if direction.dense is not None:
                with_gradient = [_gradient(scores) for scores in dense]
                direction.dense.add_gradient(start, stop, dense, with_gradient)
            if late is not None:
                direction.late.add_gradient(start, stop, matches, _gradient(late))
        return parts

    def _parts(
        self,
        direction: Direction,
        start: int,
        stop: int,
        dense: list[Tensor],
        late: Tensor | None,
        rated: Rated | None,
    ) -> dict[str, Tensor]:
        weights, sizes = self.loss.weights, self.loss.sizes
        roles = direction.pairing.tile(start, stop)
        parts, total = {}, self.temperature.detach() * 0
        if weights.single:
            for kind, scores in enumerate(dense):
                value = self._ranking(direction, scores, roles, start, rated, kind)
                parts[f"single_loss_{sizes[kind]}"] = value
            parts["single_loss"] = sum(parts.values()) / len(sizes)
            total = total + weights.single * parts["single_loss"]
        if weights.multi:
            parts["multi_loss"] = self._ranking(direction, late, roles, start, rated, len(dense))
            total = total + weights.multi * parts["multi_loss"]
        if weights.kl and direction.is_forward:
            is_candidate = roles.is_positive | roles.is_negative
            divergence = score_divergence(dense[-1], late, is_candidate, self.temperature)
            parts["kl_loss"] = divergence.sum() / len(direction.pairing)
            total = total + weights.kl * parts["kl_loss"]
        if direction.is_forward:
            parts |= _similarities(direction, dense[-1] if dense else late, roles)
        return {"contrastive_loss": total, **parts}

    def _ranking(
        self,
        direction: Direction,
        scores: Tensor,
        roles: Roles,
        start: int,
        rated: Rated | None,
        kind: int,
    ) -> Tensor:
        """Return some rows' part of InfoNCE, or of CoSENT when the rows are rated."""
        if rated is None:
            losses = info_nce(scores, roles.is_positive, roles.is_negative, self.temperature)
            return losses.sum() * direction.share
        # a loss of all pairs at once: these rows have their part of its value and of its slope
        rows = len(scores)
        own = scores.masked_fill(~roles.is_positive, 0).sum(1)
        linear = (own * rated.slopes[kind][start : start + rows]).sum()
        share = rows / len(direction.pairing)
        linear = linear + share * rated.bends[kind] * self.temperature
        return share * rated.values[kind] + (linear - linear.detach())  # no more than a slope

    def _rated(self, direction: Direction, ratings: Tensor) -> Rated:
        """Compute CoSENT of each kind of score over all pairs."""
        rows, columns = direction.pairing.own
        columns = columns[rows.argsort()]
        kinds = direction.dense.pairs(columns) if direction.dense else []
        kinds += [direction.late.pairs(columns)] if direction.late else []
        rated = Rated([], [], [])
        for scores in kinds:
            with torch.enable_grad():
                inputs = (scores.requires_grad_(), self.temperature.detach().requires_grad_())
                value = cosent(inputs[0], ratings.to(scores), inputs[1])
            slope, bend = torch.autograd.grad(value, inputs)
            rated.values.append(value.detach())
            rated.slopes.append(slope)
            rated.bends.append(bend)
        return rated


def _gradient(scores: Tensor) -> Tensor:
    return torch.zeros_like(scores) if scores.grad is None else scores.grad


def _similarities(direction: Direction, scores: Tensor, roles: Roles) -> dict[str, Tensor]:
    """Return some rows' part of the mean similarity of positives and of negatives."""
    means = {}
    for name, mask in zip(("positive", "negative"), roles, strict=True):
        of_rows = scores.detach().masked_fill(~mask, 0).sum(1) / mask.sum(1).clamp(min=1)
        means[f"{name}_similarity"] = of_rows.sum() / len(direction.pairing)
    return means
