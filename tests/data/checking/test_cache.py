"""`cached_scan`: nothing is checked twice, and nothing that has changed goes unnoticed."""

import io
import json
import os
import random
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jina.data.checking import cache, line_chunks
from jina.data.checking.cache import cached_scan
from jina.data.validation import DataError, scan


@pytest.fixture
def file(tmp_path):
    """A file of ten rows, of which the last two have problems."""
    for number in range(5):
        Image.new("RGB", (28, 28 + number)).save(tmp_path / f"{number}.png")
    rows = [{"query_image": f"{n % 5}.png", "positive": str(n), "source": "ab"[n % 2]}
            for n in range(8)]  # fmt: skip
    rows += [{"query_image": "missing.png", "positive": "a"}, {"query": "a"}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def check(file, tmp_path):
    """Return a function that checks the file, by way of a cache."""

    def run(**options):
        return cached_scan([file], folder=tmp_path / "cache", **{"deep": True, **options})

    return run


def stored(tmp_path):
    return sorted((tmp_path / "cache").iterdir())


def contents(found):
    columns = {name: column.tolist() for name, column in found.index.columns().items()}
    names = (found.index.source_names, found.index.language_names)
    place = (found.files, found.roots, found.rules, found.lines, found.digests)
    return (columns, names, found.problems, place, found.stamps)


def touch(path):
    """Make a file a second younger than it was."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def test_a_second_check_opens_no_image_parses_no_line_and_finds_the_same(check, checked, file):
    first = check()
    assert checked == Counter(load_image=6, parse_line=10)
    checked.clear()
    assert contents(check()) == contents(first) == contents(scan([file], deep=True))
    assert checked == Counter(load_image=6, parse_line=10)  # by the last scan, without a cache
    assert first.problems


def test_either_check_reads_the_file_once(check, tmp_path, monkeypatch):
    """The ends of its pieces are looked for before, through a buffer for each."""
    rows = ({"query": f"{n} " * 100, "positive": "a"} for n in range(4000))
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = Counter()

    class Watched(io.FileIO):
        def readinto(self, buffer):
            count = super().readinto(buffer)
            read[self.name] += count
            return count

    def open_watched(path, mode):
        assert mode == "rb"
        return io.BufferedReader(Watched(path))

    for time in ("first", "second"):
        with monkeypatch.context() as patch:
            patch.setattr(line_chunks.Path, "open", open_watched)
            found = scan([file], workers=0) if time == "first" else check(deep=False)
        assert read.pop(file) < 1.2 * file.stat().st_size
        check(deep=False)
    assert found.rows == 4000


@pytest.mark.parametrize("extra", [b'{"query": "a", "positive": "b"}\n', b"\n"])
def test_an_added_line_is_seen(check, file, extra):
    before = check()
    with file.open("ab") as stream:
        stream.write(extra)
    assert check().rows == before.rows + 1


def test_a_line_changed_in_place_is_seen_even_if_size_and_time_stay(check, file):
    check()
    status = file.stat()
    file.write_bytes(file.read_bytes().replace(b'"positive": "3"', b'"positive": "9"'))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert contents(check()) == contents(scan([file], deep=True))


def test_an_image_that_changed_went_or_came_is_seen(check, tmp_path, checked):
    check()
    for change in (
        lambda: touch(tmp_path / "0.png"),
        lambda: (tmp_path / "1.png").write_bytes(b"no image"),
        lambda: (tmp_path / "2.png").unlink(),
        lambda: Image.new("RGB", (9, 9)).save(tmp_path / "missing.png"),
    ):
        checked.clear()
        check()
        assert not checked
        change()
        found = check()
        assert checked["load_image"] == 6
    assert [problem.line for problem in found.problems] == [2, 3, 7, 8, 10]


def test_another_setting_or_folder_is_another_question(check, tmp_path, file, checked):
    check()
    (tmp_path / "other").mkdir()
    for options in ({"deep": False}, {"tasks": ["code"]}, {"image_base_dir": tmp_path / "other"}):
        checked.clear()
        refused = check(**options).refused
        assert checked["parse_line"] == 10
        assert check(**options).refused == refused
        assert checked["parse_line"] == 10
    assert len(stored(tmp_path)) == 4


def test_other_code_is_another_question(check, checked, monkeypatch):
    check()
    checked.clear()
    really_read = Path.read_bytes

    def other(path):
        return really_read(path) + (b"#" if path.name == "records.py" else b"")

    monkeypatch.setattr(Path, "read_bytes", other)
    check()
    assert checked["parse_line"] == 10


def test_without_a_folder_nothing_is_kept(file, tmp_path, checked):
    for _ in range(2):
        cached_scan([file], folder=None)
    assert checked["parse_line"] == 20
    assert not (tmp_path / "cache").exists()


def test_a_missing_file_is_refused_as_without_a_cache(check, file):
    check()
    file.unlink()
    with pytest.raises(DataError, match="is not a file"):
        check()


def test_a_full_disk_costs_only_the_next_check(check, monkeypatch, caplog):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert check().rows == 10
    assert "the next start will check again" in caplog.text


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_file_is_written_anew(check, tmp_path, checked, seed):
    first = contents(check())
    (file,) = stored(tmp_path)
    sound = file.read_bytes()
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    damaged = bytearray(sound)
    if seed % 3 == 0:
        damaged = damaged[: draw.randrange(len(sound))]
    elif seed % 3 == 1:
        damaged[draw.randrange(len(sound))] ^= 1 << draw.randrange(8)
    else:
        start = draw.randrange(len(sound))
        damaged[start : start + 50] = draw.randbytes(draw.randrange(1, 99))
    file.write_bytes(damaged)
    checked.clear()
    assert contents(check()) == first
    assert checked["parse_line"] == 10
    assert file.read_bytes() != damaged
    checked.clear()
    assert contents(check()) == first
    assert not checked


def forged(data, **changes):
    """Return a cache file with some of its arrays or figures replaced and its digest made good."""
    with np.load(io.BytesIO(data[:-16]), allow_pickle=False) as arrays:
        arrays = {name: arrays[name] for name in arrays.files}
    head = json.loads(arrays["head"].tobytes())
    for name, change in changes.items():
        target = head if name in head else arrays
        target[name.replace("__", ".")] = change(target.get(name.replace("__", ".")))
    arrays = {name: array for name, array in arrays.items() if array is not None}
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue() + cache._digest(buffer.getvalue())


FORGERIES = {
    "a pickle": {"checksums": lambda column: column.astype(object)},
    "a column less": {"tasks": lambda _: None},
    "a column more": {"more": lambda _: np.zeros(8)},
    "a column of another type": {"starts": lambda column: column.astype("f8")},
    "a short column": {"checksums": lambda column: column[:-1]},
    "a table": {"tasks": lambda column: column.reshape(2, -1)},
    "a file there is not": {"files": lambda column: column + 1},
    "a task there is not": {"tasks": lambda column: column + 3},
    "offsets that go back": {"positives__offsets": lambda column: column[::-1].copy()},
    "offsets beyond the end": {"positives__offsets": lambda column: column * 2},
    "items missing": {"queries__widths": lambda column: column[1:]},
    "another question": {"question": lambda _: "other"},
    "more files": {"digests": lambda digests: digests * 2},
    "no digest": {"digests": lambda _: ["zz"]},
    "stamps that are no stamps": {"stamps": lambda _: 5},
    "problems that are no problems": {"problems": lambda _: [[9, 1]]},
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_file_is_written_anew(check, tmp_path, checked, kind):
    first = contents(check())
    (file,) = stored(tmp_path)
    file.write_bytes(forged(file.read_bytes(), **FORGERIES[kind]))
    checked.clear()
    assert contents(check()) == first
    assert checked["parse_line"] == 10


def test_stamps_of_another_form_are_written_anew(check, tmp_path, checked):
    check()
    (file,) = stored(tmp_path)
    with np.load(io.BytesIO(file.read_bytes()[:-16]), allow_pickle=False) as arrays:
        arrays = {name: arrays[name] for name in arrays.files}
    head = json.loads(arrays["head"].tobytes())
    piece = zlib.compress(b'["no", "table"]')
    head["stamps"] = [[0, len(piece)]]
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    arrays["stamps"] = np.frombuffer(piece, np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    file.write_bytes(buffer.getvalue() + cache._digest(buffer.getvalue()))
    checked.clear()
    check()
    assert checked["parse_line"] == 10


def test_control_a_file_put_together_again_unchanged_is_used(check, tmp_path, checked):
    check()
    (file,) = stored(tmp_path)
    file.write_bytes(forged(file.read_bytes()))
    checked.clear()
    check()
    assert not checked
