"""`python -m jina export`: options, exit codes, the report."""

import json

import pytest

from jina.__main__ import main
from jina.commands import export as command
from jina.export.parity import KindFigures, ParityReport

REPORT = ParityReport(
    kinds=(KindFigures("query", "single", 4, 0.5, 0.75, True),),
    top10_overlap={"single": 1.0},
    maxsim_difference=None,
    minimum=0.4,
    maxsim_tolerance=None,
)


@pytest.fixture
def asked(monkeypatch):
    """The settings that `export` was called with."""
    found = []
    monkeypatch.setattr(command, "export", lambda settings: found.append(settings) or REPORT)
    return found


def run(*words):
    return main(["export", *map(str, words)])


def test_defaults_need_no_more_than_model_format_and_output(asked, tmp_path):
    assert run("--model", "base", "--format", "merged", "--output", tmp_path / "out") == 0
    (settings,) = asked
    assert (settings.task, settings.dtype, settings.limit) == ("retrieval", "auto", 16)
    assert not (settings.exact or settings.new_names or settings.allow_loss)
    assert settings.rows.is_file()
    assert settings.minimum is None


def test_each_option_reaches_the_export(asked, tmp_path):
    words = ["--exact", "--allow-loss", "--tensor-names", "new", "--task", "code"]
    words += ["--dtype", "bfloat16"]
    words += ["--parity-rows", tmp_path / "rows.jsonl", "--parity-items", 5, "--min-cosine", 0.9]
    run("--model", "base", "--format", "merged", "--output", "out", *words)
    (settings,) = asked
    assert settings.exact and settings.new_names and settings.allow_loss
    assert (settings.task, settings.dtype, settings.limit) == ("code", "bfloat16", 5)
    assert settings.minimum == 0.9
    assert settings.rows == tmp_path / "rows.jsonl"


def test_the_figures_are_written_as_json(asked, tmp_path):
    out = tmp_path / "parity.json"
    run("--model", "base", "--format", "merged", "--output", "out", "--json", out)
    stored = json.loads(out.read_text())
    assert stored["kinds"][0]["lowest"] == 0.5
    assert stored["losses"] == []


def test_what_can_not_be_exported_ends_with_2_and_says_why(tmp_path, caplog):
    (tmp_path / "mine").write_text("mine")
    assert run("--model", "base", "--format", "official", "--output", tmp_path) == 2
    assert "--output: holds something" in caplog.text
    assert run("--model", tmp_path, "--format", "official", "--output", tmp_path / "out") == 2
    assert "not a Jina Embeddings V4 checkpoint" in caplog.text
    assert not (tmp_path / "out").exists()
