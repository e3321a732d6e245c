"""The one writer and the one reader of checkpoints."""

import errno
import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch

from jina.models.checkpoint import ADAPTER_WEIGHTS, CheckpointError
from jina.training import checkpointing
from jina.training.checkpointing import (
    FILES,
    LOSS_STATE,
    MANIFEST,
    OPTIMIZER,
    RANDOM,
    STATE,
    TRAINER_STATE,
    CheckpointFolder,
    SaveError,
    complete_checkpoints,
    encode,
    open_checkpoint,
    saved_steps,
    size_of,
    write_file,
)

RUN = {"training.seed": 1}


def contents(step):
    return {
        ADAPTER_WEIGHTS: {"a": torch.full((40,), float(step)), "b": torch.ones(3, 2)},
        LOSS_STATE: {},
        OPTIMIZER: {"a|exp_avg": torch.full((40,), step / 3)},
        RANDOM: {"torch": torch.arange(16, dtype=torch.uint8)[None]},
        STATE: {"data": {"epoch": 0, "updates_in_epoch": step}},
        TRAINER_STATE: {"global_step": step},
    }


@pytest.fixture
def folder(tmp_path):
    """A run's folder with the checkpoints of two steps."""
    for step in (1, 2):
        CheckpointFolder(tmp_path, limit=None).save(step, contents(step), RUN)
    return tmp_path


def newest(folder):
    return next(complete_checkpoints(folder), None)


# --- what is written -----------------------------------------------------------------------------


def test_a_checkpoint_has_exactly_its_files_and_says_what_run_it_is_of(folder):
    stored = open_checkpoint(folder / "checkpoint-2")
    assert (stored.step, stored.run) == (2, RUN)
    names = {str(f.relative_to(stored.path)) for f in stored.path.rglob("*") if f.is_file()}
    assert names == {*FILES, MANIFEST}
    assert not list(folder.glob(".*"))


def test_everything_is_flushed_before_the_rename_and_the_folder_after_it(tmp_path, monkeypatch):
    events = []
    flush, rename = checkpointing.flush_folder, Path.rename
    monkeypatch.setattr(checkpointing, "flush_folder", lambda f: (flush(f), events.append(f.name)))
    monkeypatch.setattr(
        Path, "rename", lambda old, new: (events.append("rename"), rename(old, new))[1]
    )

    def write(file, data):
        write_file(file, data)
        events.append(file.name)

    CheckpointFolder(tmp_path, limit=1, write=write).save(1, contents(1), RUN)
    written = [Path(name).name for name in (*FILES, MANIFEST)]
    assert events == [*written, "adapters", ".checkpoint-1.staged", "rename", tmp_path.name]


def test_tensors_of_one_memory_are_each_stored_whole(tmp_path):
    shared = torch.ones(4)
    assert encode("x.safetensors", {"a": shared, "b": shared[:2]})


def test_the_oldest_over_the_limit_go_and_the_best_stays(tmp_path):
    checkpoints = CheckpointFolder(tmp_path, limit=2)
    for step in range(1, 6):
        checkpoints.save(step, contents(step), RUN, best=min(step, 2))
    assert saved_steps(tmp_path) == [2, 4, 5]


def test_nothing_is_deleted_before_the_new_one_stands(folder, monkeypatch):
    seen = []
    retire = CheckpointFolder._retire
    monkeypatch.setattr(
        CheckpointFolder,
        "_retire",
        lambda self, step: (seen.append((step, newest(folder).step)), retire(self, step)),
    )
    CheckpointFolder(folder, limit=1).save(3, contents(3), RUN)
    assert seen == [(1, 3), (2, 3)]


def test_a_step_that_is_saved_already_is_left_alone_and_a_damaged_one_replaced(folder):
    before = (folder / "checkpoint-2" / MANIFEST).stat().st_mtime_ns
    checkpoints = CheckpointFolder(folder, limit=None)
    checkpoints.save(2, contents(2), RUN)
    assert (folder / "checkpoint-2" / MANIFEST).stat().st_mtime_ns == before
    (folder / "checkpoint-2" / STATE).write_text("{}")
    checkpoints.save(2, contents(2), RUN)
    assert newest(folder).step == 2


def test_too_little_space_is_said_before_anything_is_written(folder, monkeypatch):
    usage = shutil.disk_usage(folder)._replace(free=size_of(contents(3)))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    writes = []
    checkpoints = CheckpointFolder(folder, limit=1, write=lambda *a: writes.append(a))
    with pytest.raises(SaveError, match="no space for a checkpoint; got 0 MiB free of 1 needed"):
        checkpoints.save(3, contents(3), RUN)
    assert not writes
    assert saved_steps(folder) == [1, 2]


# --- a disk that fails ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "cuts"), [(errno.ENOSPC, 25), (errno.EIO, 3), (errno.EACCES, 1), (errno.EROFS, 1)]
)
def test_a_disk_that_fails_anywhere_in_a_save_leaves_the_checkpoints_before_it(folder, code, cuts):
    """In so many places, from the first byte to the last."""
    whole = []
    scratch = folder / "scratch"
    scratch.mkdir()
    CheckpointFolder(
        scratch, limit=1, write=lambda f, d: (write_file(f, d), whole.append(len(d)))
    ).save(3, contents(3), RUN)
    shutil.rmtree(scratch)
    survived = 0
    for cut in range(cuts):
        room = [sum(whole) * cut // cuts]

        def write(file, data, room=room):
            file.write_bytes(data[: room[0]])
            room[0] -= len(data)
            if room[0] < 0:
                raise OSError(code, os.strerror(code))

        with pytest.raises(SaveError, match="checkpoint-3: cannot be written; got .Errno"):
            CheckpointFolder(folder, limit=1, write=write).save(3, contents(3), RUN)
        assert not list(folder.glob(".*"))
        survived += newest(folder).step == 2
    assert survived == cuts
    CheckpointFolder(folder, limit=1).save(3, contents(3), RUN)  # there is room again
    assert saved_steps(folder) == [3]


def test_an_output_folder_that_has_vanished_is_not_made_anew(folder):
    checkpoints = CheckpointFolder(folder / "gone", limit=1)
    with pytest.raises(SaveError, match="No such file or directory"):
        checkpoints.save(1, contents(1), RUN)
    assert not (folder / "gone").exists()


def test_an_old_checkpoint_that_cannot_be_deleted_does_not_end_the_run(folder, monkeypatch, caplog):
    def refuse(path, *args, **kwargs):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpointing.shutil, "rmtree", refuse)
    CheckpointFolder(folder, limit=1).save(3, contents(3), RUN)
    assert newest(folder).step == 3
    assert "checkpoint-1: not deleted; got [Errno 13]" in caplog.text


# --- what is read --------------------------------------------------------------------------------


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def truncate(file):
    os.truncate(file, file.stat().st_size - 1)


def flip_last(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 128
    file.write_bytes(data)


def lengthen(file):
    file.write_bytes(file.read_bytes() + b"\n")


DAMAGES = [
    (damage, name)
    for damage in (flip, truncate, flip_last, lengthen)
    for name in (*FILES, MANIFEST)
]


@pytest.mark.parametrize(
    ("damage", "name"), DAMAGES, ids=[f"{damage.__name__} {name}" for damage, name in DAMAGES]
)
def test_a_damaged_file_is_named_and_the_checkpoint_before_it_used(folder, caplog, damage, name):
    damage(folder / "checkpoint-2" / name)
    with pytest.raises(CheckpointError, match=f"checkpoint-2/{name}: .*; not used"):
        open_checkpoint(folder / "checkpoint-2")
    with caplog.at_level(logging.WARNING, "smartembed"):
        assert newest(folder).step == 1
    assert f"checkpoint-2 is passed over: {folder / 'checkpoint-2' / name}:" in caplog.text


@pytest.mark.parametrize("name", [ADAPTER_WEIGHTS, OPTIMIZER, STATE, TRAINER_STATE, MANIFEST])
def test_a_file_of_another_step_is_not_taken_for_this_one(folder, name):
    shutil.copyfile(folder / "checkpoint-1" / name, folder / "checkpoint-2" / name)
    with pytest.raises(CheckpointError, match=f"checkpoint-2/{name}"):
        open_checkpoint(folder / "checkpoint-2")


def test_two_files_that_have_changed_places_are_found(folder):
    first, second = folder / "checkpoint-2" / LOSS_STATE, folder / "checkpoint-2" / RANDOM
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    with pytest.raises(CheckpointError):
        open_checkpoint(folder / "checkpoint-2")


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_found(folder, name):
    (folder / "checkpoint-2" / name).unlink()
    assert newest(folder).step == 1


@pytest.mark.parametrize("extra", ["optimizer.pt", "adapters/training_args.bin", "model.pkl"])
def test_a_file_that_is_not_of_a_checkpoint_is_refused(folder, extra):
    (folder / "checkpoint-2" / extra).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=f"checkpoint-2/{extra}: not of a checkpoint"):
        open_checkpoint(folder / "checkpoint-2")


def test_a_link_is_not_followed(folder):
    file = folder / "checkpoint-2" / STATE
    shutil.copyfile(file, folder / "elsewhere.json")
    file.unlink()
    file.symlink_to(folder / "elsewhere.json")
    assert newest(folder).step == 1


def test_control_undamaged_checkpoints_are_whole_and_the_newest_is_used(folder, caplog):
    (folder / "checkpoint-notes").mkdir()
    shutil.copytree(folder / "checkpoint-2", folder / "copy" / "checkpoint-2")
    assert [c.step for c in complete_checkpoints(folder)] == [2, 1]
    assert newest(folder / "copy").step == 2
    assert not caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"step": "2"},
        {"run": []},
        {"files": {}},
        {"files": {"../../../etc/passwd": {"bytes": 1, "sha256": ""}}},
        {"files": dict.fromkeys(FILES, {})},
    ],
)
def test_a_manifest_with_a_right_digest_must_still_be_one(folder, change):
    file = folder / "checkpoint-2" / MANIFEST
    manifest = {**json.loads(file.read_text())["manifest"], **change}
    file.write_bytes(checkpointing._manifest_bytes(manifest))
    assert newest(folder).step == 1


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "null", "[]", '{"manifest": 3}', "\xff"])
def test_a_manifest_that_is_no_manifest_is_passed_over(folder, text):
    (folder / "checkpoint-2" / MANIFEST).write_text(text, encoding="latin-1")
    assert newest(folder).step == 1
