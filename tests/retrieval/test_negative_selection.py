"""Which candidates become negatives: against a slow reading of the rules, and case by case."""

from collections import Counter

import numpy as np
import pytest

from jina.retrieval.errors import RetrievalError
from jina.retrieval.negative_selection import Ranking, SelectionRules, choose_negatives


def ranking_of(scores, likeness=None):
    likeness = np.zeros(len(scores)) if likeness is None else np.array(likeness)
    return Ranking(np.arange(100, 100 + len(scores)), np.array(scores, float), likeness)


def choose(ranking, positive_score=1.0, *, row=0, excluded=None, **rules):
    none = {"relative_margin": None, "absolute_margin": None, "near_duplicate": 1.0}
    rules = SelectionRules(**{**none, **rules})
    excluded = Counter() if excluded is None else excluded
    return choose_negatives(ranking, positive_score, rules, row=row, excluded=excluded)


def ranks(negatives):
    return [negative.rank for negative in negatives]


SCORES = [0.99, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]


def test_the_hardest_come_first_with_their_rank_and_score():
    first, second = choose(ranking_of(SCORES), count=2)
    assert (first.document, first.rank, first.score) == (100, 1, 0.99)
    assert (second.document, second.rank, second.score) == (101, 2, 0.9)


@pytest.mark.parametrize(
    ("rules", "positive_score", "expected"),
    [
        ({}, 0.8, [1, 2, 3, 4, 5, 6, 7]),
        ({"relative_margin": 1.0}, 0.8, [4, 5, 6, 7]),
        ({"relative_margin": 0.74}, 0.8, [6, 7]),
        ({"absolute_margin": 0.0}, 0.8, [4, 5, 6, 7]),
        ({"absolute_margin": 0.15}, 0.8, [5, 6, 7]),
        ({"relative_margin": 0.74, "absolute_margin": 0.35}, 0.8, [7]),
        ({"relative_margin": 0.5}, -0.1, []),
        ({"first_rank": 3, "last_rank": 5}, 0.8, [3, 4, 5]),
        ({"first_rank": 3, "last_rank": 5, "relative_margin": 1.0}, 0.8, [4, 5]),
        ({"first_rank": 8, "last_rank": 9}, 0.8, []),
    ],
)
def test_margins_and_ranks_bound_what_is_chosen(rules, positive_score, expected):
    assert ranks(choose(ranking_of(SCORES), positive_score, count=9, **rules)) == expected


def test_below_zero_a_share_keeps_the_same_distance():
    rules = SelectionRules(relative_margin=0.95)
    assert rules.limit(0.6) == pytest.approx(0.57)
    assert rules.limit(-0.6) == pytest.approx(-0.63)


def test_near_duplicates_of_a_positive_are_left_out_and_keep_their_rank():
    excluded = Counter()
    likeness = [0.2, 0.95, 0.9, 0.99, 0, 0, 0]
    found = choose(ranking_of(SCORES, likeness), near_duplicate=0.95, count=3, excluded=excluded)
    assert ranks(found) == [1, 3, 5]
    assert excluded == {"near duplicates of a positive": 2, "too close to the positive's score": 0}


def test_what_was_left_out_is_counted_by_reason_and_once():
    excluded = Counter()
    likeness = [1, 0, 0, 0, 0, 0, 0]
    choose(ranking_of(SCORES, likeness), 0.8, relative_margin=1.0, excluded=excluded, last_rank=6)
    assert excluded == {"near duplicates of a positive": 1, "too close to the positive's score": 2}


def test_a_draw_depends_on_seed_and_row_alone():
    ranking = ranking_of(np.linspace(0.9, 0.1, 60))
    draws = {
        (seed, row): tuple(ranks(choose(ranking, count=5, sampling="random", seed=seed, row=row)))
        for seed in range(3)
        for row in range(20)
    }
    again = choose(ranking, count=5, sampling="random", seed=2, row=7)
    assert tuple(ranks(again)) == draws[2, 7]
    assert len(set(draws.values())) == 60
    assert all(list(drawn) == sorted(set(drawn)) and len(drawn) == 5 for drawn in draws.values())
    drawn = Counter(rank for found in draws.values() for rank in found)
    assert len(drawn) > 55  # of 60 ranks, nearly each came up in 300 draws


def test_a_draw_keeps_to_the_limits_that_hold_for_the_hardest():
    random = np.random.default_rng(0)
    for row in range(200):
        scores = np.sort(random.uniform(-1, 1, 40))[::-1]
        ranking = ranking_of(scores, random.uniform(0, 1, 40))
        rules = {
            "first_rank": int(random.integers(1, 20)),
            "last_rank": int(random.integers(20, 60)),
            "relative_margin": float(random.uniform(0.5, 1)),
            "absolute_margin": float(random.uniform(0, 0.5)),
            "near_duplicate": float(random.uniform(0.5, 1)),
        }
        positive = float(random.uniform(-0.5, 1))
        allowed = [
            rank
            for rank, (score, likeness) in enumerate(
                zip(scores, ranking.likeness, strict=True), start=1
            )
            if rules["first_rank"] <= rank <= rules["last_rank"]
            and likeness < rules["near_duplicate"]
            and score < positive - abs(positive) * (1 - rules["relative_margin"])
            and score < positive - rules["absolute_margin"]
        ]
        assert ranks(choose(ranking, positive, count=3, row=row, **rules)) == allowed[:3]
        drawn = ranks(choose(ranking, positive, count=3, row=row, sampling="random", **rules))
        assert set(drawn) <= set(allowed)
        assert len(drawn) == min(3, len(allowed))


def test_an_empty_ranking_has_no_negatives():
    assert choose(ranking_of([])) == []
    assert choose(ranking_of([]), sampling="random") == []


def test_scores_that_are_no_numbers_are_never_chosen():
    assert ranks(choose(ranking_of([np.nan, 0.5]), relative_margin=1.0)) == [2]


def test_rules_that_mean_nothing_are_refused_together():
    rules = SelectionRules(
        count=0,
        first_rank=5,
        last_rank=4,
        relative_margin=0.0,
        absolute_margin=-1.0,
        near_duplicate=2.0,
        sampling="guess",
    )
    with pytest.raises(RetrievalError) as caught:
        rules.check()
    assert len(caught.value.problems) == 6
    SelectionRules().check()
