"""What an evaluation leaves behind, so that anyone can rescore, compare or look a query up.

    metrics.json                                     figures, intervals, slices, settings, problems
    run.<task>.<direction>.<vectors>-<size>.trec     rankings, for trec_eval
    qrels.<task>.<direction>.trec                    what is right, for trec_eval
    per_query.jsonl                                  figures of each query, or of each graded pair
    items.jsonl                                      the line that each id stands for

Rankings and vectors are written as they come, into a folder beside the one asked for.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jina.data.row_index import RowIndex
from jina.retrieval.comparison import KEY_FIELDS, METRICS_FILE, PER_QUERY_FILE, Comparison
from jina.retrieval.evaluation_plan import EvaluationError, TaskPlan
from jina.retrieval.item_collections import ItemReader
from jina.retrieval.judgements import Direction, item_id
from jina.retrieval.ranking import Ranking
from jina.retrieval.results import Figure, Result, Setup

ITEMS_FILE = "items.jsonl"


@contextmanager
def complete_folder(folder: Path, *, is_first: bool) -> Iterator[Path]:
    """Yield a folder to write to, which gets its name when all is written, and goes after an error.

    Args:
        folder: of the evaluation; it passed `require_new`.
        is_first: whether this process makes and names it.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    if is_first:
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        partial.mkdir(parents=True)
    try:
        yield partial
        if is_first:
            partial.rename(folder)
    finally:
        if is_first:
            shutil.rmtree(partial, ignore_errors=True)


def require_new(folder: Path) -> None:
    """Raise `EvaluationError` if a folder is not to be written to."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise EvaluationError(f"--output: is not empty; got {folder}; name a new folder")
    home = next(parent for parent in folder.absolute().parents if parent.exists())
    if not home.is_dir() or not os.access(home, os.W_OK):
        raise EvaluationError(f"--output: may not be written; got {home}; name another folder")


class RunWriter:
    """Writes rankings as they are made.

    Args:
        folder: of the evaluation.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def watch(
        self, direction: Direction, setup: Setup, queries: np.ndarray, ranking: Ranking
    ) -> None:
        """Append the rankings of some queries to their run file."""
        file = self.folder / f"run.{_name(direction)}.{setup.name}.trec"
        with file.open("a", encoding="utf-8") as stream:
            for query, places, scores in zip(
                queries, ranking.documents.tolist(), ranking.scores.tolist(), strict=True
            ):
                asked = item_id(direction.queries[query])
                stream.writelines(
                    f"{asked} Q0 {item_id(direction.documents[place])} {number} {score:.9g} "
                    f"{setup.name}\n"
                    for number, (place, score) in enumerate(zip(places, scores, strict=True), 1)
                    if place >= 0
                )


def write_judgements(folder: Path, plan: Iterable[TaskPlan], reader: ItemReader) -> None:
    """Write what is right in each direction, and which line each id stands for."""
    directions = [direction for part in plan for direction in part.directions]
    pairs = [some for part in plan for some in part.pairs]
    for direction in directions:
        lines = (
            f"{item_id(direction.queries[query])} 0 {item_id(direction.documents[document])} {g}\n"
            for (query, document), g in zip(direction.pairs, direction.grades, strict=True)
        )
        _write_lines(folder / f"qrels.{_name(direction)}.trec", lines)
    sides = [side for some in (*directions, *pairs) for side in (some.queries, some.documents)]
    identities = np.unique(np.concatenate(sides))
    _write_lines(
        folder / ITEMS_FILE,
        (_json({"id": item_id(one), "where": reader.where(one)}) for one in identities),
    )


def write_results(
    folder: Path,
    results: Sequence[Result],
    index: RowIndex,
    *,
    about: dict[str, Any],
    problems: Sequence[str],
    comparison: Comparison | None,
) -> None:
    """Write the figures of each query, and last those of all."""
    _write_lines(folder / PER_QUERY_FILE, (line for r in results for line in _query_lines(r)))
    figures = {
        **about,
        "problems": list(problems),
        "results": [_as_dict(result, index, comparison) for result in results],
    }
    text = json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / METRICS_FILE).write_text(text + "\n", encoding="utf-8")


def _as_dict(result: Result, index: RowIndex, comparison: Comparison | None) -> dict[str, Any]:
    """Return all there is to say of a result."""
    described = {
        **key_of(result),
        "queries": len(result.measured),
        "documents": result.documents,
        "judgements": result.digest,
        "metrics": _figures(result.figures()),
        "slices": {
            by: {
                name: {"queries": len(chosen), "metrics": _figures(result.figures(chosen))}
                for name, chosen in slices.items()
            }
            for by, slices in result.slices(index).items()
        },
    }
    if comparison is not None and comparison.knows(result):
        described["difference"] = _figures(comparison.difference(result))
    return described


def key_of(result: Result) -> dict[str, Any]:
    """Return what tells a result from others, as the files have it."""
    return dict(zip(KEY_FIELDS, result.key, strict=True))


def _query_lines(result: Result) -> Iterable[str]:
    """Yield a line for each query or graded pair."""
    names = result.names if result.kind == "ranking" else ("similarity", "score")
    key = key_of(result)
    for name, values in zip(result.ids, result.values.tolist(), strict=True):
        figures = {n: None if np.isnan(v) else v for n, v in zip(names, values, strict=True)}
        yield _json({**key, "query": name, "figures": figures})


def _figures(figures: dict[str, Figure]) -> dict[str, Any]:
    return {name: figure.as_dict() for name, figure in figures.items()}


def _name(direction: Direction) -> str:
    """Return what a direction is called in file names."""
    sides = f"{direction.asked}-to-{direction.found}"
    return f"{direction.task}.{sides}{'.reversed' if direction.is_reversed else ''}"


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def _write_lines(file: Path, lines: Iterable[str]) -> None:
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(lines)
