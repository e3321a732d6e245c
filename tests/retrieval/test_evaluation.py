"""A whole evaluation against vectors, scores and metrics computed by other means."""

import numpy as np
import pytest
from scipy import stats

from jina.data.multimodal_dataset import MultimodalDataset
from jina.retrieval import retrieval_metrics
from jina.retrieval.evaluation import evaluate
from jina.retrieval.evaluation_plan import EvaluationError, EvaluationSettings, plan_evaluation
from jina.retrieval.judgements import item_id
from jina.retrieval.ranking import RankingError
from jina.retrieval.ranking_metrics import METRICS
from jina.retrieval.results import Setup
from jina.retrieval.retrieval_metrics import evaluate_retrieval

TEXT_MATCHING = {"task": "text-matching"}


@pytest.fixture
def dataset(rows, write_rows):
    """Pictures and captions, some of them with negatives, two of them shared."""
    rows[0]["positive"] = ["a red square", "something red", "a warm square"]
    rows[4]["positive"] = ["an orange square", "a warm square"]
    rows[1]["negative"] = ["a cold square", "grass", "a green circle"]
    return MultimodalDataset(write_rows(rows))


@pytest.fixture
def measure(jina_model, dataset, tmp_path):
    """Return a function that evaluates, in a new folder each time."""
    count = iter(range(1000))

    def run(own=dataset, model=jina_model, processes=None, watch=None, **settings):
        settings = EvaluationSettings(**settings)
        plan, _ = plan_evaluation(own, settings)
        folder = tmp_path / f"vectors{next(count)}"
        if processes is not None:
            folder = processes.exchange(folder)[0]
        return evaluate(
            model, own, plan, settings, scratch=folder, watch=watch, processes=processes
        )

    return run


@pytest.fixture
def collect():
    """Return a list and a function that notes in it all rankings it is shown."""
    seen = []

    def watch(direction, setup, queries, ranking):
        for query, places, scores in zip(queries, ranking.documents, ranking.scores, strict=True):
            found = [item_id(direction.documents[place]) for place in places if place >= 0]
            key = (direction.name, setup, item_id(direction.queries[query]))
            seen.append((*key, found, scores.tobytes()))

    return seen, watch


def vectors_by_hand(model, dataset, *, multi):
    """Each picture and each distinct text, embedded by the official methods."""
    samples = [dataset.sample(row) for row in range(len(dataset))]
    root = dataset.image_root(dataset.files[0])
    images = [root / sample.query.image for sample in samples]
    texts = sorted({i.text for s in samples for i in (*s.positives, *s.negatives)})
    options = {"task": "retrieval", "return_multivector": multi}
    asked = model.encode_image(images, **options)
    found = model.encode_text(texts, prompt_name="passage", **options)
    return samples, asked, dict(zip(texts, found, strict=True))


@pytest.mark.parametrize(("vectors", "size"), [("single", 64), ("single", 16), ("multi", 16)])
def test_metrics_are_those_of_brute_force(jina_model, dataset, measure, by_hand, vectors, size):
    (result,) = measure(vectors=(vectors,), sizes=(size,))
    assert result.setup == Setup(vectors, size)
    samples, asked, found = vectors_by_hand(jina_model, dataset, multi=vectors == "multi")
    expected = []
    for sample, query in zip(samples, asked, strict=True):
        if vectors == "multi":
            run = {text: float((query @ d.T).amax(1).sum()) for text, d in found.items()}
        else:
            cut = {text: d[:size] / d[:size].norm() for text, d in found.items()}
            run = {text: float(query[:size] / query[:size].norm() @ d) for text, d in cut.items()}
        expected.append(by_hand({item.text: 1 for item in sample.positives}, run))
    means = dict(zip(METRICS, np.mean(expected, axis=0), strict=True))
    assert result.means() == pytest.approx(means, abs=1e-9)
    assert result.documents == len(found)


@pytest.mark.parametrize(
    "settings",
    [
        {"tokens_per_batch": 1, "items_per_shard": 7},
        {"tokens_per_batch": 64, "items_per_shard": 1000},
        {"items_per_shard": 1},
    ],
)
def test_rankings_are_identical_whatever_the_portions(measure, collect, settings):
    seen, watch = collect
    both = {"vectors": ("single", "multi"), "both": True, "watch": watch}
    measure(**both)
    expected = sorted(seen)
    seen.clear()
    measure(**both, **settings)
    assert sorted(seen) == expected


def test_another_adapter_gives_other_rankings(measure, collect, rows, write_rows):
    seen, watch = collect
    for task in ("retrieval", "code"):
        own = [{**row, "task": task} for row in rows]
        measure(MultimodalDataset(write_rows(own)), watch=watch)
    half = len(seen) // 2
    assert [row[:3] for row in seen[:half]] == [row[:3] for row in seen[half:]]
    assert seen[:half] != seen[half:]


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_get_the_results_of_one(measure, in_processes, monkeypatch, count):
    monkeypatch.setattr("jina.retrieval.evaluation.QUERIES_PER_BLOCK", 3)
    settings = {"vectors": ("single", "multi"), "both": True, "items_per_shard": 4}
    expected = [result.values for result in measure(**settings)]
    for results in in_processes(count, lambda p: measure(processes=p, **settings)):
        assert all(map(np.array_equal, (r.values for r in results), expected))


def test_fewer_ranked_documents_lower_only_what_looks_deeper(measure):
    whole, short = (measure(sizes=(32,), depth=depth)[0].means() for depth in (1000, 1))
    assert short["ndcg@1"] == whole["ndcg@1"]
    assert short["recall@5"] < whole["recall@5"]


def test_a_model_that_gives_no_numbers_is_told_so(fresh_model, measure):
    model = fresh_model()
    model.model.language_model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(RankingError, match="not finite"):
        measure(model=model)


class TestGradedPairs:
    @pytest.fixture
    def graded(self, write_rows):
        asked = ["a", "a cat", "a cat on a sofa", "red", "a red square", "blue"]
        found = ["a dog", "green", "a sofa"]
        rows = [
            {"query": query, "positive": other, "score": (i * 7 + j * 3) % 6, **TEXT_MATCHING}
            for i, query in enumerate(asked)
            for j, other in enumerate(found)
        ]
        return MultimodalDataset(write_rows(rows))

    @pytest.mark.parametrize("vectors", ["single", "multi"])
    def test_correlations_are_those_of_scores_with_similarities(
        self, jina_model, measure, graded, vectors
    ):
        result = measure(graded, vectors=(vectors,))[0]
        samples = [graded.sample(row) for row in range(len(graded))]
        options = {"task": "text-matching", "return_multivector": vectors == "multi"}
        similarities = []
        for sample in samples:
            query, other = (
                jina_model.encode_text(text, **options)
                for text in (sample.query.text, sample.positives[0].text)
            )
            alike = (query @ other.T).amax(1).mean() if vectors == "multi" else query @ other
            similarities.append(float(alike))
        scores = [sample.score for sample in samples]
        assert result.kind == "correlation"
        assert result.means() == pytest.approx(
            {
                "spearman": stats.spearmanr(similarities, scores).statistic,
                "pearson": stats.pearsonr(similarities, scores).statistic,
            },
            abs=1e-5,
        )

    def test_equal_scores_are_told(self, measure, write_rows):
        row = {"query": "a", "score": 3, **TEXT_MATCHING}
        rows = [{**row, "positive": word} for word in ("x", "y", "z")]
        result = measure(MultimodalDataset(write_rows(rows)))[0]
        assert "all scores are equal" in next(iter(result.problems()))
        assert np.isnan(result.means()["spearman"])


class TestPlan:
    def test_rows_of_other_tasks_are_left_out_and_told(self, write_rows):
        rows = [{"query": "a", "positive": "x"}, {"query": "b", "positive": "y", "task": "code"}]
        dataset = MultimodalDataset(write_rows(rows))
        plan, problems = plan_evaluation(dataset, EvaluationSettings(task="code"))
        assert [part.task for part in plan] == ["code"]
        assert problems == ["task: 1 rows of retrieval are left out"]
        plan, problems = plan_evaluation(dataset, EvaluationSettings())
        assert ([part.task for part in plan], problems) == (["retrieval", "code"], [])

    def test_a_task_without_rows_is_an_error(self, dataset):
        with pytest.raises(EvaluationError, match="got no row of code"):
            plan_evaluation(dataset, EvaluationSettings(task="code"))

    def test_all_wrong_settings_are_told_at_once(self, jina_model):
        settings = EvaluationSettings(vectors=("double",), sizes=(7,), task="search", depth=0)
        with pytest.raises(EvaluationError) as error:
            settings.setups(jina_model.config)
        for words in (
            "vectors: not known; got double",
            "dims: not known; got 7",
            "task:",
            "depth:",
        ):
            assert words in str(error.value)


class TestTrainingMetrics:
    def test_they_are_the_means_at_full_size(self, jina_model, dataset, measure):
        found = evaluate_retrieval(jina_model, dataset, multi=True)
        single, multi = measure(
            vectors=("single", "multi"), sizes=(max(jina_model.config.matryoshka_dims),)
        )
        expected = single.means() | {f"multi_{name}": v for name, v in multi.means().items()}
        assert found == pytest.approx(expected)
        assert set(METRICS) < set(found)

    def test_without_multi_vectors_there_are_none(self, jina_model, dataset):
        assert set(evaluate_retrieval(jina_model, dataset)) == set(METRICS)

    def test_smaller_sizes_are_measured_when_asked_for(self, jina_model, dataset, measure):
        found = evaluate_retrieval(jina_model, dataset, sizes=(16,))
        (whole,), (small,) = measure(sizes=(64,)), measure(sizes=(16,))
        assert found == whole.means() | {f"dim16_{k}": v for k, v in small.means().items()}
        assert found["ndcg@5"] != found["dim16_ndcg@5"]

    def test_vectors_lie_where_they_are_told_to_and_not_for_long(
        self, jina_model, dataset, tmp_path, monkeypatch
    ):
        seen = []
        folder = tmp_path / "vectors"
        folder.mkdir()
        really = retrieval_metrics.evaluate

        def watching(*arguments, scratch, **options):
            seen.append(scratch)
            return really(*arguments, scratch=scratch, **options)

        monkeypatch.setattr(retrieval_metrics, "evaluate", watching)
        evaluate_retrieval(jina_model, dataset, folder=folder)
        assert seen[0].parent == folder
        assert not list(folder.iterdir())

    def test_directions_count_by_their_queries(self, jina_model, dataset, measure):
        found = evaluate_retrieval(jina_model, dataset, both=True)
        results = measure(both=True, sizes=(max(jina_model.config.matryoshka_dims),))
        values = np.concatenate([result.values for result in results])
        assert list(found.values()) == pytest.approx(values.mean(axis=0).tolist())
        assert len({len(result.values) for result in results}) == 2

    def test_a_data_set_for_training_does(self, jina_model, rows, write_rows):
        dataset = MultimodalDataset(write_rows(rows), tasks=("retrieval",))
        assert 0 <= evaluate_retrieval(jina_model, dataset)["ndcg@5"] <= 1

    def test_a_model_in_training_is_left_in_training(self, fresh_model, dataset):
        model = fresh_model()
        model.train_adapters("retrieval")
        model.train()
        before = {name: p.clone() for name, p in model.trained_parameters().items()}
        evaluate_retrieval(model, dataset)
        assert model.training
        after = model.trained_parameters()
        assert all(p.requires_grad and p.equal(before[name]) for name, p in after.items())
