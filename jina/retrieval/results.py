"""What was measured: figures of each query, and the means, slices and intervals taken from them.

Result: values (Q, F) ─ all queries, or those of a source or language ─► value, low, high
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from jina.data.row_index import RowIndex
from jina.retrieval.correlations import correlations_of
from jina.retrieval.intervals import Statistic, interval, mean_of
from jina.retrieval.judgements import Direction, item_id
from jina.retrieval.ranking_metrics import METRICS


class Setup(NamedTuple):
    """Which vectors are compared, and how many of their components."""

    vectors: str
    size: int

    @property
    def name(self) -> str:
        """For labels and file names, such as `single-128`."""
        return f"{self.vectors}-{self.size}"


class Figure(NamedTuple):
    """A figure and the bounds of its 95 % interval; NaN where it isn't defined."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """Return plain JSON, which knows no NaN."""
        return {k: None if np.isnan(v) else v for k, v in self._asdict().items()}


@dataclass(frozen=True, eq=False)
class Result:
    """The figures of one task, direction and setup, query by query.

    Attributes:
        task: the adapter.
        name: of the direction, such as `text→image`.
        is_reversed: whether the rows' positives asked for their queries.
        setup: which vectors were compared.
        kind: `ranking`, or `correlation` for graded pairs.
        names: of the figures.
        values: (Q, metrics) of each query, NaN without an answer; of a graded pair its similarity
            and score.
        members: (M, 2) a query, or pair, and the number of a row it stands in.
        ids: of the queries or pairs.
        documents: how many could be found.
        digest: equal for results that can be compared.
    """

    task: str
    name: str
    is_reversed: bool
    setup: Setup
    kind: str
    names: tuple[str, ...]
    values: np.ndarray
    members: np.ndarray
    ids: tuple[str, ...]
    documents: int
    digest: str

    @classmethod
    def of_ranking(cls, direction: Direction, setup: Setup, values: np.ndarray) -> "Result":
        """Describe the rankings of a direction by the metrics of each query."""
        return cls(
            task=direction.task,
            name=direction.name,
            is_reversed=direction.is_reversed,
            setup=setup,
            kind="ranking",
            names=tuple(METRICS),
            values=values,
            members=direction.members,
            ids=tuple(map(item_id, direction.queries)),
            documents=len(direction.documents),
            digest=direction.digest,
        )

    @property
    def key(self) -> tuple[str, str, str, bool, str, int]:
        """What tells this result from others of the same evaluation."""
        return (self.task, self.kind, self.name, self.is_reversed, *self.setup)

    @cached_property
    def measured(self) -> np.ndarray:
        """Numbers of the queries that can be measured."""
        return np.flatnonzero(np.isfinite(self.values).all(axis=1))

    def statistic(self, chosen: np.ndarray) -> Statistic:
        """Return the figures of draws from the chosen queries."""
        return self.statistic_of(self.values[chosen])

    def statistic_of(self, values: np.ndarray) -> Statistic:
        """Return the figures of draws from (queries, F) values like these."""
        if self.kind == "correlation":
            return correlations_of(values[:, 0], values[:, 1])
        return mean_of(values)

    def means(self) -> dict[str, float]:
        """Return the figures over all queries, without intervals."""
        found = self.statistic(self.measured)(np.arange(len(self.measured)))
        return dict(zip(self.names, found.tolist(), strict=True))

    def figures(self, chosen: np.ndarray | None = None) -> dict[str, Figure]:
        """Return the figures with their intervals, over all or some queries that are measured."""
        chosen = self.measured if chosen is None else chosen
        return figures_of(len(chosen), self.statistic(chosen), self.names)

    def slices(self, index: RowIndex) -> dict[str, dict[str, np.ndarray]]:
        """Return the measured queries of each source and language; one may be in several."""
        columns = {
            "source": (index.sources, index.source_names),
            "language": (index.languages, index.language_names),
        }
        return {by: dict(self._slices(*column)) for by, column in columns.items()}

    def _slices(
        self, numbers: np.ndarray, names: tuple[str, ...]
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the queries whose rows have each value of a column."""
        queries, rows = self.members.T
        values = numbers[rows]
        for number in np.unique(values).tolist():
            chosen = np.intersect1d(queries[values == number], self.measured)
            if len(chosen):
                yield names[number], chosen

    def problems(self) -> Iterator[str]:
        """Yield what the figures don't show."""
        lost = len(self.values) - len(self.measured)
        back = " reversed" if self.is_reversed else ""
        where = f"{self.task} {self.name}{back}"
        if lost:
            yield f"{where}: {lost:,} of {len(self.values):,} queries have no relevant document"
        if self.kind == "ranking":
            depths = [int(name.partition("@")[2]) for name in self.names if "recall" in name]
            sure = [f"recall@{depth}" for depth in depths if depth >= self.documents]
            if sure:
                yield (f"{where}: {', '.join(sure)} cannot fail with {self.documents:,} documents")
        elif len(np.unique(self.values[:, 1])) < 2:
            yield f"{where}: all scores are equal, so there is no correlation"


def figures_of(count: int, statistic: Statistic, names: tuple[str, ...]) -> dict[str, Figure]:
    """Return named figures of `count` queries with their intervals."""
    if not count:
        return {}
    values, (low, high) = statistic(np.arange(count)), interval(count, statistic)
    return {
        name: Figure(*map(float, found))
        for name, *found in zip(names, values, low, high, strict=True)
    }
