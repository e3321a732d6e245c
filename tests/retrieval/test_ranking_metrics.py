"""Metrics against a second implementation in plain loops, on random runs with ties and grades."""

import random

import numpy as np
import pytest

from jina.retrieval.judgements import Direction, item_id
from jina.retrieval.ranking import Ranking
from jina.retrieval.ranking_metrics import METRICS, DirectionMetrics, trec_metrics


def random_case(draw):
    """A query with several relevant documents of any grade, and a run with many ties."""
    size = draw.choice([1, 3, 8, 30, 150])
    names = [item_id(draw.getrandbits(64)) for _ in range(size)]
    judged = draw.sample(names, draw.randint(1, size))
    qrel = {name: draw.choice([0, 0, 1, 1, 2, 5]) for name in judged}
    qrel[draw.choice(names)] = draw.randint(1, 3)
    kept, few = draw.sample(names, draw.randint(1, size)), [0.5, -1.25, 0.1, 0.0]
    scores = [draw.choice(few) if draw.random() < 0.5 else draw.gauss(0, 1) for _ in kept]
    return qrel, {name: float(np.float32(score)) for name, score in zip(kept, scores, strict=True)}


@pytest.mark.parametrize("seed", range(10))
def test_metrics_equal_plain_loops_on_a_thousand_random_runs(seed, by_hand):
    draw = random.Random(seed)  # noqa: S311
    cases = {str(number): random_case(draw) for number in range(100)}
    qrels = {name: qrel for name, (qrel, _) in cases.items()}
    runs = {name: run for name, (_, run) in cases.items()}
    measured = trec_metrics(qrels, runs)
    for name, case in cases.items():
        assert measured[name] == pytest.approx(by_hand(*case), abs=1e-9, rel=0)


def test_ties_in_the_other_order_would_give_other_figures():
    qrel, run = {"a": 1}, {"a": 0.5, "b": 0.5}
    assert trec_metrics({"q": qrel}, {"q": run})["q"][0] == 0.0  # b comes first
    assert trec_metrics({"q": {"b": 1}}, {"q": run})["q"][0] == 1.0


def test_the_first_relevant_document_in_eleventh_place_counts_for_nothing_in_mrr():
    run = {item_id(number): -float(number) for number in range(20)}
    place = list(METRICS).index("mrr@10")
    for rank, expected in ((1, 1.0), (10, 0.1), (11, 0.0)):
        qrel = {item_id(rank - 1): 1}
        assert trec_metrics({"q": qrel}, {"q": run})["q"][place] == pytest.approx(expected)


def test_a_query_that_finds_nothing_has_zeros():
    assert trec_metrics({"q": {"a": 1}}, {"q": {}}) == {"q": [0.0] * len(METRICS)}


def test_a_query_without_an_answer_has_no_figures(by_hand):
    direction = Direction(
        task="retrieval",
        asked="text",
        found="text",
        is_reversed=False,
        queries=np.array([1, 2], np.uint64),
        documents=np.array([7, 9], np.uint64),
        pairs=np.array([[0, 1], [1, 0]]),
        grades=np.array([0, 2]),
        members=np.array([[0, 0], [1, 1]]),
    )
    ranking = Ranking(np.array([[0, 1], [1, 0]]), np.array([[0.5, 0.25]] * 2, np.float32))
    values = DirectionMetrics(direction).measure(np.array([0, 1]), ranking)
    assert np.isnan(values[0]).all()
    assert values[1] == pytest.approx(by_hand({"7": 2}, {"9": 0.5, "7": 0.25}))
