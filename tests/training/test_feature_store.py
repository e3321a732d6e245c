"""`DiskStore`: what was put there comes back, or nothing does, whoever wrote and whatever broke."""

import errno
import os
import subprocess
import sys

import pytest
import torch

from jina.training import feature_store
from jina.training.feature_store import RECORD_BYTES, DiskStore, MemoryStore

WIDTH = 8
NAMES = [bytes([number]) * 16 for number in range(6)]


def features_of(number):
    generator = torch.Generator().manual_seed(number)
    return torch.randn(number + 1, WIDTH, generator=generator).half()


def filled(folder, numbers):
    store = DiskStore(folder, WIDTH)
    for number in numbers:
        store.put(NAMES[number], features_of(number))
    return store


def opened(folder):
    store = DiskStore(folder, WIDTH)
    return store, set(store.refresh())


def is_there(store, number):
    found = store.get(NAMES[number], number + 1)
    return found is not None and torch.equal(found, features_of(number))


@pytest.mark.parametrize("make", [lambda folder: MemoryStore(WIDTH), lambda f: DiskStore(f, WIDTH)])
def test_what_was_put_comes_back_bit_by_bit(make, tmp_path):
    store = make(tmp_path / "new" / "folder")
    batch = torch.cat([features_of(n) for n in range(6)])
    for number, part in enumerate(batch.split([n + 1 for n in range(6)])):
        store.put(NAMES[number], part)
    batch.zero_()
    assert all(is_there(store, number) for number in range(6))
    assert store.nbytes == 21 * WIDTH * 2
    assert store.get(NAMES[2], 99) is None  # as many tokens as nobody put there
    assert store.get(b"x" * 16, 1) is None


def test_the_next_run_finds_all_of_it_without_reading_it_into_memory(tmp_path):
    filled(tmp_path, range(6))
    store, names = opened(tmp_path)
    assert names == set(NAMES)
    assert all(is_there(store, number) for number in range(6))
    assert store.nbytes == 21 * WIDTH * 2
    assert len(store._mapped) == 1  # one map of the one file


def test_several_processes_fill_one_folder_and_learn_from_each_other(tmp_path):
    first, second = DiskStore(tmp_path, WIDTH), DiskStore(tmp_path, WIDTH)
    first.put(NAMES[0], features_of(0))
    second.put(NAMES[1], features_of(1))
    assert set(second.refresh()) == {NAMES[0]}
    assert second.refresh() == []
    first.put(NAMES[2], features_of(2))
    assert second.refresh() == [NAMES[2]]
    assert all(is_there(second, number) for number in range(3))


@pytest.mark.slow
def test_processes_that_write_at_once_lose_nothing(tmp_path):
    program = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from jina.training.feature_store import DiskStore\n"
        "store, own = DiskStore(Path(sys.argv[1]), 8), int(sys.argv[2])\n"
        "for n in range(200):\n"
        "    store.put(bytes([own, n]) * 8, torch.full((3, 8), own * 1000 + n).half())\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(own)])  # noqa: S603
        for own in (1, 2)
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    store, names = opened(tmp_path)
    assert len(names) == 400
    for own in (1, 2):
        for n in range(200):
            expected = torch.full((3, 8), own * 1000 + n).half()
            assert torch.equal(store.get(bytes([own, n]) * 8, 3), expected)


@pytest.mark.parametrize("left", [0, 1, RECORD_BYTES - 1])
def test_a_record_that_a_killed_process_left_half_done_is_not_there(tmp_path, left):
    filled(tmp_path, range(3))
    (file,) = tmp_path.glob("*.index")
    os.truncate(file, 2 * RECORD_BYTES + left)
    store, names = opened(tmp_path)
    assert names == set(NAMES[:2])
    store.put(NAMES[2], features_of(2))  # the next run goes on where that one stopped
    assert all(is_there(store, number) for number in range(3))
    assert opened(tmp_path)[1] == set(NAMES[:3])


def test_features_without_a_record_are_not_there(tmp_path):
    filled(tmp_path, range(2))
    (file,) = tmp_path.glob("*.features")
    with file.open("ab") as stream:
        stream.write(b"half of an ima")
    store, names = opened(tmp_path)
    assert names == set(NAMES[:2])
    assert all(is_there(store, number) for number in range(2))


@pytest.mark.parametrize("byte", range(0, 3 * WIDTH * 2, 7))
def test_any_flipped_byte_of_features_is_noticed_said_and_made_good(tmp_path, caplog, byte):
    filled(tmp_path, [0, 1, 2])
    (file,) = tmp_path.glob("*.features")
    data = bytearray(file.read_bytes())
    data[byte] ^= 1
    file.write_bytes(data)
    bad = 0 if byte < WIDTH * 2 else 1
    store, _ = opened(tmp_path)
    found = [is_there(store, number) for number in range(3)]
    assert found == [number != bad for number in range(3)]
    assert store.get(NAMES[bad], bad + 1) is None
    assert caplog.text.count("features of an image are damaged") == 1
    store.put(NAMES[bad], features_of(bad))
    assert is_there(store, bad)
    assert is_there(opened(tmp_path)[0], bad)  # and in the next run, beside the damaged ones


@pytest.mark.parametrize("byte", range(RECORD_BYTES, 2 * RECORD_BYTES))
def test_any_flipped_byte_of_a_record_loses_that_record_only(tmp_path, caplog, byte):
    filled(tmp_path, [0, 1, 2])
    (file,) = tmp_path.glob("*.index")
    data = bytearray(file.read_bytes())
    data[byte] ^= 128
    file.write_bytes(data)
    store, names = opened(tmp_path)
    assert names == {NAMES[0], NAMES[2]}
    assert "damaged records; got 1 in" in caplog.text
    assert [is_there(store, number) for number in range(3)] == [True, False, True]


@pytest.mark.parametrize("size", [0, 5, 40])
def test_a_file_of_features_cut_short_or_gone_is_like_a_damaged_one(tmp_path, size):
    filled(tmp_path, [0, 1, 2])
    (file,) = tmp_path.glob("*.features")
    os.truncate(file, size) if size else file.unlink()
    store, names = opened(tmp_path)
    assert len(names) == 3
    assert [is_there(store, number) for number in range(3)] == [size >= 16, False, False]


def test_a_full_disk_leaves_what_was_there_sound(tmp_path, monkeypatch):
    store = filled(tmp_path, [0])

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_store, "_write_all", fail)
    with pytest.raises(OSError, match="No space left"):
        store.put(NAMES[1], features_of(1))
    assert [is_there(store, number) for number in range(2)] == [True, False]
    assert opened(tmp_path)[1] == {NAMES[0]}
