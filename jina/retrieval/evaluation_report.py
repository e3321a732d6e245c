"""The table an evaluation ends with: the metrics most looked at, with their 95 % intervals."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from jina.retrieval.comparison import Comparison
from jina.retrieval.results import Figure, Result

SHOWN = {
    "ranking": ("ndcg@10", "recall@1", "recall@10"),
    "correlation": ("spearman", "pearson"),
}
LABEL, CELL = 12, 23


def report_lines(
    results: Sequence[Result], problems: Iterable[str], comparison: Comparison | None
) -> list[str]:
    """Return the lines of the report, none longer than 80 columns but the notes."""
    lines = []
    for (task, name, is_reversed, kind), group in groupby(results, key=_group):
        some = list(group)
        names = SHOWN[kind]
        what = "pairs" if kind == "correlation" else "queries"
        back = " (reversed)" if is_reversed else ""
        sizes = f"{len(some[0].measured):,} {what}, {some[0].documents:,} documents"
        lines += [f"{task}: {name}{back}, {sizes}", _row("", names)]
        for result in some:
            figures = result.figures()
            lines.append(_row(result.setup.name, [_cell(figures.get(n)) for n in names]))
            if comparison is not None and comparison.knows(result):
                change = comparison.difference(result)
                lines.append(_row("  change", [_cell(change.get(n), "+") for n in names]))
        lines.append("")
    lines += [f"Note: {problem}" for problem in problems]
    return lines


def _group(result: Result) -> tuple[str, str, bool, str]:
    return result.task, result.name, result.is_reversed, result.kind


def _row(label: str, cells: Iterable[str]) -> str:
    """Return a line of columns; a cell as wide as its column does without the space inside it."""
    fitting = [cell if len(cell) < CELL else cell.replace(", ", ",") for cell in cells]
    return f"{label:<{LABEL}}{''.join(f'{cell:<{CELL}}' for cell in fitting)}".rstrip()


def _cell(figure: Figure | None, sign: str = "") -> str:
    """Return a figure and its interval."""
    if figure is None:
        return "-"
    return f"{figure.value:{sign}.3f} [{figure.low:.3f}, {figure.high:.3f}]"
