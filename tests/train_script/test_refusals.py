"""train.py: the check before training, and what is refused."""

import pytest
from PIL import Image

from jina.__main__ import main as jina_command

# --- the check before training -------------------------------------------------------------------


def test_a_second_start_checks_nothing_again_until_something_changes(run, checked, tmp_path):
    assert run("--dry-run")[0] == 0
    assert checked == {"parse_line": 8, "load_image": 8}
    _, first = run("--dry-run")
    assert checked == {"parse_line": 8, "load_image": 8}
    Image.new("RGB", (56, 112), "red").save(tmp_path / "red.png")
    _, second = run("--dry-run")
    assert checked == {"parse_line": 16, "load_image": 16}
    assert "vision tokens per image                  6 to 6" in first
    assert "vision tokens per image                  6 to 8" in second


def test_headers_are_enough_where_the_user_says_so(run, checked):
    assert run("--dry-run", "--set", "data.check_images=headers")[0] == 0
    assert checked == {"parse_line": 8, "read_header": 8}


def test_bad_rows_are_skipped_within_the_budget_and_reported(run, rows, write_rows, tmp_path):
    rows.insert(3, {"query_image": "missing.png", "positive": "missing"})
    file = write_rows(rows)
    skipping = ("--set", "data.on_bad_sample=skip", "--set", "data.max_bad_fraction=0.12")
    for _ in range(2):  # checked, and from the cache
        code, printed = run(*skipping, "--overwrite")
        assert code == 0
        assert "train                                    8 rows, 8 distinct images" in printed
        assert "train, bad rows skipped                  1, see python -m jina validate" in printed
        assert f"{file}:4: query_image: missing.png: does not exist" in printed


def test_rows_whose_image_leaves_their_text_no_room_are_skipped_too(run, rows, write_rows):
    rows.insert(3, {"query_image": "missing.png", "positive": "missing"})
    rows.append({**rows[0], "query": "what colour is this?"})
    file = write_rows(rows)
    limits = ("--set", "data.max_text_tokens=16", "--set", "data.on_bad_sample=skip")
    code, printed = run(*limits, "--set", "data.max_bad_fraction=0.2", "--dry-run")
    assert code == 0
    assert "train                                    8 rows, 8 distinct images" in printed
    assert "train, bad rows skipped                  2, see python -m jina validate" in printed
    assert f"{file}:10: query_image: leaves the text beside it no room; got 6 vision" in printed
    code, printed = run(*limits, "--set", "data.max_bad_fraction=0.1", "--dry-run")
    assert code == 2
    assert "too many rows to skip; got 2 bad ones of 10" in printed


def test_bad_rows_over_the_budget_and_bad_files_are_refused(run, rows, write_rows, tmp_path):
    rows.insert(3, {"query_image": "missing.png", "positive": "missing"})
    file = write_rows(rows)
    code, printed = run("--set", "data.on_bad_sample=skip")
    assert code == 2
    assert (
        "data.max_bad_fraction: too many rows to skip; got 1 bad ones of 9, over 0.01 of all"
        in printed
    )
    assert f"{file}:4: query_image: missing.png: does not exist" in printed
    file.write_text("")
    code, printed = run("--set", "data.on_bad_sample=skip", "--set", "data.max_bad_fraction=0.9")
    assert code == 2
    assert f"{file}: is empty" in printed


def test_control_without_skip_one_bad_row_stops_the_run(run, rows, write_rows):
    rows.insert(3, {"query_image": "missing.png", "positive": "missing"})
    write_rows(rows)
    code, printed = run("--set", "data.max_bad_fraction=0.5")
    assert code == 2
    assert "train.jsonl:4: query_image: missing.png: does not exist" in printed
    assert "too many rows" not in printed


# --- what is refused -----------------------------------------------------------------------------


def test_every_bad_line_and_image_is_listed_before_anything_is_loaded(
    run, rows, write_rows, tmp_path
):
    (tmp_path / "torn.png").write_bytes((tmp_path / "red.png").read_bytes()[:40])
    rows[1] = {"query_image": "torn.png", "positive": "torn"}
    rows[3] = {"query": "no answer"}
    rows[5] = {"query_image": "missing.png", "positive": "missing"}
    file = write_rows(rows)
    code, printed = run("--set", "model.base_model_path=.")
    assert code == 2
    assert "not a Jina Embeddings V4 checkpoint" in printed
    assert [f"{file}:{line}:" in printed for line in range(1, 9)] == [
        False, True, False, True, False, True, False, False,
    ]  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_an_image_that_leaves_its_text_no_room_is_named_with_the_numbers(run, rows, write_rows):
    rows[2] = {**rows[2], "query": "what colour is this?"}
    write_rows(rows)
    assert run("--dry-run")[0] == 0
    write_rows([*rows, {"query": "no answer"}])
    code, printed = run("--set", "data.max_text_tokens=16")
    assert code == 2
    assert "train.jsonl:9: positive: is missing" in printed  # all of them at once
    assert "train.jsonl:3: query_image: leaves the text beside it no room; got 6 vision" in printed
    assert printed.count("no room") == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.base_model_path=null", "local_paths.yaml"),
        ("model.base_model_path=null", "make demo"),
        ("model.base_model_path=/no/such/folder", "make demo"),
        ("model.base_model_path=.", "not a Jina Embeddings V4 checkpoint"),
        ("model.base_model_path=.", "make demo"),
        ("training.learning_rat=1", "learning_rate"),
        ("training.per_device_train_batch_size=16", "fewer rows than training."),
        ("lora.tasks=[code]", "add it to lora.tasks or move the row"),
        ("data.source_temperature=2.0", "data.one_source_per_batch"),
    ],
)
def test_bad_settings_exit_with_2_and_say_what_to_do(run, override, words):
    code, printed = run("--set", override)
    assert code == 2
    assert words in printed


@pytest.mark.parametrize(
    ("word", "meant"), [("--dryrun", "--dry-run"), ("--conf", "--config"), ("--resmue", "--resume")]
)
def test_a_misspelt_option_is_told_the_right_one_and_exits_with_2(run, capsys, word, meant):
    with pytest.raises(SystemExit) as stop:
        run(word)
    assert stop.value.code == 2
    assert f"{word}: is unknown; got {word}; did you mean {meant}?" in capsys.readouterr().err


def test_help_fits_80_columns_and_explains_every_option(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        run("--help")
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(len(line) <= 80 for line in said.splitlines())
    assert "a setting in place of the file's" in said


def test_all_that_a_run_lacks_is_said_at_once(run, config):
    code, printed = run(
        "--resume",
        "--set", "model.base_model_path=/no/such/folder",
        "--set", "training.per_device_train_batch_size=16",
        "--set", f"data.eval={config}",
    )  # fmt: skip
    assert code == 2
    for words in ("no such folder", "fewer rows", "no checkpoint to go on from", f"{config}:1:"):
        assert words in printed


def test_a_diverging_run_exits_with_3_and_saves_nothing(run, tmp_path):
    code, printed = run("--set", "training.learning_rate=1e30", "--set", "training.max_grad_norm=0")
    assert code == 3
    assert "is not finite" in printed
    assert not (tmp_path / "out" / "config.json").exists()


def test_the_tiny_checkpoint_command_refuses_a_folder_in_use(tmp_path, caplog):
    assert jina_command(["tiny-checkpoint", "--output", str(tmp_path / "new")]) == 0
    assert jina_command(["tiny-checkpoint", "--output", str(tmp_path / "new")]) == 2
    assert "not empty" in caplog.text
