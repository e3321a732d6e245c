"""Rows with a score: graded pairs of text matching, graded relevance everywhere else.

In a row of text matching the score says how alike its two sides are; similarities should follow it,
and nothing is ranked. In a row of another task it is the relevance of its positives, a whole number
as trec_eval has it, where 0 is an answer that was looked at and found wrong.
"""

from dataclasses import dataclass

import numpy as np

from jina.data.multimodal_dataset import DataError, MultimodalDataset
from jina.data.records import TASKS
from jina.data.row_index import RowIndex
from jina.retrieval.correlations import CORRELATIONS
from jina.retrieval.judgements import KINDS, digest_of, item_id, kinds_of
from jina.retrieval.ranking import Scorer
from jina.retrieval.results import Result, Setup

GRADED_PAIR = -1
_MATCHING = TASKS.index("text-matching")


def read_grades(dataset: MultimodalDataset) -> np.ndarray:
    """Return (rows,) relevance of each row's positives: 1 without a score, or `GRADED_PAIR`.

    Raises:
        DataError: naming each row whose score is no relevance.
    """
    grades, problems = np.ones(len(dataset), np.int64), []
    for row in range(len(dataset)):
        sample = dataset.sample(row)
        if sample.score is None:
            continue
        if dataset.index.tasks[row] == _MATCHING:
            grades[row] = GRADED_PAIR
        elif sample.score == int(sample.score):
            grades[row] = int(sample.score)
        else:
            problems.append(
                f"{sample.where}: score: is no relevance; got {sample.score}; write a whole number"
            )
    if problems:
        raise DataError(*problems)
    return grades


@dataclass(frozen=True, eq=False)
class GradedPairs:
    """Pairs of one kind on each side, with their scores.

    Attributes:
        task: `text-matching`.
        asked: kind of the queries.
        found: kind of the positives.
        queries: (Q,) uint64 identities, ascending.
        documents: (D,) uint64 identities of the positives, ascending.
        pairs: (P, 2) places of a query and of a positive.
        scores: (P,) as the rows have them.
        rows: (P,) where each pair stands.
    """

    task: str
    asked: str
    found: str
    queries: np.ndarray
    documents: np.ndarray
    pairs: np.ndarray
    scores: np.ndarray
    rows: np.ndarray

    @property
    def name(self) -> str:
        """What is compared with what."""
        return f"{self.asked}→{self.found}"

    @property
    def digest(self) -> str:
        """A digest of pairs and scores: only equal ones can be compared."""
        return digest_of(self.queries, self.documents, self.pairs, self.scores)

    def result(self, setup: Setup, score: Scorer, tokens: np.ndarray) -> Result:
        """Compare similarities with scores.

        Args:
            setup: which vectors.
            score: of queries and positives by their places.
            tokens: (Q,) vectors of each query: by their number MaxSim is divided, as pairs of
                different queries are compared here.
        """
        found = [score(query, other)[0, 0] for query, other in self.pairs[..., None]]
        similarities = np.array(found, np.float64) / tokens[self.pairs[:, 0]]
        return Result(
            task=self.task,
            name=self.name,
            is_reversed=False,
            setup=setup,
            kind="correlation",
            names=CORRELATIONS,
            values=np.stack([similarities, self.scores], axis=1),
            members=np.stack([np.arange(len(self.rows)), self.rows], axis=1),
            ids=tuple(
                f"{item_id(self.queries[query])}:{item_id(self.documents[other])}"
                for query, other in self.pairs
            ),
            documents=len(self.documents),
            digest=self.digest,
        )


def graded_pairs_of(
    dataset: MultimodalDataset, grades: np.ndarray, *, task: str
) -> list[GradedPairs]:
    """Return the graded pairs of a task, by the kinds of their sides."""
    index = dataset.index
    rows = index.positives.rows
    chosen = np.flatnonzero((grades[rows] == GRADED_PAIR) & (index.tasks[rows] == _MATCHING))
    if task != TASKS[_MATCHING] or not len(chosen):
        return []
    scores = {row: dataset.sample(row).score for row in np.unique(rows[chosen]).tolist()}
    asked, found = kinds_of(index.queries)[rows], kinds_of(index.positives)
    kinds = np.unique(np.stack([asked[chosen], found[chosen]], axis=1), axis=0)
    return [_pairs(index, scores, chosen[(asked[chosen] == a) & (found[chosen] == f)], (a, f))
            for a, f in kinds]  # fmt: skip


def _pairs(
    index: RowIndex, scores: dict[int, float], chosen: np.ndarray, kinds: tuple[int, int]
) -> GradedPairs:
    """Build the pairs of two kinds from the numbers of their positives."""
    rows = index.positives.rows[chosen]
    queries, asked = np.unique(index.queries.identities[rows].view(np.uint64), return_inverse=True)
    documents, found = np.unique(
        index.positives.identities[chosen].view(np.uint64), return_inverse=True
    )
    return GradedPairs(
        task=TASKS[_MATCHING],
        asked=KINDS[kinds[0]],
        found=KINDS[kinds[1]],
        queries=queries,
        documents=documents,
        pairs=np.stack([asked, found], axis=1),
        scores=np.array([scores[row] for row in rows.tolist()], np.float64),
        rows=rows,
    )
