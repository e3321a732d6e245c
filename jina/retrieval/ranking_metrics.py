"""What a ranking is worth, by trec_eval itself (through pytrec_eval).

nDCG with the grades as gains, recall, the reciprocal rank of the first relevant document among ten,
average precision. Each is between 0 and 1, computed for one query, and means are taken later.
"""

from collections.abc import Sequence

import numpy as np
import pytrec_eval

from jina.retrieval.judgements import Direction, item_id
from jina.retrieval.ranking import Ranking

# Our name of each metric, and trec_eval's.
METRICS = {
    **{f"ndcg@{depth}": f"ndcg_cut_{depth}" for depth in (1, 5, 10)},
    **{f"recall@{depth}": f"recall_{depth}" for depth in (1, 5, 10, 100)},
    "mrr@10": "recip_rank",
    "map": "map",
}
MEASURES = {"ndcg_cut.1,5,10", "recall.1,5,10,100", "recip_rank", "map"}
MRR_DEPTH = 10


class DirectionMetrics:
    """Measures rankings of one direction against what is right."""

    def __init__(self, direction: Direction) -> None:
        self.documents = [item_id(identity) for identity in direction.documents]
        self.has_answer = direction.has_answer()
        self._pairs, self._grades = direction.pairs, direction.grades
        # pairs are in the order of their queries
        self._ends = np.searchsorted(direction.pairs[:, 0], np.arange(len(direction.queries) + 1))

    def judged(self, query: int) -> dict[str, int]:
        """Return the grade of each document that was judged for a query."""
        mine = slice(self._ends[query], self._ends[query + 1])
        documents, grades = self._pairs[mine, 1].tolist(), self._grades[mine].tolist()
        return {self.documents[d]: grade for d, grade in zip(documents, grades, strict=True)}

    def measure(self, queries: np.ndarray, ranking: Ranking) -> np.ndarray:
        """Return (Q, metrics) in the order of `METRICS`; NaN for queries without an answer."""
        asked = [query for query in queries.tolist() if self.has_answer[query]]
        row_of = {query: row for row, query in enumerate(queries.tolist())}
        qrels = {str(query): self.judged(query) for query in asked}
        run = {str(query): self._found(ranking, row_of[query]) for query in asked}
        values = np.full((len(queries), len(METRICS)), np.nan)
        for query, found in trec_metrics(qrels, run).items():
            values[row_of[int(query)]] = found
        return values

    def _found(self, ranking: Ranking, row: int) -> dict[str, float]:
        """Return the score of each document found."""
        places, scores = ranking.documents[row].tolist(), ranking.scores[row].tolist()
        return {self.documents[p]: s for p, s in zip(places, scores, strict=True) if p >= 0}


def trec_metrics(
    qrels: dict[str, dict[str, int]], run: dict[str, dict[str, float]]
) -> dict[str, Sequence[float]]:
    """Return the metrics of each query, in the order of `METRICS`; 0 where nothing was found."""
    measured = pytrec_eval.RelevanceEvaluator(qrels, MEASURES).evaluate(run)
    nothing = dict.fromkeys(METRICS.values(), 0.0)
    found = {}
    for query in qrels:
        values = dict(measured.get(query, nothing))
        if values["recip_rank"] * MRR_DEPTH < 1:  # trec_eval has it at no depth
            values["recip_rank"] = 0.0
        found[query] = [values[name] for name in METRICS.values()]
    return found
