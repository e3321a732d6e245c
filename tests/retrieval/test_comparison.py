"""Two evaluations side by side, and folders that are none."""

import json

import numpy as np
import pytest

from jina.data.multimodal_dataset import MultimodalDataset
from jina.retrieval.comparison import Comparison
from jina.retrieval.evaluation_files import complete_folder, require_new, write_results
from jina.retrieval.evaluation_plan import EvaluationError, EvaluationSettings, plan_evaluation
from jina.retrieval.intervals import interval
from jina.retrieval.ranking_metrics import METRICS
from jina.retrieval.results import Result, Setup

SETUP = Setup("single", 8)


@pytest.fixture
def dataset(write_rows):
    rows = [{"query": f"q{i}", "positive": f"p{i}"} for i in range(40)]
    return MultimodalDataset(write_rows(rows))


@pytest.fixture
def plan(dataset):
    return plan_evaluation(dataset, EvaluationSettings())[0]


@pytest.fixture
def measured(plan):
    """Return a function that gives the rows' direction metrics from a seed."""

    def make(seed, shift=0.0):
        values = np.random.default_rng(seed).random((40, len(METRICS))) + shift
        return Result.of_ranking(plan[0].directions[0], SETUP, values)

    return make


@pytest.fixture
def write(tmp_path, dataset):
    """Return a function that writes results as an evaluation does."""

    def make(result):
        folder = tmp_path / "before"
        folder.mkdir()
        write_results(folder, [result], dataset.index, about={}, problems=[], comparison=None)
        return folder

    return make


def test_a_written_evaluation_is_read_back(measured, write):
    result = measured(1)
    read = Comparison.read(write(result))
    assert read.knows(result)
    assert np.array_equal(read.values[result.key], result.values)


def test_the_difference_is_paired(measured, write):
    before, after = measured(1), measured(1, shift=0.125)
    change = Comparison.read(write(before)).difference(after)["ndcg@5"]
    assert change.value == pytest.approx(0.125)
    assert change.high - change.low < 1e-9
    figure = after.figures()["ndcg@5"]
    assert figure.high - figure.low > 0.1  # each of the two alone is far less sure


def test_the_interval_of_a_difference_is_that_of_each_querys_difference(measured, write):
    before, after = measured(1), measured(2)
    change = Comparison.read(write(before)).difference(after)
    differences = after.values - before.values
    low, high = interval(40, lambda drawn: differences[drawn].mean(axis=0))
    for place, name in enumerate(METRICS):
        assert change[name] == pytest.approx(
            (differences[:, place].mean(), low[place], high[place])
        )


def test_queries_without_an_answer_in_one_of_them_are_left_out(measured, write):
    before, after = measured(1), measured(2)
    before.values[:10] = np.nan
    change = Comparison.read(write(before)).difference(after)
    assert change["map"].value == pytest.approx((after.values - before.values)[10:, -1].mean())


def test_the_same_rows_are_accepted_and_others_refused(measured, write, plan, write_rows):
    read = Comparison.read(write(measured(1)))
    read.require_same_rows(plan)
    rows = [{"query": f"q{i}", "positive": f"p{i}"} for i in range(41)]
    other, _ = plan_evaluation(
        MultimodalDataset(write_rows(rows, "other.jsonl")), EvaluationSettings()
    )
    with pytest.raises(EvaluationError, match="--baseline: measured other rows; got retrieval"):
        read.require_same_rows(other)


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"results": [{"task": 1}]}'])
def test_a_folder_without_a_complete_evaluation_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "metrics.json").write_text(text)
        (tmp_path / "per_query.jsonl").write_text("")
    with pytest.raises(EvaluationError, match="--baseline: is no complete evaluation"):
        Comparison.read(tmp_path)


def test_metrics_are_json_without_nan(measured, write):
    result = measured(1)
    result.values[0] = np.nan
    folder = write(result)

    def refuse(word):
        pytest.fail(f"{word} is no JSON")

    figures = json.loads((folder / "metrics.json").read_text(), parse_constant=refuse)
    assert figures["results"][0]["queries"] == 39
    first = json.loads((folder / "per_query.jsonl").read_text().splitlines()[0])
    assert set(first["figures"].values()) == {None}


class TestFolder:
    def test_it_gets_its_name_when_all_is_written(self, tmp_path):
        with complete_folder(tmp_path / "out", is_first=True) as folder:
            (folder / "a").write_text("a")
            assert not (tmp_path / "out").exists()
        assert (tmp_path / "out" / "a").read_text() == "a"
        assert not folder.exists()

    def test_nothing_is_left_after_an_error(self, tmp_path):
        with pytest.raises(ZeroDivisionError), complete_folder(tmp_path / "o", is_first=True) as f:
            (f / "a").write_text("a")
            raise ZeroDivisionError
        assert not list(tmp_path.iterdir())

    def test_what_a_killed_run_left_is_replaced(self, tmp_path):
        (tmp_path / "out.partial").mkdir()
        (tmp_path / "out.partial" / "run.trec").write_text("old")
        with complete_folder(tmp_path / "out", is_first=True):
            pass
        assert not list((tmp_path / "out").iterdir())

    def test_other_processes_write_nothing(self, tmp_path):
        with complete_folder(tmp_path / "out", is_first=False):
            pass
        assert not list(tmp_path.iterdir())

    def test_a_folder_in_use_or_a_file_is_refused(self, tmp_path):
        (tmp_path / "file").write_text("")
        for taken in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(EvaluationError, match="--output: "):
                require_new(taken)
        require_new(tmp_path / "new" / "folder")
