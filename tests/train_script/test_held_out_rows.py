"""train.py with held-out rows: the report, and what a run notes."""

import json

from jina.__main__ import main as jina_command
from jina.retrieval.report_page.run_record import ReportError


def test_a_run_with_held_out_rows_ends_with_a_report(run, held_out, tmp_path):
    code, printed = run(*held_out, "--set", "evaluation.every_steps=2")
    assert code == 0
    assert [printed.count(f"held-out {step}/3") for step in range(4)] == [1, 0, 1, 1]
    start, end = map(printed.index, ("Held-out rows, before training", "Held-out rows, after"))
    assert printed.index("Settings that differ") < start  # what is measured is known by then
    assert "single-128 " in printed[start:end]
    assert "  change  " in printed[end:]
    out = tmp_path / "out"
    assert f"Report: {out / 'run/report.html'}" in printed
    before, after = (
        json.loads((out / f"eval/{name}/metrics.json").read_text()) for name in ("before", "after")
    )
    assert "difference" in after["results"][0]
    assert "difference" not in before["results"][0]
    first = json.loads((out / "run/trainer_state.json").read_text())["log_history"][0]
    assert first["step"] == 0  # the adapter goes on from the checkpoint's, so both are the base
    assert first["eval_ndcg@5"] == before["results"][0]["metrics"]["ndcg@5"]["value"]
    report = (out / "run/report.html").read_bytes()
    assert jina_command(["report", str(out), "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_bytes() == report


def test_what_a_run_notes_is_no_part_of_its_checkpoint(run, held_out, tmp_path):
    assert run(*held_out)[0] == 0
    again = ("--set", f"model.base_model_path={tmp_path / 'out'}", "--set", "data.eval=null")
    assert run(*again, "--set", f"training.output_dir={tmp_path / 'next'}")[0] == 0
    assert (tmp_path / "next/config.json").is_file()
    assert not (tmp_path / "next/run").exists()
    assert not list((tmp_path / "next").rglob("*.html"))


def test_without_held_out_rows_there_is_no_report(run, tmp_path):
    code, printed = run()
    assert code == 0
    assert "held-out" not in printed
    assert not (tmp_path / "out/run").exists()


def test_a_dry_run_measures_nothing(run, held_out, tmp_path):
    code, printed = run(*held_out, "--dry-run")
    assert code == 0
    assert "held-out" not in printed
    assert not (tmp_path / "out").exists()


def test_a_report_that_fails_leaves_the_saved_model_and_exit_code_0(
    run, held_out, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise ReportError("page: is broken; got nothing; mend it")

    monkeypatch.setattr("jina.training.run_evaluation.write_report", fail)
    code, printed = run(*held_out)
    assert code == 0
    assert "report isn't complete: page: is broken" in printed
    assert (tmp_path / "out/config.json").is_file()
