"""The evaluations before and after a run: figures side by side, and queries whose ranking moved."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jina.retrieval.comparison import PER_QUERY_FILE
from jina.retrieval.report_page.run_record import AFTER, BEFORE, ReportError

SHOWN_METRICS = {
    "ranking": ("ndcg@5", "ndcg@10", "recall@1", "recall@10"),
    "correlation": ("spearman", "pearson"),
}
CHANGE_METRIC = "ndcg@10"  # deep enough to see a document move within the ten first


class Group(NamedTuple):
    """What is measured together: one task, direction and kind of figure."""

    task: str
    direction: str
    is_reversed: bool
    kind: str

    @property
    def title(self) -> str:
        """For headings."""
        return f"{self.task}: {self.direction}{' (reversed)' if self.is_reversed else ''}"

    @property
    def file_name(self) -> str:
        """As run files and judgements have it."""
        sides = self.direction.replace("→", "-to-")
        return f"{self.task}.{sides}{'.reversed' if self.is_reversed else ''}"


class Row(NamedTuple):
    """A figure before and after, each `value`, `low`, `high` or `None`."""

    vectors: str
    metric: str
    before: dict[str, float] | None
    after: dict[str, float] | None
    change: dict[str, float] | None

    @property
    def verdict(self) -> str:
        """Whether the change is `better`, `worse` or, its interval holding 0, `open`."""
        change = self.change
        if change is None or change["low"] <= 0 <= change["high"]:
            return "open"
        return "better" if change["low"] > 0 else "worse"


@dataclass(frozen=True)
class Evaluations:
    """Both evaluations of a run.

    Attributes:
        folder: of the run.
        before: `metrics.json` of the base model.
        after: `metrics.json` of the trained one, with paired differences.
    """

    folder: Path
    before: dict[str, Any]
    after: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Evaluations":
        """Read the figures of a run.

        Raises:
            ReportError: one isn't complete.
        """
        read = []
        for name in (BEFORE, AFTER):
            file = folder / name / "metrics.json"
            try:
                figures = json.loads(file.read_text(encoding="utf-8"))
                int(figures["settings"]["depth"])
                for result in figures["results"]:
                    (_group(result), result["vectors"], result["size"], result["metrics"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ReportError(f"{file}: can't be read; got {error!r}; train anew") from error
            read.append(figures)
        return cls(folder, *read)

    def groups(self) -> list[Group]:
        """Return what was measured, in its order."""
        return list(dict.fromkeys(_group(result) for result in self.after["results"]))

    def tables(self, group: Group) -> dict[str, list[Row]]:
        """Return the rows of a group, metric by metric."""
        rows = list(self._rows(group))
        return {
            metric: [row for row in rows if row.metric == metric]
            for metric in SHOWN_METRICS[group.kind]
        }

    def _rows(self, group: Group) -> Iterator[Row]:
        earlier = {_key(r): r for r in self.before["results"]}
        results = [r for r in self.after["results"] if _group(r) == group]
        for metric in SHOWN_METRICS[group.kind]:
            for result in results:
                sets = (earlier.get(_key(result), {}).get("metrics", {}), result["metrics"])
                figures = (figures.get(metric) for figures in (*sets, result.get("difference", {})))
                known = [f if f and None not in f.values() else None for f in figures]
                yield Row(f"{result['vectors']}-{result['size']}", metric, *known)

    @property
    def depth(self) -> int:
        """How many documents were ranked for each query."""
        return self.after["settings"]["depth"]

    def sizes(self, group: Group) -> tuple[int, int]:
        """Return the number of queries, or graded pairs, and of documents."""
        result = next(r for r in self.after["results"] if _group(r) == group)
        return result["queries"], result["documents"]

    def whole(self, group: Group) -> str:
        """Return the name of the whole single vectors, such as `single-2048`."""
        sizes = [r["size"] for r in self.after["results"] if r["vectors"] == "single"]
        return f"single-{max(sizes)}"

    def changes(self, group: Group) -> dict[str, tuple[float, float]]:
        """Return the metric of each query before and after, by its id; only of rankings."""
        sides = [self._per_query(name, group) for name in (BEFORE, AFTER)]
        return {
            query: (sides[0][query], sides[1][query]) for query in sides[1] if query in sides[0]
        }

    def _per_query(self, name: Path, group: Group) -> dict[str, float]:
        file, whole = self.folder / name / PER_QUERY_FILE, self.whole(group)
        try:
            with file.open(encoding="utf-8") as stream:
                lines = map(json.loads, stream)
                return {
                    line["query"]: line["figures"][CHANGE_METRIC]
                    for line in lines
                    if _group(line) == group
                    and f"{line['vectors']}-{line['size']}" == whole
                    and line["figures"][CHANGE_METRIC] is not None
                }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReportError(f"{file}: can't be read; got {error!r}; train anew") from error


def _group(result: dict[str, Any]) -> Group:
    return Group(result["task"], result["direction"], result["reversed"], result["kind"])


def _key(result: dict[str, Any]) -> tuple[Any, ...]:
    return (_group(result), result["vectors"], result["size"])
