"""`scan`: every problem in its place, the same from any number of processes, in little memory."""

import json
import os
import random
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jina.data import validation
from jina.data.checking import line_chunks, row_check, workers
from jina.data.checking.row_check import unusable
from jina.data.image_loading import ImageError, load_image, pixel_identity
from jina.data.records import RecordError, read_samples
from jina.data.row_index import as_number, item_identity
from jina.data.validation import DataError, Problem, read_row, scan
from tests.data.test_hostile_images import HOSTILE_PATHS

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["cat", "кот", "猫", "dog", "tree", "sofa", "a\u2028b"]


@pytest.fixture
def folder(tmp_path):
    """A folder with images, sound and not, and a secret beside it."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    for number in range(6):
        pixels = np.random.default_rng(number % 5).integers(0, 256, (6, 9, 3), np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
    (root / "images" / "torn.png").write_bytes((root / "images/0.png").read_bytes()[:60])
    (tmp_path / "secret.png").write_bytes(b"secret")
    return root


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 2 KiB, so that few rows make many."""
    monkeypatch.setattr(line_chunks, "CHUNK_BYTES", 2048)


def random_line(draw):
    """Return a line, in one of three cases a bad one."""
    images = [f"images/{number}.png" for number in range(6)]
    row = {"query": draw.choice(WORDS), "positive": draw.choices(WORDS, k=draw.randrange(1, 4))}
    if draw.random() < 0.5:
        row["query_image"] = draw.choice(images)
    if draw.random() < 0.5:
        row["negative_image"] = draw.choices(images, k=draw.randrange(4))
    if draw.random() < 0.5:
        row["source"] = draw.choice("abc")
    if draw.random() < 0.2:
        row["task"] = draw.choice(["retrieval", "code"])
    if draw.random() < 0.1:
        row["score"] = 1
    bad = draw.random()
    if bad < 0.1:
        row["negative_image"] = draw.choices(["images/torn.png", "none.png", *images], k=3)
    elif bad < 0.2:
        row["query_image"] = draw.choice(["../secret.png", "http://127.0.0.1/a.png", "images"])
    elif bad < 0.25:
        row["postive"] = row.pop("positive")
    elif bad < 0.3:
        return draw.choice(["", "{", "[]", "null", '{"query": "a"}', '{"query": NaN}'])
    return json.dumps(row, ensure_ascii=False)


def random_file(folder, seed, count=120):
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    file = folder / f"{seed}.jsonl"
    text = "\n".join(random_line(draw) for _ in range(count))
    file.write_text(text + "\n" * draw.randrange(2), encoding="utf-8")
    return file


def write_rows(file, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def contents(found):
    """Return all that a scan found, in comparable form."""
    columns = {name: column.tolist() for name, column in found.index.columns().items()}
    names = (found.index.source_names, found.index.language_names)
    stamps = [(number, json.loads(zlib.decompress(piece))) for number, piece in found.stamps]
    return (columns, names, found.problems, found.lines, found.digests, stamps)


def slow_reference(file, tasks):
    """Return the accepted lines, their identities and all problems, checked one by one."""
    accepted, problems = [], []
    for sample in read_samples(file):
        if isinstance(sample, RecordError):
            problems += sample.problems
            continue
        texts = [f"{f.field}: {f.what}; got {f.got}; {f.remedy}" for f in unusable(sample, tasks)]
        identities = []
        for name, item in row_check.named_items(sample):
            pixels = b""
            try:
                if item.image is not None:
                    pixels = pixel_identity(load_image(item.image, root=file.parent))
            except ImageError as error:
                texts.append(f"{name}: {error}")
            identities.append(as_number(item_identity(item.text, pixels)))
        problems += [f"{sample.where}: {text}" for text in texts]
        if not texts:
            accepted.append((sample.line, identities, sample.source))
    return accepted, problems


def listed(found):
    """Return the accepted rows of a scan as `slow_reference` does."""
    index = found.index
    rows = []
    for row in range(len(index)):
        identities = [index.query_identities[row]]
        for side in (index.positives, index.negatives):
            identities += side.identities[side.offsets[row] : side.offsets[row + 1]].tolist()
        source = index.source_names[index.sources[row]]
        rows.append((index.lines[row], identities, None if source == "(none)" else source))
    return rows


class TestFindings:
    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize("tasks", [(), ("retrieval",), ("code", "retrieval")], ids=str)
    def test_it_finds_what_a_slow_check_of_each_row_finds(self, folder, small_chunks, seed, tasks):
        file = random_file(folder, seed)
        found = scan([file], deep=True, tasks=tasks, workers=0)
        accepted, problems = slow_reference(file, tasks)
        assert listed(found) == accepted
        assert [str(problem) for problem in found.problems] == problems
        assert len(found.digests) == 1
        assert found.rows == found.refused + len(accepted) == 120
        assert accepted
        assert problems

    def test_a_problem_says_where_what_and_what_to_do(self, folder):
        image = {"query": "a", "positive_image": ["images/0.png", "images/torn.png"]}
        file = write_rows(folder / "a.jsonl", image, {"query": "a", "postive": "b"})
        found = scan([file], deep=True)
        torn, unknown, missing = found.problems
        assert str(torn).startswith(f"{file}:1: positive_image[1]: images/torn.png: cannot be read")
        assert unknown == Problem(
            str(file), 2, "postive", "is not a known field", "'postive'", 'did you mean "positive"?'
        )
        assert missing.as_dict() == {
            "file": str(file),
            "line": 2,
            "field": "positive",
            "problem": "is missing",
            "value": "['postive', 'query']",
        }

    def test_files_keep_their_order_and_lines_their_numbers(self, folder, small_chunks):
        files = [random_file(folder, seed, count) for seed, count in ((1, 90), (2, 5), (3, 60))]
        found = scan([*files, files[0]], workers=0)
        alone = [scan([file], workers=0) for file in files]
        assert found.lines == [90, 5, 60, 90]
        assert found.problems == sum((one.problems for one in (*alone, alone[0])), [])
        assert [found.where(row) for row in range(len(found.index))] == [
            one.where(row) for one in (*alone, alone[0]) for row in range(len(one.index))
        ]

    def test_an_empty_file_is_a_problem_of_the_file(self, folder):
        empty, sound = folder / "empty.jsonl", write_rows(folder / "b.jsonl", {"query": "a"})
        empty.touch()
        first = scan([empty, sound]).problems[0]
        assert str(first) == f"{empty}: is empty; got no rows; add some"
        assert first.line == 0

    def test_what_is_no_file_is_refused_before_anything_is_read(self, folder):
        os.mkfifo(folder / "fifo")
        with pytest.raises(DataError) as refusal:
            scan([folder / "none.jsonl", folder, folder / "fifo"])
        kinds = [problem.split("; ")[1] for problem in refusal.value.problems]
        assert kinds[0] == "got nothing there"
        assert [kind[:5] for kind in kinds[1:]] == ["got d", "got p"]
        with pytest.raises(DataError, match="is not a file"):
            scan([])

    def test_an_unknown_task_is_refused(self, folder):
        with pytest.raises(ValueError, match="tasks: unknown; got ..classification..; choose of"):
            scan([folder / "a.jsonl"], tasks=["classification"])

    def test_the_image_folder_is_that_of_the_file_unless_another_is_given(self, folder):
        (folder / "inner").mkdir()
        row = {"query_image": "images/0.png", "positive": "a"}
        file = write_rows(folder / "inner" / "a.jsonl", row)
        assert scan([file]).refused == 1
        assert scan([file], image_base_dir=folder).refused == 0

    def test_relative_files_and_folders_start_at_the_working_directory(self, folder, monkeypatch):
        random_file(folder, 1)
        monkeypatch.chdir(folder)
        whole = scan([folder / "1.jsonl"], workers=0)
        for image_base_dir in (None, "."):
            found = scan(["1.jsonl"], image_base_dir=image_base_dir, workers=1)
            assert found.index.columns()["lines"].tolist() == whole.index.lines.tolist()
            assert found.problems[0].file == "1.jsonl"

    def test_a_row_is_read_again_as_it_was(self, folder):
        file = random_file(folder, 4)
        found = scan([file])
        for row in range(len(found.index)):
            sample = read_row(found.files, found.index, row)
            assert sample.where == found.where(row)
        file.write_bytes(file.read_bytes().replace(b"a", b"b"))
        with pytest.raises(DataError, match="has changed since it was checked"):
            for row in range(len(found.index)):
                read_row(found.files, found.index, row)


class TestProcesses:
    @pytest.mark.parametrize("deep", [False, True])
    def test_any_number_of_processes_finds_the_same(self, folder, small_chunks, deep):
        files = [random_file(folder, seed) for seed in (11, 12)]
        alone = contents(scan(files, deep=deep, tasks=["retrieval"], workers=0))
        assert len(split_sizes(files)) > 10
        for count in (1, 2):
            found = scan(files, deep=deep, tasks=["retrieval"], workers=count)
            assert contents(found) == alone

    def test_control_another_file_or_folder_gives_something_else(self, folder):
        first, second = (contents(scan([random_file(folder, seed)])) for seed in (11, 12))
        assert first != second
        file = random_file(folder, 11)
        assert contents(scan([file], image_base_dir=folder / "images")) != first

    def test_a_small_file_is_checked_in_this_process(self, folder, monkeypatch):
        def refuse(*_, **__):
            raise AssertionError("a process was started")

        monkeypatch.setattr(workers.subprocess, "Popen", refuse)
        scan([random_file(folder, 1)], deep=True)
        with pytest.raises(AssertionError):
            scan([random_file(folder, 1)], workers=1)

    def test_a_large_file_is_checked_by_as_many_processes_as_there_are_cores(
        self, folder, small_chunks, monkeypatch
    ):
        started = []
        monkeypatch.setattr(validation.os, "cpu_count", lambda: 3)
        monkeypatch.setattr(
            validation, "check_in_processes", lambda *_, count: started.append(count) or iter(())
        )
        file = random_file(folder, 1, count=400)
        with pytest.raises(ValueError, match="zip"):
            scan([file])
        assert started == [3]

    def test_a_process_that_dies_is_told_with_its_place(self, folder, small_chunks, monkeypatch):
        command = [sys.executable, "-c", "import sys; sys.stdin.readline(); sys.exit(7)"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started = []

        def start(_):
            started.append(subprocess.Popen(command, **pipes))
            return started[-1]

        monkeypatch.setattr(workers, "_start", start)
        file = random_file(folder, 1)
        message = rf"{file}: the process that checked bytes \d+ to \d+ ended; got exit status"
        with pytest.raises(DataError, match=message):
            scan([file], workers=2)
        assert all(process.poll() is not None for process in started)

    def test_no_process_is_left_behind(self, folder, small_chunks, monkeypatch):
        started = []
        really_start = workers._start
        monkeypatch.setattr(
            workers, "_start", lambda rules: started.append(really_start(rules)) or started[-1]
        )
        scan([random_file(folder, 1)], workers=2)
        assert len(started) == 2
        assert all(process.poll() is not None for process in started)

    def test_a_worker_imports_neither_torch_nor_a_module_of_the_working_directory(
        self, folder, monkeypatch
    ):
        for name in ("numpy", "json", "jina"):
            (folder / f"{name}.py").write_text("raise SystemExit('imported by mistake')")
        monkeypatch.chdir(folder)
        assert scan([random_file(folder, 1)], workers=1).rows == 120
        code = "import sys, jina.data.checking.workers; print('torch' in sys.modules)"
        output = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
        )
        assert output.stdout == "False\n"


class TestImages:
    def test_headers_and_pixels_agree_on_sound_files(self, folder):
        rows = [
            {"query_image": f"images/{number % 6}.png", "positive": str(number)}
            for number in range(50)
        ]
        file = write_rows(folder / "a.jsonl", *rows)
        quick, deep = (scan([file], deep=deep) for deep in (False, True))
        assert quick.problems == deep.problems == []
        for name, column in quick.index.columns().items():
            if not name.endswith((".identities", ".images", ".image_tails")):
                assert column.tolist() == deep.index.columns()[name].tolist(), name
        # Two files show one picture: only decoding tells.
        assert deep.distinct_images == 5
        assert quick.distinct_images == 5
        (folder / "images" / "5.png").unlink()
        Image.open(folder / "images" / "0.png").save(folder / "images" / "5.png", compress_level=1)
        quick, deep = (scan([file], deep=deep) for deep in (False, True))
        assert (deep.distinct_images, quick.distinct_images) == (5, 6)

    def test_control_only_decoding_finds_a_damaged_body(self, folder):
        data = bytearray((folder / "images" / "0.png").read_bytes())
        data[60] ^= 255
        (folder / "images" / "0.png").write_bytes(data)
        file = write_rows(folder / "a.jsonl", {"query_image": "images/0.png", "positive": "a"})
        assert scan([file]).problems == []
        assert "cannot be read as an image" in scan([file], deep=True).problems[0].what

    @pytest.mark.parametrize(("deep", "opener"), [(True, "load_image"), (False, "read_header")])
    def test_an_image_of_many_rows_is_opened_once(self, folder, monkeypatch, deep, opener):
        opened = Counter()
        really_open = getattr(row_check, opener)

        def counting(source, *, root):
            opened[source] += 1
            return really_open(source, root=root)

        monkeypatch.setattr(row_check, opener, counting)
        names = [f"images/{number % 6}.png" for number in range(60)]
        rows = [{"query_image": name, "positive_image": name} for name in names]
        scan([write_rows(folder / "a.jsonl", *rows)], deep=deep)
        assert opened == Counter({f"images/{number}.png": 1 for number in range(6)})

    def test_an_image_is_opened_again_rather_than_remembered_for_ever(self, folder, monkeypatch):
        monkeypatch.setattr(row_check, "IMAGES_REMEMBERED", 2)
        names = [f"images/{number % 6}.png" for number in range(12)]
        rows = [{"query_image": name, "positive": "a"} for name in names]
        file = write_rows(folder / "a.jsonl", *rows)
        assert scan([file], deep=True).distinct_images == 5

    def test_two_scans_share_no_memory_of_images(self, folder):
        file = write_rows(folder / "a.jsonl", {"query_image": "images/0.png", "positive": "a"})
        assert scan([file]).refused == 0
        (folder / "images" / "0.png").unlink()
        assert scan([file]).refused == 1

    def test_no_file_out_of_the_folder_is_opened_for_any_hostile_path(self, folder, monkeypatch):
        opened = []
        really_open = Path.open

        def watch(path, *arguments, **options):
            opened.append(path)
            return really_open(path, *arguments, **options)

        monkeypatch.setattr(Path, "open", watch)
        monkeypatch.setattr(row_check, "IMAGES_REMEMBERED", 0)
        paths = [path for path in HOSTILE_PATHS if "\ud800" not in path]
        rows = [{"query_image": path, "positive": "a"} for path in paths]
        file = write_rows(folder / "a.jsonl", *rows)
        for deep in (False, True):
            found = scan([file], deep=deep)
            assert found.refused == len(paths) > 60
            assert {problem.field for problem in found.problems} == {"query_image"}
        assert set(opened) == {file, file.absolute()}

    def test_the_same_name_below_two_folders_is_two_images(self, folder):
        other = folder / "other"
        (other / "images").mkdir(parents=True)
        Image.new("RGB", (30, 40)).save(other / "images" / "0.png")
        row = {"query_image": "images/0.png", "positive": "a"}
        files = [write_rows(folder / "a.jsonl", row), write_rows(other / "b.jsonl", row)]
        assert scan(files).index.queries.widths.tolist() == [9, 30]


def split_sizes(files):
    return [chunk for file in files for chunk in line_chunks.split_file(file)]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_memory_hardly_grows_with_the_number_of_rows(workers):
    command = [sys.executable, "-m", "benchmarks.validate_rows", "--workers", str(workers)]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    figures = json.loads(output.stdout)
    assert figures["rows"] == 100_000
    assert figures["peak_growth_mib"] < 40  # 25 measured, for 90,000 rows more
