"""Two evaluations of the same rows: what changed, and how sure that is.

The difference is paired: each draw of the bootstrap takes the same queries from both, so that hard
and easy queries cancel out, and the interval is far narrower than those of the two figures.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jina.retrieval.evaluation_plan import EvaluationError, TaskPlan
from jina.retrieval.results import Figure, Result, figures_of

METRICS_FILE = "metrics.json"
PER_QUERY_FILE = "per_query.jsonl"
KEY_FIELDS = ("task", "kind", "direction", "reversed", "vectors", "size")

Key = tuple[str, str, str, bool, str, int]


@dataclass(frozen=True, eq=False)
class Comparison:
    """An earlier evaluation.

    Attributes:
        folder: where it is.
        digests: of the judgements of each result.
        values: (Q, F) the figures of its queries.
    """

    folder: Path
    digests: dict[Key, str]
    values: dict[Key, np.ndarray]

    @classmethod
    def read(cls, folder: Path) -> "Comparison":
        """Read what `python -m jina evaluate --output` wrote.

        Raises:
            EvaluationError: there is no complete evaluation.
        """
        try:
            metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
            digests = {_key(result): result["judgements"] for result in metrics["results"]}
            rows: dict[Key, list[list[float]]] = {key: [] for key in digests}
            with (folder / PER_QUERY_FILE).open(encoding="utf-8") as stream:
                for line in map(json.loads, stream):
                    figures = [np.nan if v is None else v for v in line["figures"].values()]
                    rows[_key(line)].append(figures)
            values = {key: np.array(found, np.float64) for key, found in rows.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise EvaluationError(
                f"--baseline: is no complete evaluation; got {folder}: {error!r}; name the "
                "--output folder of an earlier `python -m jina evaluate`"
            ) from error
        return cls(folder, digests, values)

    def require_same_rows(self, plan: list[TaskPlan]) -> None:
        """Refuse a baseline of other rows, before anything is embedded.

        Raises:
            EvaluationError: what both measured has other queries, documents or grades.
        """
        own = {}
        for part in plan:
            for direction in part.directions:
                key = (part.task, "ranking", direction.name, direction.is_reversed)
                own[key] = direction.digest
            for pairs in part.pairs:
                own[part.task, "correlation", pairs.name, False] = pairs.digest
        both = [key for key in self.digests if key[:4] in own]
        different = [" ".join(key[:3]) for key in both if own[key[:4]] != self.digests[key]]
        if different or not both:
            got = ", ".join(dict.fromkeys(different)) or "no direction in common"
            raise EvaluationError(
                f"--baseline: measured other rows; got {got} in {self.folder}; evaluate both "
                "models on the same files with the same options"
            )

    def knows(self, result: Result) -> bool:
        """Tell whether the baseline has this result, too."""
        return self.digests.get(result.key) == result.digest

    def difference(self, result: Result) -> dict[str, Figure]:
        """Return the figures of a result minus the baseline's, with intervals of the difference."""
        before = self.values[result.key]
        both = np.flatnonzero(np.isfinite(result.values + before).all(axis=1))
        new, old = (result.statistic_of(values[both]) for values in (result.values, before))
        return figures_of(len(both), lambda drawn: new(drawn) - old(drawn), result.names)


def _key(values: dict[str, object]) -> Key:
    return tuple(values[name] for name in KEY_FIELDS)
