"""A local checkpoint in mteb: its scores on our own rows are those of `python -m jina evaluate`."""

import json

import mteb
import numpy as np
import pytest
import torch
from datasets import Dataset, Image
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.types import PromptType

from jina.__main__ import main
from jina.export import mteb_model
from tests.export.conftest import ROWS

METRICS = {"ndcg@10": "ndcg_at_10", "recall@10": "recall_at_10", "map": "map_at_1000"}
LETTERS = {"text": "t", "image": "i", "text+image": "it"}


def demo_rows(count=40):
    """Return rows of the demo with pictures and captions that occur once."""
    rows, seen = [], set()
    for line in ROWS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        contents = {row["query_image"], row["positive"]}
        if not contents & seen:
            rows.append((str(ROWS.parent / row["query_image"]), row["positive"]))
            seen |= contents
    return rows[:count]


def rows_of(kind):
    """Return our rows of a direction, each side as `{"text": …, "image": …}`."""
    rows = demo_rows()
    return {
        "text→text": [({"text": f"a picture of {text}"}, {"text": text}) for _, text in rows],
        "image→text": [({"image": image}, {"text": text}) for image, text in rows],
        "text→image": [({"text": text}, {"image": image}) for image, text in rows],
        "text→text+image": [
            ({"text": text}, {"text": text[::-1], "image": image}) for image, text in rows
        ],
    }[kind]


def jsonl_row(query, positive):
    names = {"text": "", "image": "_image"}
    sides = (("query", query), ("positive", positive))
    return {f"{side}{names[part]}": v for side, item in sides for part, v in item.items()}


def task_of(kind, rows):
    """Return an in-memory retrieval task of mteb."""
    asked, found = kind.split("→")

    def table(prefix, items):
        columns = {"id": [f"{prefix}{i}" for i in range(len(items))]}
        columns |= {part: [item[part] for item in items] for part in items[0]}
        made = Dataset.from_dict(columns)
        return made.cast_column("image", Image()) if "image" in columns else made

    class OwnRows(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="OwnRows",
            description="rows of the demo",
            dataset={"path": "none", "revision": "none"},
            type="Retrieval" if kind == "text→text" else "Any2AnyRetrieval",
            category=f"{LETTERS[asked]}2{LETTERS[found]}",
            modalities=sorted({*asked.split("+"), *found.split("+")}),
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, *_, **__):
            self.data_loaded = True
            self.dataset = {
                "default": {
                    "test": {
                        "queries": table("q", [query for query, _ in rows]),
                        "corpus": table("d", [positive for _, positive in rows]),
                        "relevant_docs": {f"q{i}": {f"d{i}": 1} for i in range(len(rows))},
                        "top_ranked": None,
                    }
                }
            }

    return OwnRows()


def mteb_scores(model, kind, rows):
    results = mteb.evaluate(model, [task_of(kind, rows)], cache=None, show_progress_bar=False)
    return results.task_results[0].scores["test"][0]


@pytest.fixture
def evaluated(tmp_path, write_rows, fixture_folder):
    """Return a function that measures rows with `python -m jina evaluate`."""

    def measure(rows, vectors):
        file = write_rows([jsonl_row(*row) for row in rows])
        output = tmp_path / f"evaluated-{vectors}"
        words = ["evaluate", "--model", fixture_folder, "--data", file, "--output", output]
        words += ["--vectors", vectors, "--image-base-dir", ROWS.parent]
        assert main([str(word) for word in words]) == 0
        return json.loads((output / "metrics.json").read_text())["results"][0]

    return measure


@pytest.mark.parametrize("vectors", ["single", "multi"])
@pytest.mark.parametrize("kind", ["text→text", "image→text", "text→image", "text→text+image"])
def test_mtebs_scores_are_those_of_evaluate(evaluated, fixture_folder, kind, vectors):
    rows = rows_of(kind)
    ours = evaluated(rows, vectors)
    theirs = mteb_scores(mteb_model(fixture_folder, vectors=vectors, device="cpu"), kind, rows)
    assert ours["direction"] == kind
    for name, mteb_name in METRICS.items():
        rounded = round(ours["metrics"][name]["value"], 5)  # as mteb rounds
        assert theirs[mteb_name] == pytest.approx(rounded, abs=1e-6)


def test_another_adapter_has_other_scores(fixture_folder):
    rows = rows_of("text→text")
    scores = [
        mteb_scores(mteb_model(fixture_folder, task=task, device="cpu"), "text→text", rows)
        for task in ("retrieval", "code")
    ]
    assert scores[0]["ndcg_at_10"] != scores[1]["ndcg_at_10"]


def batches(**columns):
    """Return mteb's form of two batches."""
    return [{n: v[:2] for n, v in columns.items()}, {n: v[2:] for n, v in columns.items()}]


def test_documents_are_passages_and_all_else_queries(fixture_folder, jina_model):
    texts = ["one", "two and more", "three"]
    model = mteb_model(fixture_folder, device="cpu")
    for side, prompt in (
        (PromptType.document, "passage"),
        (PromptType.query, "query"),
        (None, "query"),
    ):
        got = model.encode(batches(text=texts), prompt_type=side)
        expected = jina_model.encode_text(texts, "retrieval", prompt_name=prompt, return_numpy=True)
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_an_empty_text_beside_an_image_is_none(fixture_folder, golden):
    images = [str(path) for path in golden.images[:3]]
    model = mteb_model(fixture_folder, device="cpu")
    alone = model.encode(batches(image=images))
    beside_nothing = model.encode(batches(image=images, text=["", "", ""]))
    beside_a_text = model.encode(batches(image=images, text=["", "", "a text"]))
    np.testing.assert_array_equal(alone, beside_nothing)
    assert np.abs(alone[2] - beside_a_text[2]).max() > 1e-3


def test_short_vectors_are_cut_and_of_length_1(fixture_folder, jina_model):
    texts = ["one", "two", "three"]
    got = mteb_model(fixture_folder, truncate_dim=16, device="cpu").encode(batches(text=texts))
    expected = jina_model.encode_text(texts, "retrieval", truncate_dim=16, return_numpy=True)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("vectors", ["single", "multi"])
def test_pairwise_scores_are_the_diagonal(fixture_folder, vectors):
    model = mteb_model(fixture_folder, vectors=vectors, device="cpu")
    queries = model.encode(batches(text=["one", "two words", "three"]))
    documents = model.encode(batches(text=["four words are here", "five", "six"]))
    scores = model.similarity(queries, documents)
    assert scores.shape == (3, 3)
    assert torch.equal(model.similarity_pairwise(queries, documents), scores.diagonal())


def test_results_of_other_weights_or_settings_are_never_taken_for_these(
    fixture_folder, fresh_model, tmp_path
):
    trained = fresh_model()
    trained.train_adapters("retrieval")
    with torch.no_grad():
        next(iter(trained.trained_parameters().values())).add_(0.01)
    trained.save_pretrained(tmp_path / fixture_folder.name)
    metas = [
        mteb_model(folder, device="cpu", **settings).mteb_model_meta
        for folder, settings in (
            (fixture_folder, {}),
            (fixture_folder, {"vectors": "multi"}),
            (fixture_folder, {"task": "code"}),
            (fixture_folder, {"max_pixels": 6272}),
            (tmp_path / fixture_folder.name, {}),
        )
    ]
    assert len({meta.name for meta in metas}) == 1
    assert len({meta.revision for meta in metas}) == len(metas)
    again = mteb_model(fixture_folder, device="cpu").mteb_model_meta
    assert again.revision == metas[0].revision


def test_fewer_pixels_give_fewer_vectors(fixture_folder, golden):
    images = {"image": [str(path) for path in golden.images[:3]]}
    sizes = [
        sum(len(v) for v in mteb_model(fixture_folder, vectors="multi", **o).encode([images]))
        for o in ({}, {"max_pixels": 3136})
    ]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"vectors": "sparse"}, "vectors: unknown; got 'sparse'; use single or multi"),
        ({"task": "poetry"}, "task: unknown; got 'poetry'"),
        ({"truncate_dim": 17}, "truncate_dim: can't cut single vectors so; got 17"),
        ({"truncate_dim": 16, "vectors": "multi"}, "truncate_dim: can't cut multi vectors so"),
    ],
)
def test_what_makes_no_sense_is_refused(fixture_folder, settings, said):
    with pytest.raises(ValueError, match=said):
        mteb_model(fixture_folder, device="cpu", **settings)


@pytest.mark.slow
def test_the_benchmarks_of_the_readme_exist():
    names = {benchmark.name for benchmark in mteb.get_benchmarks()}
    assert {"ViDoRe(v2)", "JinaVDR"} <= names
