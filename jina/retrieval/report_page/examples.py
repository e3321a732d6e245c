"""Which queries the gallery shows: best gains and worst losses first, then some that didn't move.

figures of each query, before and after ─┐
rankings, judgements ────────────────────┴─► Examples of a direction
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jina.retrieval.item_collections import ItemReader
from jina.retrieval.judgements import item_id
from jina.retrieval.report_page.evaluations import Evaluations, Group
from jina.retrieval.report_page.rankings import (
    Found,
    QueryRanking,
    Rankings,
    read_grades,
    read_rankings,
)
from jina.retrieval.report_page.run_record import AFTER, BEFORE

GAINS, LOSSES, STEADY = 6, 6, 3
HARD_NEGATIVES = 6

Negatives = Mapping[str, set[str]]


@dataclass(frozen=True)
class Example:
    """A query and what was found for it.

    Attributes:
        kind: `gain`, `loss` or `steady`.
        query: its id.
        before: its metric with the base model.
        after: its metric with the trained one.
        top: what the trained model finds first.
        right: ids of the right documents.
        answers: for each right document that either model ranked, both findings or `None`.
    """

    kind: str
    query: str
    before: float
    after: float
    top: list[Found]
    right: set[str]
    answers: list[tuple[Found | None, Found | None]]


@dataclass(frozen=True)
class HardNegatives:
    """A query, its best positive and its own hard negatives, with the scores of both models.

    Attributes:
        query: its id.
        items: (before, after) of the positive first, then of the negatives, hardest first.
        margin: by how much the trained model prefers the positive to the hardest negative.
    """

    query: str
    items: list[tuple[Found | None, Found]]
    margin: float


@dataclass(frozen=True)
class Examples:
    """What the gallery shows of one direction."""

    group: Group
    queries: list[Example]
    hard_negatives: list[HardNegatives]
    rankings: tuple[Rankings, Rankings]


def choose_examples(evaluations: Evaluations, group: Group, negatives: Negatives) -> Examples:
    """Choose the queries of one direction.

    Args:
        evaluations: of the run.
        group: the direction.
        negatives: ids of each query's own hard negatives.

    Raises:
        ReportError: a file of the evaluations can't be read.
    """
    folder, name = evaluations.folder, group.file_name
    grades = read_grades(folder / AFTER / f"qrels.{name}.trec")
    run = f"run.{name}.{evaluations.whole(group)}.trec"
    before, after = (
        read_rankings(folder / side / run, grades, negatives) for side in (BEFORE, AFTER)
    )
    changes = evaluations.changes(group)
    queries = [
        _example(kind, query, changes[query], before, after, grades)
        for query, kind in _chosen(changes).items()
    ]
    hard = [
        found
        for query, own in negatives.items()
        if query in after.queries
        and (found := _hard_negatives(query, own, before, after, grades)) is not None
    ]
    hard = sorted(hard, key=lambda found: (found.margin, found.query))[:HARD_NEGATIVES]
    return Examples(group, queries, hard, (before, after))


def _chosen(changes: Mapping[str, tuple[float, float]]) -> dict[str, str]:
    """Return the kind of each chosen query, in the order of the page."""
    order = sorted(changes, key=lambda query: (changes[query][0] - changes[query][1], query))
    gained = [query for query in order if changes[query][1] > changes[query][0]]
    lost = [query for query in reversed(order) if changes[query][1] < changes[query][0]]
    same = [query for query in order if changes[query][1] == changes[query][0]]
    every = max(1, len(same) // STEADY)
    return {
        **dict.fromkeys(gained[:GAINS], "gain"),
        **dict.fromkeys(lost[:LOSSES], "loss"),
        **dict.fromkeys(same[::every][:STEADY], "steady"),
    }


def _example(
    kind: str,
    query: str,
    change: tuple[float, float],
    before: Rankings,
    after: Rankings,
    grades: Mapping[str, Mapping[str, int]],
) -> Example:
    right = {document for document, grade in grades.get(query, {}).items() if grade > 0}
    rankings = [side.queries.get(query, QueryRanking()) for side in (before, after)]
    answers = [tuple(ranking.noted.get(document) for ranking in rankings) for document in right]
    known = [pair for pair in answers if pair != (None, None)]
    known.sort(key=lambda pair: min(found.rank for found in pair if found is not None))
    return Example(kind, query, *change, rankings[1].top, right, known)


def _hard_negatives(
    query: str,
    own: set[str],
    before: Rankings,
    after: Rankings,
    grades: Mapping[str, Mapping[str, int]],
) -> HardNegatives | None:
    """Compare a query's positive with its negatives; `None` unless both were ranked."""
    now = after.queries[query].noted
    earlier = before.queries.get(query, QueryRanking()).noted
    right = {document for document, grade in grades.get(query, {}).items() if grade > 0}
    found = sorted(now.values(), key=lambda one: one.rank)
    positive = next((one for one in found if one.document in right), None)
    wrong = [one for one in found if one.document in own - right]
    if positive is None or not wrong:
        return None
    items = [(earlier.get(one.document), one) for one in (positive, *wrong)]
    return HardNegatives(query, items, positive.score - wrong[0].score)


def negatives_of(reader: ItemReader) -> dict[str, set[str]]:
    """Return the ids of each query's own hard negatives, of all rows it stands in."""
    index = reader.dataset.index
    queries = index.queries.identities.view("uint64")[index.negatives.rows]
    found: dict[str, set[str]] = {}
    documents = index.negatives.identities.view("uint64")
    for query, document in zip(queries.tolist(), documents.tolist(), strict=True):
        found.setdefault(item_id(query), set()).add(item_id(document))
    return found
