"""The table at the end: what it shows, and that a terminal of 80 columns can."""

import numpy as np
import pytest

from jina.retrieval.evaluation_report import report_lines
from jina.retrieval.results import Result, Setup

RANKED = ("ndcg@10", "recall@1", "recall@10")


@pytest.fixture
def make():
    """Return a function that builds a result of twenty queries or pairs."""

    def result(size=2048, kind="ranking", names=RANKED, is_reversed=False):
        values = np.random.default_rng(size).random((20, len(names)))
        return Result(
            task="retrieval", name="text→text", is_reversed=is_reversed,
            setup=Setup("single", size), kind=kind, names=names, values=values,
            members=np.zeros((0, 2), int), ids=(), documents=1234, digest=str(size),
        )  # fmt: skip

    return result


class HalfBetter:
    """A baseline that knows the largest size only."""

    def knows(self, result):
        return result.setup.size == 2048

    def difference(self, result):
        return {
            name: figure._replace(value=0.5, low=-0.125, high=0.75)
            for name, figure in result.figures().items()
        }


class Worse(HalfBetter):
    """A baseline that was better, for which every number of a change has a sign."""

    def difference(self, result):
        return {
            name: figure._replace(value=-0.5, low=-0.75, high=-0.125)
            for name, figure in result.figures().items()
        }


def test_figures_of_a_loss_stand_apart(make):
    lines = report_lines([make()], [], Worse())
    assert lines[-2].split() == ["change", *["-0.500", "[-0.750,-0.125]"] * 3]
    assert max(map(len, lines)) <= 80


def test_setups_of_a_direction_stand_under_one_heading(make):
    lines = report_lines([make(), make(512), make(is_reversed=True)], [], None)
    assert [line for line in lines if "queries" in line] == [
        "retrieval: text→text, 20 queries, 1,234 documents",
        "retrieval: text→text (reversed), 20 queries, 1,234 documents",
    ]
    assert [line.split()[0] for line in lines if line.startswith("single")] == [
        "single-2048", "single-512", "single-2048",
    ]  # fmt: skip


def test_a_figure_stands_below_its_name_with_its_interval(make):
    result = make()
    heading, row = report_lines([result], [], None)[1:3]
    figure = result.figures()["recall@1"]
    expected = f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
    assert row.index(expected) == heading.index("recall@1 ")


def test_changes_stand_below_what_changed(make):
    lines = report_lines([make(), make(512)], [], HalfBetter())
    assert [line.split()[:2] for line in lines[2:5]][1] == ["change", "+0.500"]
    assert "+0.500 [-0.125, 0.750]" in lines[3]
    assert sum("change" in line for line in lines) == 1


def test_pairs_have_correlations(make):
    lines = report_lines([make(kind="correlation", names=("spearman", "pearson"))], [], None)
    assert lines[0] == "retrieval: text→text, 20 pairs, 1,234 documents"
    assert lines[1].split() == ["spearman", "pearson"]


def test_lines_fit_80_columns_and_problems_come_last(make):
    pairs = make(kind="correlation", names=("spearman", "pearson"))
    lines = report_lines([make(), pairs], ["queries are missing"], HalfBetter())
    assert all(len(line) <= 80 for line in lines)
    assert lines[-1] == "Note: queries are missing"
