"""`python -m jina validate`: exit codes, JSON, limits of a configuration, and no harm done."""

import json
import re
from pathlib import Path

import pytest
import yaml

from jina.__main__ import main
from jina.data.checking import row_check
from jina.training.data_report import check_data
from jina.training.training_config import ConfigError, load_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def validate(caplog):
    """Return a function that runs the command: exit code and what it said."""

    def run(*arguments):
        caplog.clear()
        return main(["validate", *map(str, arguments)]), caplog.text

    return run


@pytest.fixture
def config(tmp_path, rows, write_rows, tiny_folder):
    """Return a function that writes a configuration for the eight rows."""

    def write(**sections):
        data = {"train": str(write_rows(rows)), "eval": str(write_rows(rows[:2], "eval.jsonl"))}
        tree = {"model": {"base_model_path": str(tiny_folder)}, **sections}
        tree["data"] = data | sections.get("data", {})
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(tree))
        return file

    return write


@pytest.fixture
def bad_rows(rows, write_rows, tmp_path):
    """A file with a problem in the second and two in the third of eight rows."""
    (tmp_path / "torn.png").write_bytes((tmp_path / "red.png").read_bytes()[:60])
    rows[1] = {"query_image": "missing.png", "positive": "missing"}
    rows[2] = {"query": "no answer", "colour": "red"}
    rows[3] = {"query_image": "torn.png", "positive": "torn"}
    return write_rows(rows, "bad.jsonl")


def test_sound_files_exit_with_0(validate, rows, write_rows):
    code, said = validate(write_rows(rows))
    assert code == 0
    assert "No problem in 8 rows." in said
    for words in ("8 image → text", "8 (none)", "8 Latin script", "4 to 7"):
        assert words in said


def test_the_demo_says_what_data_readme_shows(monkeypatch):
    monkeypatch.chdir(ROOT)
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    command = "python -m jina validate data/demo/train.jsonl data/demo/eval.jsonl"
    shown = readme.split(f"`{command}` says:\n\n```\n")[1].split("\n```")[0]
    files = [Path(f"data/demo/{split}.jsonl") for split in ("train", "eval")]
    assert check_data(files).text == shown


def test_problems_exit_with_2_and_are_listed_with_their_place(validate, bad_rows):
    code, said = validate(bad_rows)
    assert code == 2
    assert f"{bad_rows}:2: query_image: missing.png: does not exist; got /" in said
    assert f"{bad_rows}:3: colour: is not a known field; got 'colour'" in said
    assert f"{bad_rows}:3: positive: is missing" in said
    assert "3 problems: 2 of 8 rows can't be used." in said
    code, said = validate(bad_rows, "--deep")
    assert code == 2
    assert f"{bad_rows}:4: query_image: torn.png: cannot be read as an image" in said
    assert "4 problems: 3 of 8 rows" in said


def test_the_json_holds_all_of_it(validate, bad_rows, tmp_path):
    out = tmp_path / "out.json"
    assert validate(bad_rows, "--json", out)[0] == 2
    found = json.loads(out.read_text(encoding="utf-8"))
    assert (found["rows"], found["accepted"], found["refused"]) == (8, 6, 2)
    assert [set(problem) for problem in found["problems"]] == [
        {"file", "line", "field", "problem", "value"}
    ] * 3
    assert found["problems"][1] == {
        "file": str(bad_rows),
        "line": 3,
        "field": "colour",
        "problem": "is not a known field",
        "value": "'colour'",
    }
    assert found["checked"] == "headers"
    assert found["shapes"] == {"image → text": 6}
    assert {"tasks", "sources", "languages", "texts", "images", "step"} < found.keys()


def test_a_place_for_the_json_is_tried_before_the_rows(validate, rows, write_rows, tmp_path):
    code, said = validate(write_rows(rows), "--json", "/no/such/folder/out.json")
    assert code == 2
    assert "--json: cannot be written; got " in said
    assert "8 rows" not in said
    kept = tmp_path / "kept.json"
    kept.write_text("as it was")
    for out in (kept, tmp_path / "new.json"):
        assert validate("none.jsonl", "--json", out)[0] == 2
    assert kept.read_text() == "as it was"
    assert not (tmp_path / "new.json").exists()


def test_the_report_is_printed_even_if_the_disk_is_full(validate, rows, write_rows):
    code, said = validate(write_rows(rows), "--json", "/dev/full")
    assert code == 2
    assert "No problem in 8 rows." in said
    assert "--json: cannot be written; got " in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to check"),
        (["none.jsonl"], "none.jsonl: is not a file; got nothing there; correct the path"),
        (["a.jsonl", "b.jsonl", "./a.jsonl"], "a file twice; got a.jsonl; name each once"),
        (["--config", "none.yaml"], "none.yaml"),
    ],
)
def test_what_cannot_be_read_exits_with_2(validate, arguments, words):
    code, said = validate(*arguments)
    assert code == 2
    assert words in said


def test_a_configuration_brings_its_files_its_task_and_its_tokenizer(validate, config):
    code, said = validate("--config", config())
    assert code == 0
    assert "Texts, in tokens with their prompt" in said
    assert "train and eval" in said
    assert "2 images and 2 texts in common, in 2 rows of eval" in said
    # 56 x 84 pixels are six tokens.
    assert "6 to 6, median 6" in said


def test_another_task_is_a_problem_only_for_a_run(validate, config, rows, write_rows):
    rows[1]["task"] = "code"
    file = write_rows(rows, "mixed.jsonl")
    assert validate(file)[0] == 0
    code, said = validate(file, "--config", config())
    assert code == 2
    assert "task: is not 'retrieval', which this run trains" in said
    assert validate(file, "--config", config(lora={"tasks": ["retrieval", "code"]}))[0] == 0


def test_a_text_without_room_beside_its_image_is_a_problem_only_for_a_run(
    validate, config, rows, write_rows
):
    rows[2]["query"] = "which colour?"
    file = write_rows(rows, "crowded.jsonl")
    assert validate(file)[0] == 0
    code, said = validate(file, "--config", config(data={"max_text_tokens": 16}))
    assert code == 2
    assert f"{file}:3: query_image: leaves the text beside it no room; got 6 vision tokens" in said
    assert "1 problem: 1 of 8 rows can't be used." in said
    assert validate(file, "--config", config(data={"max_text_tokens": 64}))[0] == 0
    rows[1], rows[3] = ({"query_image": "missing.png", "positive": "none"} for _ in range(2))
    _, said = validate(
        write_rows(rows, "more.jsonl"), "--config", config(data={"max_text_tokens": 16})
    )
    assert re.findall(r"more.jsonl:(\d): ", said) == ["2", "3", "4"]


def test_refused_rows_count_in_no_figure(config, rows, write_rows):
    limits = load_config(config(data={"max_text_tokens": 16}))
    crowded = [{**row, "query": "which colour?"} for row in rows[:3]]
    files = write_rows([*crowded, *rows[3:]], "a.jsonl"), write_rows(rows[3:], "b.jsonl")
    figures, alone = (check_data([file], config=limits).figures for file in files)
    assert (figures["accepted"], figures["refused"]) == (5, 3)
    assert figures["files"][0]["accepted"] == 5
    for part in ("shapes", "languages", "texts", "images", "step"):
        assert figures[part] == alone[part]


def test_a_step_is_estimated_on_the_rows_to_train_on(config, rows, write_rows):
    long_rows = [{"query": "word " * 50, "positive": str(n)} for n in range(8)]
    settings = load_config(config(data={"eval": str(write_rows(long_rows, "eval.jsonl"))}))
    step = check_data([], config=settings).figures["step"]
    alone = check_data(settings.data.train_files, config=settings).figures["step"]
    both = check_data([*settings.data.train_files, *settings.data.eval_files], config=settings)
    assert step["tokens"] == pytest.approx(alone["tokens"], rel=0.02)
    assert both.figures["step"]["tokens"] > 1.2 * step["tokens"]
    assert step["batch_size"] == 8
    assert "all there are, for a batch of 32" in step["assumptions"]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"task": "retrieval"}, "is only trained on for text-matching"),
        ({"positive": ["a", "b"]}, "rates one pair, and there are several positives"),
        ({"negative": ["a"]}, "rates one pair, and there are hard negatives"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_score_that_is_trained_on_rates_one_pair_of_texts_to_match(
    validate, config, write_rows, changes, wrong
):
    row = {"query": "a", "positive": "b", "task": "text-matching", "score": 1}
    of_run = ("--config", config(lora={"tasks": ["text-matching", "retrieval"]}))
    assert validate(write_rows([row], "right.jsonl"), *of_run)[0] == 0
    file = write_rows([{**row, **changes}], "wrong.jsonl")
    assert validate(file)[0] == 0  # good for evaluation, where a score is a relevance
    code, said = validate(file, *of_run)
    assert code == 2
    assert f"score: {wrong}; got 1" in said


def test_given_files_are_checked_instead_of_the_configured_ones(config, rows, write_rows):
    other = write_rows(rows[:3], "other.jsonl")
    report = check_data([other], config=load_config(config()))
    assert [file["file"] for file in report.figures["files"]] == [str(other)]
    assert report.figures["overlaps"] == []


def test_without_held_out_rows_nothing_is_in_common_with_them(config, rows, write_rows):
    path = config(data={"train": str(write_rows(rows)), "eval": None})
    report = check_data([], config=load_config(path))
    assert report.figures["overlaps"] == []
    assert check_data([], config=load_config(config())).figures["overlaps"]


def test_limits_are_the_configuration_s(config, rows, write_rows):
    rows[0]["positive"] = "red " * 40
    path = config(data={"train": str(write_rows(rows)), "max_text_tokens": 16, "image_size": 28})
    figures = check_data([], config=load_config(path)).figures
    assert (figures["texts"]["limit"], figures["texts"]["cut"]) == (16, 2)
    assert (figures["images"]["limit"], figures["images"]["maximum"]) == (1, 1)
    narrow = config(data={"min_pixels": 784, "max_pixels": 2 * 784})
    figures = check_data([], config=load_config(narrow)).figures
    assert (figures["images"]["limit"], figures["images"]["shrunk"]) == (2, 10)


def test_without_a_checkpoint_bytes_and_official_sizes_are_shown(config):
    path = config(model={"base_model_path": "/no/such/folder"})
    figures = check_data([], config=load_config(path)).figures
    assert figures["texts"]["unit"] == "bytes"
    assert figures["images"]["limit"] == 768
    assert "4 bytes of text a token" in figures["step"]["assumptions"][-1]
    with_checkpoint = check_data([], config=load_config(config())).figures
    assert with_checkpoint["texts"]["unit"] == "tokens"
    assert not any("official" in words for words in with_checkpoint["step"]["assumptions"])


def test_a_folder_that_is_no_checkpoint_is_refused(config, tmp_path):
    settings = load_config(config(model={"base_model_path": str(tmp_path)}))
    with pytest.raises(ConfigError, match="model.base_model_path: .*not a Jina Embeddings V4"):
        check_data([], config=settings)


def test_the_image_folder_on_the_command_line_counts(validate, rows, write_rows, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    file = write_rows(rows, "elsewhere/rows.jsonl")
    assert validate(file)[0] == 2
    assert validate(file, "--image-base-dir", tmp_path)[0] == 0


def test_nothing_is_written_or_decoded_unless_asked(
    validate, rows, write_rows, tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(row_check, "load_image", refuse)
    file = write_rows(rows)
    before = sorted(tmp_path.rglob("*"))
    assert validate(file)[0] == 0
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(AssertionError):
        validate(file, "--deep")
