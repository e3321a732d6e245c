"""Where a run starts, by what is in its output folder and what the user says."""

import multiprocessing
import re

import pytest

from jina.models.checkpoint import ADAPTER_WEIGHTS
from jina.training.checkpointing import CheckpointFolder, saved_steps
from jina.training.output_folder import (
    MUST,
    NEVER,
    StartOptions,
    choose_start,
    held,
    prepare,
    start_refusals,
)
from jina.training.training_config import ConfigError
from tests.training.test_checkpointing import contents

RUN = {"training.seed": 1, "data.train": "ab", "code:models/a.py": "1", "processes": 1}


@pytest.fixture
def folder(tmp_path):
    """An unfinished run of two steps."""
    for step in (1, 2):
        CheckpointFolder(tmp_path, limit=None).save(step, contents(step), RUN)
    return tmp_path


def finish(folder):
    (folder / "adapters").mkdir()
    (folder / ADAPTER_WEIGHTS).write_bytes(b"")


def step_of(start):
    return None if start is None else start.step


def test_an_empty_folder_starts_from_the_base_model_and_an_unfinished_run_goes_on(folder, caplog):
    caplog.set_level("INFO", "smartembed")
    assert choose_start(folder / "empty", RUN, StartOptions()) is None
    assert step_of(choose_start(folder, RUN, StartOptions())) == 2
    assert caplog.messages == [f"Going on from {folder / 'checkpoint-2'}."]
    assert choose_start(folder, RUN, StartOptions(resume=NEVER)) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training.seed": 2}, "training.seed: was 1, is 2"),
        ({"data.train": "cd"}, "data.train: was ab, is cd"),
        ({"code:models/a.py": "2", "code:data/b.py": "3"}, "code: other modules: models/a.py, da"),
        ({"processes": 2}, "processes: was 1, is 2"),
        ({"torch": "9"}, "torch: was None, is 9"),
    ],
)
def test_a_changed_run_is_refused_by_name_and_goes_on_when_that_name_is_allowed(
    folder, caplog, change, words
):
    with pytest.raises(ConfigError, match=re.escape(words)) as refused:
        choose_start(folder, {**RUN, **change}, StartOptions())
    name = words.partition(":")[0]
    assert f"--allow-change {name}" in str(refused.value)
    assert "--resume never" in str(refused.value)
    start = choose_start(folder, {**RUN, **change}, StartOptions(allowed=(name,)))
    assert step_of(start) == 2
    assert f"changed since, as allowed: {words}" in caplog.text
    told = "batches, their order and dropout are no longer" in caplog.text
    assert told is ("processes" in change)
    with pytest.raises(ConfigError):
        choose_start(folder, {**RUN, **change}, StartOptions(allowed=("loss.symmetric",)))


def test_a_checkpoint_of_another_run_is_passed_over_for_one_of_this_run(folder, caplog):
    CheckpointFolder(folder, limit=None).save(3, contents(3), {**RUN, "training.seed": 7})
    assert step_of(choose_start(folder, RUN, StartOptions())) == 2
    assert "checkpoint-3 is passed over: training.seed: was 7, is 1" in caplog.text


def test_only_damaged_checkpoints_are_no_reason_to_start_over_in_silence(folder):
    for step in (1, 2):
        (folder / f"checkpoint-{step}" / "state.json").unlink()
    with pytest.raises(ConfigError, match="no checkpoint in it is complete"):
        choose_start(folder, RUN, StartOptions())
    assert choose_start(folder, RUN, StartOptions(resume=NEVER)) is None


def test_a_finished_model_is_not_replaced_unless_that_is_said(folder):
    finish(folder)
    for resume in ("auto", MUST, NEVER):
        [problem] = start_refusals(folder, StartOptions(resume=resume))
        assert "holds a finished model" in problem
        assert not list(start_refusals(folder, StartOptions(resume=resume, overwrite=True)))
    assert choose_start(folder, RUN, StartOptions(overwrite=True)) is None
    assert step_of(choose_start(folder, RUN, StartOptions(resume=MUST, overwrite=True))) == 2


def test_having_to_resume_without_a_checkpoint_and_unknown_names_are_refused(tmp_path):
    options = StartOptions(resume=MUST, allowed=("data.trian", "code"))
    first, second = start_refusals(tmp_path, options)
    assert "no checkpoint to go on from" in first
    assert "did you mean data.train?" in second


def test_starting_over_deletes_the_old_run_and_going_on_keeps_it(folder):
    finish(folder)
    (folder / ".checkpoint-9.staged").mkdir()
    prepare(folder, choose_start(folder, RUN, StartOptions(resume=MUST)))
    assert saved_steps(folder) == [1, 2]
    assert not (folder / ADAPTER_WEIGHTS).exists()
    assert not (folder / ".checkpoint-9.staged").exists()
    prepare(folder, None)
    assert saved_steps(folder) == []


def test_a_finished_model_that_is_replaced_takes_what_is_told_of_it_along(folder):
    finish(folder)
    for name in ("README.md", "eval/before/metrics.json", "eval/after/metrics.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("of the old one")
    prepare(folder, choose_start(folder, RUN, StartOptions(resume=MUST)))
    assert not (folder / "README.md").exists()
    assert not (folder / "eval/after").exists()
    assert (folder / "eval/before/metrics.json").exists()  # the base model is the same


def test_two_runs_never_share_a_folder_and_the_lock_ends_with_its_process(tmp_path):
    def try_it(pipe):
        try:
            with held(tmp_path):
                pipe.send("held")
        except ConfigError as error:
            pipe.send(str(error))

    def in_another_process():
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=try_it, args=(theirs,))
        process.start()
        process.join(30)
        return ours.recv()

    with held(tmp_path):
        assert "another run writes to it" in in_another_process()
    assert in_another_process() == "held"


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written to"), held(tmp_path / "file" / "out"):
        pass
