"""`python -m jina evaluate` as a user runs it: files, table, baseline, refusals, processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval

from jina.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def evaluate(tmp_path, fixture_folder, rows, write_rows, caplog):
    """Return a function that evaluates the eight rows: exit code, what it said, its folder."""
    data = write_rows(rows)

    def run(*options, name="out", model=fixture_folder, files=(data,)):
        caplog.clear()
        folder = tmp_path / name
        words = ["--model", model, "--data", *files, "--output", folder, *options]
        return main(["evaluate", *map(str, words)]), caplog.text, folder

    return run


def read_run(file):
    run = {}
    for line in file.read_text().splitlines():
        query, _, document, _, score, _ = line.split()
        run.setdefault(query, {})[document] = float(score)
    return run


def read_qrels(file):
    qrels = {}
    for line in file.read_text().splitlines():
        query, _, document, grade = line.split()
        qrels.setdefault(query, {})[document] = int(grade)
    return qrels


def test_it_writes_metrics_runs_qrels_and_per_query_figures(evaluate):
    code, said, folder = evaluate("--dims", "32,16", "--direction", "both")
    assert code == 0
    directions = ("image-to-text", "text-to-image.reversed")
    setups = ("single-32", "single-16", "multi-16")
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        [
            *(f"run.retrieval.{d}.{setup}.trec" for d in directions for setup in setups),
            *(f"qrels.retrieval.{d}.trec" for d in directions),
            *("metrics.json", "per_query.jsonl", "items.jsonl"),
        ]
    )
    assert "retrieval: image→text, 8 queries, 8 documents" in said
    assert "retrieval: text→image (reversed), 8 queries, 8 documents" in said


def test_trec_eval_finds_the_same_figures_in_the_files(evaluate):
    _, _, folder = evaluate("--dims", "16", "--vectors", "single")
    qrels = read_qrels(folder / "qrels.retrieval.image-to-text.trec")
    run = read_run(folder / "run.retrieval.image-to-text.single-16.trec")
    measured = pytrec_eval.RelevanceEvaluator(qrels, {"map", "ndcg_cut.5"}).evaluate(run)
    (result,) = json.loads((folder / "metrics.json").read_text())["results"]
    for ours, theirs in (("map", "map"), ("ndcg@5", "ndcg_cut_5")):
        mean = np.mean([values[theirs] for values in measured.values()])
        assert result["metrics"][ours]["value"] == pytest.approx(mean, abs=1e-12)


def test_every_id_of_the_files_stands_for_a_line(evaluate):
    _, _, folder = evaluate()
    items = map(json.loads, (folder / "items.jsonl").read_text().splitlines())
    where = {item["id"]: item["where"] for item in items}
    for query, found in read_run(folder / "run.retrieval.image-to-text.multi-16.trec").items():
        assert where[query].endswith(": query")
        assert all(where[document].endswith(": positive[0]") for document in found)


def test_metrics_tell_slices_settings_and_problems(evaluate, rows, write_rows):
    rows[0]["source"] = "shop"
    code, said, folder = evaluate(files=[write_rows(rows, "sourced.jsonl")])
    figures = json.loads((folder / "metrics.json").read_text())
    slices = figures["results"][0]["slices"]
    assert {name: part["queries"] for name, part in slices["source"].items()} == {
        "shop": 1, "(none)": 7,
    }  # fmt: skip
    assert slices["language"]["Latin script"]["queries"] == 8
    assert figures["settings"]["tokens_per_batch"] is None
    assert figures["problems"][0].endswith("recall@10, recall@100 cannot fail with 8 documents")
    assert figures["problems"][0] in said


def test_a_baseline_gives_the_paired_difference(evaluate):
    _, _, before = evaluate("--dims", "16", name="before")
    code, said, after = evaluate("--dims", "32,16", "--baseline", before, name="after")
    assert code == 0
    assert "  change    +0.000 [0.000, 0.000]" in said
    results = json.loads((after / "metrics.json").read_text())["results"]
    has_difference = {f"{r['vectors']}-{r['size']}": "difference" in r for r in results}
    assert has_difference == {"single-32": False, "single-16": True, "multi-16": True}


class TestRefusals:
    def test_everything_wrong_is_told_before_the_model_is_loaded(
        self, evaluate, tmp_path, rows, write_rows, monkeypatch
    ):
        monkeypatch.setattr("jina.commands.evaluate.JinaEmbeddingsV4Model", None)
        rows[3]["query_image"] = "gone.png"
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "file").write_text("kept")
        code, said, _ = evaluate(
            "--dims", "7", "--baseline", tmp_path / "none", files=[write_rows(rows, "bad.jsonl")]
        )
        assert code == 2
        for words in (
            "dims: not known; got 7",
            "bad.jsonl:4: query_image: gone.png: does not exist",
            "--output: is not empty",
            "--baseline: is no complete evaluation",
        ):
            assert words in said
        assert (tmp_path / "out" / "file").read_text() == "kept"

    def test_a_folder_that_is_no_checkpoint_is_refused(self, evaluate, tmp_path):
        code, said, folder = evaluate(model=tmp_path)
        assert code == 2
        assert "not a Jina Embeddings V4 checkpoint" in said
        assert not folder.exists()

    @pytest.mark.parametrize("options", [("--dims", "8,x"), ("--depth", "0"), ("--task", "find")])
    def test_an_option_out_of_range_is_refused(self, evaluate, options):
        with pytest.raises(SystemExit, match="2"):
            evaluate(*options)


@pytest.mark.slow
def test_two_processes_write_the_same_rankings_to_the_byte(
    evaluate, tmp_path, fixture_folder, rows, write_rows
):
    options = ["--direction", "both", "--tokens-per-batch", "64", "--items-per-shard", "3"]
    _, _, alone = evaluate("--direction", "both")
    words = ["--model", fixture_folder, "--data", write_rows(rows), "--output", tmp_path / "two"]
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29672", "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "jina", "evaluate", *map(str, words), *options],
            env={**os.environ, **environment, "RANK": rank, "LOCAL_RANK": rank},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert "image→text" in said[0]
    assert not said[1]
    for file in alone.iterdir():
        if file.name != "metrics.json":
            assert (tmp_path / "two" / file.name).read_bytes() == file.read_bytes()
