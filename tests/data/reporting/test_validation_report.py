"""Figures that are plain JSON, and a report that can be read."""

import json

import pytest
from PIL import Image

from jina.data.item_lengths import Measures
from jina.data.reporting.validation_figures import validation_figures
from jina.data.reporting.validation_report import LINE_WIDTH, printable, render, verdict
from jina.data.validation import scan

MEASURES = Measures(
    vision_tokens=lambda width, height: width * height // 784,
    max_vision_tokens=768,
    min_pixels=3136,
    max_pixels=602_112,
    max_text_tokens=8192,
    text_tokens=None,
    origin="a test",
)


@pytest.fixture
def report_of(tmp_path):
    """Return a function that gives figures and report of some files, each a list of rows."""
    Image.new("RGB", (56, 56)).save(tmp_path / "a.png")

    def check(**files):
        paths = []
        for name, rows in files.items():
            paths.append(tmp_path / f"{name}.jsonl")
            paths[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = scan(paths)
        groups = {name: [number] for number, name in enumerate(files)}
        figures = validation_figures(found, MEASURES, groups)
        return figures, render(figures, [str(problem) for problem in found.problems])

    return check


def test_the_figures_are_plain_json_that_survives_writing(report_of):
    rows = [{"query_image": "a.png", "positive": str(n), "negative": "x"} for n in range(5)]
    figures, _ = report_of(train=rows, eval=[*rows[:1], {"query": "a"}])
    assert json.loads(json.dumps(figures)) == figures
    assert (figures["rows"], figures["accepted"], figures["refused"]) == (7, 6, 1)
    (problem,) = figures["problems"]
    assert set(problem) == {"file", "line", "field", "problem", "value"}
    assert figures["duplicates"] | {"examples": 0} == {"rows": 2, "contents": 1, "examples": 0}
    (overlap,) = figures["overlaps"]
    assert (overlap["between"], overlap["images"], overlap["rows"]) == (["train", "eval"], 1, 1)
    where = figures["duplicates"]["examples"][0]
    assert [place.rsplit("/")[-1] for place in where] == ["train.jsonl:1", "eval.jsonl:1"]


def test_fifty_problems_are_shown_and_the_rest_counted(report_of):
    figures, report = report_of(a=[{"query": str(number)} for number in range(60)])
    assert len(figures["problems"]) == 60
    assert report.count(": positive: is missing; got ['query']; give") == 50
    assert "… and 10 more" in report
    assert report.endswith(
        "60 problems: 60 of 60 rows can't be used. Correct them, or leave them out."
    )


def test_a_clean_report_ends_with_a_good_word_and_shows_no_problems(report_of):
    rows = [{"query_image": "a.png", "positive": "b"}]
    _, report = report_of(a=rows)
    assert report.endswith("No problem in 1 row.")
    assert report_of(a=rows, b=rows)[1].endswith("No problem in 2 rows.")
    assert "Problems" not in report


def test_every_line_but_problems_fits_a_terminal(report_of):
    rows = [{"query": "a b", "positive": f"p{n}", "source": f"source {n}" * 4} for n in range(40)]
    _, report = report_of(a=rows, a_file_with_quite_a_long_name=rows)
    assert max(len(line) for line in report.splitlines() if "jsonl" not in line) <= LINE_WIDTH
    assert "28 more" in report
    assert "█ " in report


def test_of_many_files_only_pairs_with_something_in_common_are_shown(report_of):
    files = {f"file_{n}": [{"query": f"q{n}", "positive": f"p{n % 4}"}] for n in range(5)}
    figures, report = report_of(**files)
    assert len(figures["overlaps"]) == 10
    assert "file_0 and file_4" in report
    assert "file_0 and file_1" not in report
    _, few = report_of(**dict(list(files.items())[:2]))
    assert "file_0 and file_1" in few


def test_names_from_files_cannot_move_the_cursor(report_of):
    assert printable("\x1b[2Jname") == "'\\x1b[2Jname'"
    assert printable("a name") == "a name"
    assert len(printable("x" * 999)) == 60
    _, report = report_of(a=[{"query": "a", "positive": "b", "source": "\x1b[2J"}])
    assert "\x1b" not in report


def test_one_problem_is_one_problem():
    figures = {"rows": 1000, "refused": 1, "problems": [0]}
    assert verdict(figures).startswith("1 problem: 1 of 1,000 rows can't be used.")


def test_a_problem_of_no_row_is_no_row_s():
    assert verdict({"rows": 0, "refused": 0, "problems": [0]}) == "1 problem. Correct it."
