"""What a run leaves for its report: two evaluations, one line, and settings that train again."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from transformers import TrainerState

from jina.data.multimodal_dataset import MultimodalDataset
from jina.retrieval.report_page.run_record import open_rows
from jina.training.run_evaluation import (
    RunEvaluation,
    resolved_yaml,
    write_run_record,
)
from jina.training.run_inputs import data_policy
from jina.training.training_config import load_config


@pytest.fixture
def config(tmp_path, rows, write_rows):
    """Settings of a run on the eight rows, some of them not the default."""
    settings = {
        "data": {"train": str(write_rows(rows)), "eval": str(write_rows(rows, "eval.jsonl"))},
        "loss": {"matryoshka_dims": [16, 64], "weights": {"kl": 0.0}},
        "training": {"output_dir": str(tmp_path / "out"), "adam_beta2": 0.95, "use_cpu": True},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    return load_config(file)


@pytest.fixture
def run(config, tmp_path):
    dataset = MultimodalDataset(
        config.data.eval_files, tasks=config.lora.tasks, policy=data_policy(config)
    )
    return RunEvaluation(config, dataset, tmp_path / "out")


def test_the_resolved_settings_are_the_runs_own(config, tmp_path):
    text = resolved_yaml(config)
    file = tmp_path / "again.yaml"
    file.write_text(text)
    assert load_config(file).model_dump() == config.model_dump()
    written = yaml.safe_load(text)
    assert written["loss"]["temperature"] == 0.02  # defaults stand there, too
    assert written["training"]["adam_beta2"] == 0.95
    assert "hub_token" not in text


def test_the_rows_are_found_again(run, tmp_path, monkeypatch):
    state = TrainerState()
    state.log_history = [{"step": 1, "contrastive_loss": 2.0}]
    write_run_record(run, state, {"Data": [("train", "8 rows")]})
    facts = json.loads((tmp_path / "out/run/facts.json").read_text())
    monkeypatch.chdir("/")
    again = open_rows(facts["rows"])
    assert np.array_equal(again.index.queries.identities, run.dataset.index.queries.identities)
    history = json.loads((tmp_path / "out/run/trainer_state.json").read_text())["log_history"]
    assert history == state.log_history


def test_before_and_after_are_measured_alike_and_the_tables_say_both(
    run, jina_model, fresh_model, caplog
):
    caplog.set_level("INFO", logger="smartembed")
    first = run.measure_before(jina_model)
    trained = fresh_model()
    for name, parameter in trained.named_parameters():
        if "lora_B.retrieval" in name:
            parameter.data += 0.05
    run.finish(trained, TrainerState(), {})
    sides = [
        json.loads((run.folder / f"eval/{name}/metrics.json").read_text())
        for name in ("before", "after")
    ]
    assert [r["judgements"] for r in sides[0]["results"]] == [
        r["judgements"] for r in sides[1]["results"]
    ]
    whole = next(r for r in sides[1]["results"] if (r["vectors"], r["size"]) == ("single", 64))
    before = next(r for r in sides[0]["results"] if (r["vectors"], r["size"]) == ("single", 64))
    old, new = (r["metrics"]["ndcg@10"]["value"] for r in (before, whole))
    change = whole["difference"]["ndcg@10"]
    assert old != new
    assert first[0] == "Held-out rows, before training"
    assert any(line.startswith(f"single-64   {old:.3f} [") for line in first)
    (table,) = [r.message for r in caplog.records if "Held-out rows, after training" in r.message]
    lines = table.splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("single-64 "))
    assert f" {new:.3f} [" in lines[place]
    assert f"  change    {change['value']:+.3f} [" in lines[place + 1]
    assert any(line.startswith("multi-16 ") for line in lines)
    assert (run.folder / "run/report.html").is_file()


def test_both_directions_are_measured_where_the_settings_ask_for_them(run, config):
    assert not run.settings.both
    asked = config.evaluation.model_copy(update={"direction": "both"})
    again = replace(run, config=config.model_copy(update={"evaluation": asked}))
    assert again.settings.both


def test_an_earlier_run_leaves_nothing_behind(run, jina_model):
    for name in ("eval/before", "eval/after", "run"):
        (run.folder / name).mkdir(parents=True)
        (run.folder / name / "old").touch()
    run.measure_before(jina_model)
    left = {str(file.relative_to(run.folder)) for file in run.folder.rglob("old")}
    assert not left
    assert (run.folder / "eval/before/metrics.json").is_file()


def test_a_report_that_fails_is_said_and_ends_nothing(run, jina_model, monkeypatch, caplog):
    run.measure_before(jina_model)
    (run.folder / "eval/before/metrics.json").write_text("{}")
    run.finish(jina_model, TrainerState(), {})
    assert "The model is saved, but its report isn't complete: " in caplog.text
    assert "is no complete evaluation" in caplog.text


def test_control_an_error_of_ours_is_not_hidden(run, jina_model, monkeypatch):
    run.measure_before(jina_model)
    broken = SimpleNamespace(config=None)
    with pytest.raises(AttributeError):
        run.finish(broken, TrainerState(), {})


def test_vectors_that_are_not_trained_are_not_measured(run, jina_model, config):
    weights = config.loss.weights.model_copy(update={"multi": 0.0})
    loss = config.loss.model_copy(update={"weights": weights})
    single = replace(run, config=config.model_copy(update={"loss": loss}))
    assert single.settings.vectors == ("single",)
    assert run.settings.vectors == ("single", "multi")
