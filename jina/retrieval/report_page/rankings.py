"""What the report needs of a run file: the first documents, the ranks of right ones, all scores.

run.….trec ─ a line at a time ─► QueryRanking of each query, Scores of all
"""

import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from jina.retrieval.report_page.run_record import ReportError

SHOWN = 5

Parsed = TypeVar("Parsed")
Grades = Mapping[str, Mapping[str, int]]


class Found(NamedTuple):
    """A document in a ranking; `rank` counts from 1."""

    document: str
    rank: int
    score: float


@dataclass
class QueryRanking:
    """What is kept of one ranking.

    Attributes:
        top: the first documents.
        noted: right ones and those asked for, as far as they were ranked, best first.
    """

    top: list[Found] = field(default_factory=list)
    noted: dict[str, Found] = field(default_factory=dict)


@dataclass
class Rankings:
    """The rankings of a direction.

    Attributes:
        queries: by their ids.
        positives: scores of right documents.
        negatives: scores of all others that were ranked.
        missed: how many right documents stand too low to be in the file.
    """

    queries: dict[str, QueryRanking]
    positives: np.ndarray
    negatives: np.ndarray
    missed: int


def read_grades(file: Path) -> dict[str, dict[str, int]]:
    """Return the grade of each judged document, query by query; errors as in `read_rankings`."""
    grades: dict[str, dict[str, int]] = {}
    for query, document, grade in _parsed(file, _judgement):
        grades.setdefault(query, {})[document] = grade
    return grades


def read_rankings(file: Path, grades: Grades, asked_for: Mapping[str, set[str]]) -> Rankings:
    """Read a run file.

    Args:
        file: as `python -m jina evaluate` writes it.
        grades: from `read_grades`; above 0 is right.
        asked_for: documents of some queries whose scores are wanted.

    Raises:
        ReportError: it can't be read.
    """
    queries: dict[str, QueryRanking] = {}
    scores = {True: array("f"), False: array("f")}
    for query, found in _parsed(file, _finding):
        is_right = grades.get(query, {}).get(found.document, 0) > 0
        kept = queries.setdefault(query, QueryRanking())
        if found.rank <= SHOWN:
            kept.top.append(found)
        if is_right or found.document in asked_for.get(query, ()):
            kept.noted[found.document] = found
        scores[is_right].append(found.score)
    right = sum(grade > 0 for judged in grades.values() for grade in judged.values())
    positives, negatives = (np.array(scores[is_right]) for is_right in (True, False))
    return Rankings(queries, positives, negatives, right - len(positives))


def _judgement(line: str) -> tuple[str, str, int]:
    query, _, document, grade = line.split()
    return query, document, int(grade)


def _finding(line: str) -> tuple[str, Found]:
    query, _, document, rank, score, _ = line.split()
    if not math.isfinite(float(score)):
        raise ValueError(f"score is not finite: {score}")
    return query, Found(document, int(rank), float(score))


def _parsed(file: Path, parse: Callable[[str], Parsed]) -> Iterator[Parsed]:
    """Yield what each line says."""
    number = 0
    try:
        with file.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):  # noqa: B007 - for the message
                yield parse(line)
    except (OSError, ValueError) as error:
        message = f"{file}:{number}: can't be read; got {error}; evaluate anew"
        raise ReportError(message) from error
