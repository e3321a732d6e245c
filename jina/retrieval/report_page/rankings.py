"""What the report needs of a run file: the first documents, the ranks of right ones, all scores.

run.….trec ─ a line at a time ─► QueryRanking of each query, Scores of all
"""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jina.retrieval.report_page.run_record import ReportError

SHOWN = 5

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
    """

    queries: dict[str, QueryRanking]
    positives: np.ndarray
    negatives: np.ndarray


def read_grades(file: Path) -> dict[str, dict[str, int]]:
    """Return the grade of each judged document, query by query."""
    grades: dict[str, dict[str, int]] = {}
    for query, _, document, grade in _fields(file, 4):
        grades.setdefault(query, {})[document] = int(grade)
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
    for query, _, document, rank, score, _ in _fields(file, 6):
        found = Found(document, int(rank), float(score))
        is_right = grades.get(query, {}).get(document, 0) > 0
        kept = queries.setdefault(query, QueryRanking())
        if found.rank <= SHOWN:
            kept.top.append(found)
        if is_right or document in asked_for.get(query, ()):
            kept.noted[document] = found
        scores[is_right].append(found.score)
    return Rankings(queries, np.array(scores[True]), np.array(scores[False]))


def _fields(file: Path, count: int) -> Iterator[list[str]]:
    """Yield the fields of each line."""
    try:
        with file.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                fields = line.split()
                if len(fields) != count:
                    raise ReportError(f"{file}:{number}: has not {count} fields; evaluate anew")
                yield fields
    except (OSError, ValueError) as error:
        raise ReportError(f"{file}: can't be read; got {error}; evaluate anew") from error
