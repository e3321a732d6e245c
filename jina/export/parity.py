"""How far an exported model's vectors are from the checkpoint's: the parity report.

    items ─┬─ checkpoint, adapter unmerged ───────────► Vectors ─┐
           └─ exported folder, in a fresh process ────► Vectors ─┴─ compare ─► ParityReport

Shapes: H size of a single vector, L tokens of an item, D size of a token's vector.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from jina.export.maxsim import maxsim_scores
from jina.export.parity_items import ParityItem, Vectors

TOP = 10
MAXSIM_TOLERANCE = 1e-4
MINIMUM_COSINE = {torch.float32: 0.999999, torch.bfloat16: 0.999, torch.float16: 0.999}


@dataclass(frozen=True)
class KindFigures:
    """The items of one kind, compared by their single vectors or by their token vectors.

    Attributes:
        kind: of the items.
        vectors: `single` or `multi`.
        count: how many items.
        lowest: the smallest cosine, of token vectors the smallest mean over an item's tokens.
        median: the median of these.
        is_bound: whether `lowest` must reach the bound, or is known to be lost and only told.
    """

    kind: str
    vectors: str
    count: int
    lowest: float
    median: float
    is_bound: bool


@dataclass(frozen=True)
class ParityReport:
    """All figures of a comparison.

    Attributes:
        kinds: the cosines.
        top10_overlap: for `single` and `multi`, the mean share of an item's ten nearest others
            that the two models agree on, kinds that are only told left out.
        maxsim_difference: largest difference of two MaxSim scores, `None` without multi vectors.
        minimum: the cosine that every bound kind must reach.
        maxsim_tolerance: what `maxsim_difference` may be; `None` where it isn't bound.
    """

    kinds: tuple[KindFigures, ...]
    top10_overlap: dict[str, float]
    maxsim_difference: float | None
    minimum: float
    maxsim_tolerance: float | None

    def losses(self) -> list[str]:
        """Return what falls short of the bounds, one sentence each."""
        found = [
            f"{row.kind}, {row.vectors} vectors: cosine {row.lowest:.7f} is below {self.minimum}"
            for row in self.kinds
            if row.is_bound and not row.lowest >= self.minimum
        ]
        allowed, difference = self.maxsim_tolerance, self.maxsim_difference
        if None not in (allowed, difference) and not difference <= allowed:
            found.append(f"MaxSim scores differ by {difference:.1e}, more than {allowed:.0e}")
        return found

    def lines(self) -> list[str]:
        """Return the report as a Markdown table and two sentences."""
        rows = [
            f"| {row.kind} | {row.vectors} | {row.count} | {row.lowest:.7f} | {row.median:.7f} |"
            for row in self.kinds
        ]
        overlaps = ", ".join(f"{share:.1%} ({name})" for name, share in self.top10_overlap.items())
        scores = self.maxsim_difference
        return [
            "| items | vectors | count | lowest cosine | median cosine |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"Agreement on the {TOP} nearest others: {overlaps}.",
            *([] if scores is None else [f"Largest difference of a MaxSim score: {scores:.1e}."]),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self) | {"losses": self.losses()}


def compare(
    items: Sequence[ParityItem],
    expected: Sequence[Vectors],
    got: Sequence[Vectors],
    *,
    dtype: torch.dtype,
    minimum: float | None = None,
    told_only: Collection[str] = (),
) -> ParityReport:
    """Compare two models' vectors of the same items.

    Args:
        items: what was embedded.
        expected: by the checkpoint.
        got: by the exported model; `None` where its format has no such vectors.
        dtype: of the exported weights, which sets the bounds.
        minimum: the bound on cosines, if not that of the type.
        told_only: kinds whose loss is known and not bound.
    """
    figures: list[KindFigures] = []
    overlap: dict[str, float] = {}
    difference = None
    for vectors, cosine in (("single", _cosine), ("multi", _mean_cosine)):
        pairs = [
            (item.kind, getattr(a, vectors), getattr(b, vectors))
            for item, a, b in zip(items, expected, got, strict=True)
            if getattr(b, vectors) is not None
        ]
        for kind in dict.fromkeys(kind for kind, _, _ in pairs):
            cosines = torch.stack([cosine(a, b) for name, a, b in pairs if name == kind])
            lowest = float(cosines.min())  # NaN, if there is one
            middle = float(cosines.quantile(0.5))
            bound = kind not in told_only
            figures.append(KindFigures(kind, vectors, len(cosines), lowest, middle, bound))
        if pairs:
            bound_pairs = [(a, b) for kind, a, b in pairs if kind not in told_only]
            before, after = (_scores(side, vectors) for side in zip(*bound_pairs, strict=True))
            overlap[vectors] = _top_overlap(before, after)
            difference = float((before - after).abs().max()) if vectors == "multi" else None
    return ParityReport(
        kinds=tuple(figures),
        top10_overlap=overlap,
        maxsim_difference=difference,
        minimum=MINIMUM_COSINE[dtype] if minimum is None else minimum,
        maxsim_tolerance=MAXSIM_TOLERANCE if dtype == torch.float32 else None,
    )


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return cosine_similarity(a.double(), b.double(), dim=0)


def _mean_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Compare token by token; another number of tokens is no match at all."""
    if a.shape != b.shape:
        return torch.zeros((), dtype=torch.float64)
    return cosine_similarity(a.double(), b.double(), dim=1).mean()


def _scores(vectors: Sequence[Tensor], name: str) -> Tensor:
    """Score every item against every item, by cosine or MaxSim: (N, N)."""
    if name == "multi":
        return maxsim_scores(vectors, vectors)
    stacked = normalize(torch.stack(list(vectors)), dim=1)
    return stacked @ stacked.T


def _top_overlap(expected: Tensor, got: Tensor) -> float:
    """Return the mean share of common items among each item's nearest others."""
    size = min(TOP, len(expected) - 1)
    tops = []
    for scores in (expected, got):
        others = scores.clone().fill_diagonal_(-torch.inf)
        tops.append([set(row.tolist()) for row in others.topk(size, dim=1).indices])
    return sum(len(a & b) for a, b in zip(*tops, strict=True)) / (size * len(expected))
