"""`python -m jina convert`: all or nothing, nothing twice, splits without leaks."""

import json
import os
import random
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from jina.__main__ import main
from jina.data.conversion import rows as conversion_rows
from jina.data.convert import READERS, Conversion, ConvertError, convert
from jina.data.image_loading import load_image, pixel_identity
from jina.data.multimodal_dataset import MultimodalDataset

COLOURS = ["red", "green", "blue", "black", "orange", "purple", "cyan", "yellow"]


@pytest.fixture
def source(tmp_path):
    """A table of eight pictures with their names."""
    lines = ["query_image,positive"]
    for colour in COLOURS:
        Image.new("RGB", (30, 30), colour).save(tmp_path / f"{colour}.png")
        lines.append(f"{colour}.png,a {colour} square")
    file = tmp_path / "table.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def run(source, **options):
    """Convert a table to `out.jsonl` beside it."""
    options = {"format": "csv", "output": source.with_name("out.jsonl"), **options}
    return convert(Conversion(source=source, **options))


def read(file):
    return [json.loads(line) for line in file.read_bytes().splitlines()]


class TestOutput:
    def test_training_takes_what_was_written(self, source):
        summary = run(source, split="train=0.75,eval=0.25")
        sizes = [len(MultimodalDataset(file, tasks=["retrieval"])) for file in summary.files]
        assert sizes == [6, 2]

    def test_existing_files_are_kept_unless_told_otherwise(self, source, tmp_path):
        (tmp_path / "out.jsonl").write_text("mine")
        with pytest.raises(ConvertError, match="--output: exists; got .*; add --overwrite"):
            run(source)
        assert (tmp_path / "out.jsonl").read_text() == "mine"
        run(source, overwrite=True)
        assert len(read(tmp_path / "out.jsonl")) == 8

    def test_every_file_of_a_split_is_kept_unless_told_otherwise(self, source, tmp_path):
        (tmp_path / "out.eval.jsonl").write_text("mine")
        with pytest.raises(ConvertError, match=r"exists; got .*out\.eval\.jsonl"):
            run(source, split="train=0.5,eval=0.5")
        assert not (tmp_path / "out.train.jsonl").exists()

    def test_a_folder_is_never_overwritten(self, source, tmp_path):
        (tmp_path / "out.jsonl").mkdir()
        with pytest.raises(ConvertError, match="exists"):
            run(source, overwrite=True)

    def test_the_source_is_never_overwritten(self, source, tmp_path):
        link = tmp_path / "link.jsonl"
        link.symlink_to(source)
        for output in (source, link):
            with pytest.raises(ConvertError, match="is the source"):
                run(source, output=output, overwrite=True)
        assert source.read_text().startswith("query_image")

    def test_missing_folders_are_made_and_unmade_when_all_was_for_nothing(self, source, tmp_path):
        output = tmp_path / "new/deep/out.jsonl"
        with pytest.raises(ConvertError, match="lies outside"):
            run(source, output=output)
        assert not (tmp_path / "new").exists()
        run(source, output=output, image_base_dir=tmp_path)
        assert len(read(output)) == 8

    def test_what_fails_at_the_last_moment_leaves_nothing(self, source, tmp_path, monkeypatch):
        before = sorted(tmp_path.iterdir())

        def full_disk(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full_disk)
        with pytest.raises(ConvertError, match="cannot be read or written; got 'No space left"):
            run(source, split="train=0.5,eval=0.5")
        assert sorted(tmp_path.iterdir()) == before

    def test_files_may_be_read_by_whom_the_system_says(self, source, tmp_path):
        run(source)
        plain = tmp_path / "plain"
        plain.touch()
        assert (tmp_path / "out.jsonl").stat().st_mode == plain.stat().st_mode

    @pytest.mark.slow
    def test_memory_does_not_grow_with_the_rows(self, tmp_path):
        def peak(count):
            file = tmp_path / f"{count}.csv"
            text = "x" * 500
            file.write_text("query,positive\n" + "".join(f"{n},{text}\n" for n in range(count)))
            tracemalloc.start()
            run(file, output=tmp_path / f"{count}.jsonl")
            _, highest = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            return highest

        peak(10)
        assert peak(6000) - peak(2000) < 4000 * 100

    @pytest.mark.parametrize("format_name", READERS)
    def test_a_source_of_the_wrong_kind_is_refused(self, tmp_path, format_name):
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        for name in ("gone", "file", "folder"):
            with pytest.raises(ConvertError) as refusal:
                run(tmp_path / name, format=format_name)
            assert "; got " in str(refusal.value)
            assert not (tmp_path / "out.jsonl").exists()

    def test_a_device_or_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for name in ("csv", "tsv", "jsonl", "coco", "parquet"):
            with pytest.raises(ConvertError, match="SRC: is not a file"):
                run(tmp_path / "pipe", format=name)


class TestSplit:
    @pytest.fixture
    def tangled(self, tmp_path):
        """120 rows of 40 pictures under 80 names, with 50 captions in two spellings."""
        generator = random.Random(3)  # noqa: S311
        for number in range(80):
            Image.new("RGB", (9, 9), (number % 40, 7, 9)).save(tmp_path / f"{number}.png")
        rows = []
        for number in range(120):
            caption = f"Caption  {generator.randrange(50)} é"
            if generator.random() < 0.5:
                caption = caption.upper().replace("  ", " ").replace("É", "E\u0301")
            picture = f"{generator.randrange(80)}.png"
            row = {"query_image": picture, "positive": caption, "negative": "common"}
            # Every third caption is the row's own, or chains of captions would tie all together.
            rows.append({**row, "positive": f"own {number}"} if number % 6 else row)
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    def contents(self, rows, folder):
        """What rows hold: pictures by their pixels, texts as a reader sees them."""
        pictures = {pixel_identity(load_image(row["query_image"], root=folder)) for row in rows}
        texts = {" ".join(row["positive"].casefold().split()) for row in rows}
        return pictures | {text.replace("e\u0301", "é") for text in texts}

    def test_nothing_is_in_two_splits(self, tangled, tmp_path):
        summary = run(tangled, format="jsonl", split="train=0.6,dev=0.2,eval=0.2")
        parts = [read(file) for file in summary.files]
        assert sum(map(len, parts)) == 120
        assert all(parts)
        seen = [self.contents(part, tmp_path) for part in parts]
        assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]

    def test_control_a_split_by_rows_leaks(self, tangled, tmp_path):
        rows = read(tangled)
        random.Random(0).shuffle(rows)  # noqa: S311
        train, held_out = (self.contents(part, tmp_path) for part in (rows[:72], rows[72:]))
        assert train & held_out

    def test_rows_keep_their_order_and_their_bytes(self, tangled):
        run(tangled, format="jsonl")
        whole = tangled.with_name("out.jsonl").read_bytes().splitlines()
        summary = run(tangled, format="jsonl", split="train=0.7,eval=0.3")
        parts = [file.read_bytes().splitlines() for file in summary.files]
        for part in parts:
            assert part == [line for line in whole if line in set(part)]
        assert sorted(line for part in parts for line in part) == sorted(whole)

    def test_the_seed_alone_decides_and_not_the_order_of_the_rows(self, tangled):
        def split(file, seed):
            options = {"split": "train=0.5,eval=0.5", "seed": seed, "overwrite": True}
            summary = run(file, format="jsonl", **options)
            return [sorted(file.read_bytes().splitlines()) for file in summary.files]

        first = split(tangled, 0)
        assert split(tangled, 0) == first
        assert split(tangled, 1) != first
        turned = tangled.with_name("turned.jsonl")
        turned.write_bytes(b"".join(reversed(tangled.read_bytes().splitlines(keepends=True))))
        assert split(turned, 0) == first

    @pytest.mark.parametrize("field", ["source", "metadata.document"])
    def test_rows_of_one_document_stay_together_if_asked(self, tmp_path, field):
        file = tmp_path / "pages.csv"
        lines = [f"title {number},page {number},book {number % 4}\n" for number in range(40)]
        file.write_text(f"query,positive,{field}\n" + "".join(lines))
        options = {"split": "train=0.75,eval=0.25", "overwrite": True}

        def documents(**more):
            parts = map(read, run(file, **options, **more).files)
            return [{row.get("source") or row["metadata"]["document"] for row in p} for p in parts]

        train, held_out = documents(split_together=field)
        assert (len(train), len(held_out)) == (3, 1)
        assert not train & held_out
        train, held_out = documents()
        assert train & held_out

    def test_a_row_of_no_document_and_a_field_that_binds_nothing_are_refused(self, tmp_path):
        file = tmp_path / "pages.csv"
        file.write_text("query,positive,metadata.document\none,1,a\ntwo,2,\n")
        with pytest.raises(ConvertError, match=r"pages.csv:3: metadata.document: is missing"):
            run(file, split="train=0.5,eval=0.5", split_together="metadata.document")
        with pytest.raises(ConvertError) as refusal:
            run(file, split_together="document")
        assert refusal.value.problems == [
            "--split-together: is no field that may bind rows; got 'document'; "
            "name source or such as metadata.document",
            "--split-together: splits nothing; got 'document'; add --split train=0.9,eval=0.1",
        ]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["pages.csv"]

    def test_the_summary_tells_groups_and_shares(self, source):
        lines = list(run(source, split="train=0.75,eval=0.25").lines())
        assert lines[0] == (
            "Split by content: 8 groups of rows that share an image or a text, the largest of 1."
        )
        assert "out.train.jsonl: 6 rows (75.0%)." in lines[1]
        assert lines[-1] == "8 rows, 8 images, all checked."

    def test_a_split_that_would_be_empty_is_refused_with_the_reason(self, tmp_path):
        file = tmp_path / "t.csv"
        rows = "".join(f"what is it?,thing {number}\n" for number in range(9))
        file.write_text("query,positive\n" + rows)
        with pytest.raises(ConvertError) as refusal:
            run(file, split="train=0.9,eval=0.1")
        assert str(refusal.value) == (
            "--split eval: gets no rows; got 1 groups of rows that share an image or a text, the "
            "largest of 9; choose larger fractions, or texts that fewer rows share"
        )
        assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv"]

    def test_a_text_beside_an_image_binds_nothing(self, source, tmp_path):
        rows = [
            {"query": "in red", "query_image": f"{colour}.png", "positive": colour}
            for colour in COLOURS
        ]
        file = tmp_path / "t.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        summary = run(file, format="jsonl", split="train=0.5,eval=0.5")
        assert list(summary.files.values()) == [4, 4]

    def test_a_split_opens_every_pixel(self, source, tmp_path):
        header, _, _ = (tmp_path / "red.png").read_bytes().partition(b"IDAT")
        (tmp_path / "red.png").write_bytes(header + b"IDAT")
        run(source)  # by its header the image is sound
        with pytest.raises(ConvertError, match=r"table\.csv:2: query_image: red\.png: cannot be"):
            run(source, split="train=0.5,eval=0.5")


class TestCommand:
    def test_a_good_source_ends_with_0(self, source, tmp_path):
        options = ["--split", "train=0.75,eval=0.25", "--seed", "3", "--set", "source=demo"]
        output = str(tmp_path / "o.jsonl")
        assert main(["convert", "--from", "csv", str(source), "--output", output, *options]) == 0
        assert {row["source"] for row in read(tmp_path / "o.train.jsonl")} == {"demo"}

    def test_a_bad_one_ends_with_2_and_tells_all(self, source, tmp_path, caplog):
        source.write_text(source.read_text() + "gone.png,gone\nred.png\n")
        output = str(tmp_path / "o.jsonl")
        options = ["--map", "positive=positive", "--output", output]
        assert main(["convert", "--from", "csv", str(source), *options]) == 2
        image, ragged = caplog.text.split(str(source))[1:]
        assert image.startswith(":10: query_image: gone.png: does not exist; got ")
        assert ragged.startswith(":11: line: has 1 cells where the header has 2; got ['red.png'];")

    def test_every_format_is_documented(self):
        readme = Path(__file__).parents[2] / "data/README.md"
        for name in READERS:
            assert f"`{name}`" in readme.read_text(encoding="utf-8")


class TestFuzz:
    def test_a_conversion_of_noise_ends_in_rows_or_in_problems(self, tmp_path):
        """400 sources of mangled bytes; nothing but a `ConvertError` may come out."""
        generator = random.Random(7)  # noqa: S311
        good = {
            "csv": b'query,positive\na,"b\nc"\n',
            "tsv": b"query\tpositive\na\tb\n",
            "jsonl": b'{"query": "a", "positive": ["b"], "metadata": {"c": 1}}\n',
            "coco": json.dumps(
                {
                    "images": [{"id": 1, "file_name": "a.png"}],
                    "annotations": [{"image_id": 1, "caption": "b"}],
                }
            ).encode(),
        }
        Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
        ends = {True: 0, False: 0}
        for number in range(400):
            name = generator.choice(list(good))
            content = bytearray(good[name])
            for _ in range(generator.randrange(1, 3)):
                place = generator.randrange(len(content))
                content[place : place + generator.randrange(3)] = generator.choice(
                    [b"", b'"', b"\n", b",", b"\0", b"\xff", b"\xed\xa0\x80", b"{}", b"null", b"\r"]
                )
            file = tmp_path / f"{number}.x"
            file.write_bytes(content)
            try:
                run(file, format=name, overwrite=True)
            except ConvertError as error:
                ends[False] += 1
                assert all("; got " in problem for problem in error.problems)
            else:
                ends[True] += 1
        assert min(ends.values()) > 20


def test_values_that_json_cannot_hold_are_told_by_field(tmp_path):
    draft = conversion_rows.SourceRow("t", 3, {"query": "q", "metadata": {"x": {1, 2}}})
    with pytest.raises(ValueError, match=r"t:3: metadata: is nothing that JSON can hold; got \{"):
        conversion_rows._encode(draft)
