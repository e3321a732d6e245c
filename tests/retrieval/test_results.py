"""Means, slices, intervals and correlations, against references and known cases."""

import numpy as np
import pytest
from scipy import stats

from jina.retrieval.correlations import correlations
from jina.retrieval.intervals import interval, mean_of
from jina.retrieval.results import Figure, Result, Setup


def result(values, *, members=None, kind="ranking", names=("a", "b"), documents=1000):
    values = np.array(values, float)
    members = np.stack([np.arange(len(values))] * 2, axis=1) if members is None else members
    return Result(
        task="retrieval",
        name="text→text",
        is_reversed=False,
        setup=Setup("single", 8),
        kind=kind,
        names=names,
        values=values,
        members=np.array(members),
        ids=tuple(map(str, range(len(values)))),
        documents=documents,
        digest="",
    )


class TestIntervals:
    def test_a_mean_lies_in_its_interval_of_the_width_that_theory_gives(self):
        values = np.random.default_rng(1).normal(3, 2, (400, 1))
        low, high = interval(400, mean_of(values))[:, 0]
        assert low < values.mean() < high
        assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)

    def test_the_same_queries_give_the_same_interval(self):
        values = np.random.default_rng(1).normal(size=(50, 2))
        assert np.array_equal(interval(50, mean_of(values)), interval(50, mean_of(values)))

    def test_95_percent_of_intervals_hold_the_truth(self):
        draw, held = np.random.default_rng(2), 0
        for _ in range(200):
            low, high = interval(60, mean_of(draw.normal(0, 1, (60, 1))), resamples=300)[:, 0]
            held += low <= 0 <= high
        assert 178 <= held <= 200

    def test_equal_values_have_no_width(self):
        assert interval(10, mean_of(np.full((10, 1), 0.25))).tolist() == [[0.25], [0.25]]

    def test_draws_without_a_figure_are_left_out(self):
        assert np.isnan(interval(5, lambda drawn: np.array([np.nan]))).all()


class TestCorrelations:
    @pytest.mark.parametrize("seed", range(5))
    def test_they_are_those_of_scipy_with_ties(self, seed):
        draw = np.random.default_rng(seed)
        left, right = draw.normal(size=40), draw.integers(0, 6, 40).astype(float)
        expected = [stats.spearmanr(left, right).statistic, stats.pearsonr(left, right).statistic]
        assert correlations(left, right) == pytest.approx(expected, abs=1e-12)

    def test_what_never_varies_correlates_with_nothing(self):
        assert np.isnan(correlations(np.ones(4), np.arange(4.0))).all()


class TestResult:
    def test_means_are_those_of_the_queries_with_an_answer(self):
        found = result([[1, 0], [np.nan, np.nan], [0.5, 1]])
        assert found.means() == {"a": 0.75, "b": 0.5}
        assert found.measured.tolist() == [0, 2]
        assert list(found.problems()) == [
            "retrieval text→text: 1 of 3 queries have no relevant document"
        ]

    def test_a_figure_has_its_interval(self):
        figure = result([[1, 0], [0, 0], [0.5, 0]]).figures()["a"]
        assert figure.value == 0.5
        assert 0 <= figure.low < 0.5 < figure.high <= 1

    def test_a_query_belongs_to_the_slice_of_every_row_it_stands_in(self, rows, write_rows):
        from jina.data.multimodal_dataset import MultimodalDataset

        rows[0]["source"], rows[1]["source"] = "shop", "web"
        rows[2]["metadata"] = {"lang": "de"}
        index = MultimodalDataset(write_rows(rows[:3])).index
        found = result([[1, 1], [0, 0]], members=[[0, 0], [0, 1], [1, 2]])
        slices = {by: {n: c.tolist() for n, c in some.items()} for by, some in
                  found.slices(index).items()}  # fmt: skip
        assert slices["source"] == {"shop": [0], "web": [0], "(none)": [1]}
        assert slices["language"] == {"Latin script": [0], "de": [1]}

    def test_a_recall_that_cannot_fail_is_told(self):
        found = result([[1, 1]], names=("recall@5", "recall@100"), documents=30)
        (problem,) = found.problems()
        assert problem == "retrieval text→text: recall@100 cannot fail with 30 documents"

    def test_a_figure_that_is_not_defined_is_null(self):
        assert Figure(float("nan"), 0.5, 1.0).as_dict() == {"value": None, "low": 0.5, "high": 1.0}
