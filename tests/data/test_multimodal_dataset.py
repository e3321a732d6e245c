"""`MultimodalDataset`: all offenders at once before training, the same rows for ever after."""

import json
import multiprocessing
import os
import pickle
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from jina.data.checking import row_check
from jina.data.image_loading import ImageError, pixel_identity
from jina.data.multimodal_dataset import (
    DataError,
    LoadedSample,
    MultimodalDataset,
)
from jina.data.records import Item, RecordError


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write_rows(path: Path, *rows: object) -> Path:
    """Write a JSONL file; a row may be an object or the line itself."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with six images, of which `same-as-0.bmp` shows what `0.png` shows."""
    (tmp_path / "images").mkdir()
    for number in range(5):
        picture(number).save(tmp_path / "images" / f"{number}.png")
    picture(0).save(tmp_path / "images" / "same-as-0.bmp")
    return tmp_path


@pytest.fixture
def rows(folder: Path) -> Path:
    """Rows of every shape."""
    return write_rows(
        folder / "train.jsonl",
        {"query_image": "images/0.png", "positive": "zero", "source": "a", "id": 1},
        {"query": "one", "positive_image": "images/1.png", "source": "a"},
        {"query": "two", "query_image": "images/2.png", "positive": ["2", "deux", "zwei"]},
        {"query": "a\u2028b", "positive": "c", "negative": ["x", "y"]},
        {
            "query": "three",
            "positive_image": "images/3.png",
            "negative": [None, "four", "five"],
            "negative_image": ["images/1.png", "images/4.png", None],
            "task": "retrieval",
        },
        {"query_image": "images/same-as-0.bmp", "positive": "null", "source": "b"},
    )


def contents(sample: LoadedSample) -> list[object]:
    """Return all that a sample holds, in comparable form."""
    items = [sample.query, *sample.positives, *sample.negatives]
    pixels = [item.image and pixel_identity(item.image) for item in items]
    return [
        *(
            (item.text, identity, item.identity)
            for item, identity in zip(items, pixels, strict=True)
        ),
        (len(sample.positives), sample.task, sample.source, sample.id, sample.where),
    ]


def problems_of(*files: Path, **options: object) -> list[str]:
    with pytest.raises(DataError) as refusal:
        MultimodalDataset(files, **{"tasks": ["retrieval"], **options})
    return refusal.value.problems


class TestRows:
    def test_rows_come_in_the_order_of_the_file_with_their_pixels(self, rows: Path) -> None:
        dataset = MultimodalDataset(rows, tasks=["retrieval"])
        assert len(dataset) == 6
        first = dataset[0]
        assert first.query.text is None
        assert pixel_identity(first.query.image) == pixel_identity(picture(0))
        assert [item.text for item in first.positives] == ["zero"]
        assert (first.task, first.source, first.id) == ("retrieval", "a", "1")
        assert first.where == f"{rows}:1"
        assert dataset[3].query.text == "a\u2028b"

    def test_several_positives_and_ragged_hard_negatives_arrive(self, rows: Path) -> None:
        dataset = MultimodalDataset(rows, tasks=["retrieval"])
        counts = [(len(sample.positives), len(sample.negatives)) for sample in dataset]
        assert counts == [(1, 0), (1, 0), (3, 0), (1, 2), (1, 3), (1, 0)]
        both = dataset[4].negatives[1]
        assert both.text == "four"
        assert pixel_identity(both.image) == pixel_identity(picture(4))

    def test_a_sample_is_to_be_had_without_opening_images(self, rows: Path) -> None:
        dataset = MultimodalDataset(rows, tasks=["retrieval"])
        for image in (rows.parent / "images").iterdir():
            image.unlink()
        assert dataset.sample(1).positives == (Item(image="images/1.png"),)
        assert [dataset.sample(index).line for index in range(6)] == [1, 2, 3, 4, 5, 6]

    def test_several_files_are_read_one_after_the_other(self, rows: Path) -> None:
        other = write_rows(rows.parent / "other.jsonl", {"query": "a", "positive": "b"})
        third = write_rows(rows.parent / "third.jsonl", *[{"query": "c", "positive": "d"}] * 3)
        dataset = MultimodalDataset([rows, str(other), third], tasks=["retrieval"])
        assert [dataset.sample(index).where for index in range(len(dataset))] == [
            *(f"{rows}:{line}" for line in range(1, 7)),
            f"{other}:1",
            *(f"{third}:{line}" for line in range(1, 4)),
        ]

    def test_indices_behave_like_those_of_a_list(self, rows: Path) -> None:
        dataset = MultimodalDataset(rows, tasks=["retrieval"])
        assert contents(dataset[-1]) == contents(dataset[5])
        assert contents(dataset[np.int64(2)]) == contents(dataset[2])
        for index in (6, -7):
            with pytest.raises(IndexError):
                dataset[index]
        assert len(list(dataset)) == 6

    def test_windows_line_endings_change_nothing(self, rows: Path) -> None:
        before = [contents(sample) for sample in MultimodalDataset(rows, tasks=["retrieval"])]
        rows.write_bytes(rows.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
        assert [
            contents(sample) for sample in MultimodalDataset(rows, tasks=["retrieval"])
        ] == before

    def test_image_paths_start_at_the_folder_of_their_own_file(self, folder: Path) -> None:
        inner = folder / "inner"
        files = [
            write_rows(folder / "a.jsonl", {"query_image": "images/0.png", "positive": "a"}),
            write_rows(inner / "b.jsonl", {"query_image": "images/0.png", "positive": "a"}),
        ]
        (inner / "images").mkdir()
        picture(7).save(inner / "images" / "0.png")
        dataset = MultimodalDataset(files, tasks=["retrieval"])
        assert [pixel_identity(sample.query.image) for sample in dataset] == [
            pixel_identity(picture(0)),
            pixel_identity(picture(7)),
        ]

    def test_image_base_dir_moves_the_start(self, folder: Path) -> None:
        row = {"query_image": "0.png", "positive": "a"}
        file = write_rows(folder / "elsewhere" / "a.jsonl", row)
        dataset = MultimodalDataset(file, image_base_dir=folder / "images", tasks=["retrieval"])
        assert pixel_identity(dataset[0].query.image) == pixel_identity(picture(0))
        assert "does not exist" in problems_of(file)[0]

    def test_the_summary_counts_rows_images_shapes_and_sources(self, rows: Path) -> None:
        summary = MultimodalDataset(rows, tasks=["retrieval"]).summary
        assert summary.rows == 6
        # Six files, two of which show the same.
        assert summary.distinct_images == 5
        assert summary.shapes == Counter(
            {
                "image → text": 2,
                "text → image": 1,
                "text and image → text": 1,
                "text → text + hard negatives": 1,
                "text → image + hard negatives": 1,
            }
        )
        assert summary.sources == Counter({"a": 2, "b": 1, "(none)": 3})

    def test_each_image_is_decoded_once_for_the_check(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decoded = Counter()
        really_load = row_check.load_image

        def counting(source: str, *, root: Path) -> Image.Image:
            decoded[source] += 1
            return really_load(source, root=root)

        monkeypatch.setattr(row_check, "load_image", counting)
        names = [f"images/{number % 5}.png" for number in range(50)]
        rows = [{"query_image": name, "positive": "a", "negative_image": name} for name in names]
        MultimodalDataset(write_rows(folder / "a.jsonl", *rows), tasks=["retrieval"])
        assert decoded == Counter({f"images/{number}.png": 1 for number in range(5)})


class TestIdentity:
    @pytest.fixture
    def identities(self, folder: Path) -> dict[str, bytes]:
        items = {
            "text": {"query": "caf\u00e9"},
            "text, accent apart": {"query": "cafe\u0301"},
            "text in capitals": {"query": "CAF\u00c9"},
            "text with a space": {"query": "caf\u00e9 "},
            "image": {"query_image": "images/0.png"},
            "image in another file": {"query_image": "images/same-as-0.bmp"},
            "image by another path": {"query_image": "images/../images/0.png"},
            "other image": {"query_image": "images/1.png"},
            "both": {"query": "caf\u00e9", "query_image": "images/0.png"},
            "both again": {"query": "cafe\u0301", "query_image": "images/same-as-0.bmp"},
            "other both": {"query": "caf\u00e9", "query_image": "images/1.png"},
        }
        file = write_rows(folder / "a.jsonl", *({**row, "positive": "p"} for row in items.values()))
        dataset = MultimodalDataset(file, tasks=["retrieval"])
        return dict(zip(items, (sample.query.identity for sample in dataset), strict=True))

    def test_equal_contents_share_an_identity(self, identities: dict[str, bytes]) -> None:
        assert identities["text"] == identities["text, accent apart"]
        assert identities["image"] == identities["image in another file"]
        assert identities["image"] == identities["image by another path"]
        assert identities["both"] == identities["both again"]
        assert {len(identity) for identity in identities.values()} == {16}

    def test_control_different_contents_differ(self, identities: dict[str, bytes]) -> None:
        assert len(set(identities.values())) == 7

    def test_a_text_has_the_same_identity_on_every_side(self, folder: Path) -> None:
        row = {"query": "a", "positive": ["b", "a"], "negative": ["a", "c"]}
        sample = MultimodalDataset(write_rows(folder / "a.jsonl", row), tasks=["retrieval"])[0]
        texts = [sample.query, *sample.positives, *sample.negatives]
        assert {item.identity for item in texts if item.text == "a"} == {sample.query.identity}
        assert len({item.identity for item in texts}) == 3

    def test_composed_and_decomposed_texts_are_passed_on_as_written(self, folder: Path) -> None:
        text = unicodedata.normalize("NFD", "caf\u00e9")
        file = write_rows(folder / "a.jsonl", {"query": text, "positive": "p"})
        assert MultimodalDataset(file, tasks=["retrieval"])[0].query.text == text


class TestOffenders:
    def test_every_offender_of_every_file_is_told_at_once_in_order(self, folder: Path) -> None:
        (folder / "images" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        (folder.parent / "secret.png").write_bytes(b"secret")
        good = {"query": "a", "positive": "b"}
        first = write_rows(
            folder / "first.jsonl",
            good,
            {"query_image": "images/none.png", "positive": ["b", ""]},
            {
                "query_image": "images/none.png",
                "positive_image": ["images/0.png", "images/cut.png"],
            },
            "",
            {**good, "task": "code", "score": 0.5, "negative_image": "images/cut.png"},
        )
        second = write_rows(folder / "second.jsonl")
        third = write_rows(
            folder / "third.jsonl",
            {"query_image": "../secret.png", "positive": "b"},
            {"query_image": "http://127.0.0.1/a.png", "positive": "b"},
            {**good, "postive": "b"},
            {"query_image": "images/cut.png", "positive": "b"},
        )
        problems = problems_of(first, second, third)
        places = [problem.removeprefix(f"{folder}/") for problem in problems]
        expected = [
            "first.jsonl:2: positive[1]: has no visible character; got ''",
            "first.jsonl:3: query_image: images/none.png: does not exist; got /",
            "first.jsonl:3: positive_image[1]: images/cut.png: cannot be read as an image; got",
            "first.jsonl:4: line: is blank",
            "first.jsonl:5: task: is not 'retrieval', which this run trains; got 'code'",
            "first.jsonl:5: score: is only trained on for text-matching; got 0.5; remove",
            "first.jsonl:5: score: rates one pair, and there are hard negatives; got 0.5; remove",
            "first.jsonl:5: negative_image: images/cut.png: cannot be read as an image",
            "second.jsonl: is empty; got no rows; add some",
            "third.jsonl:1: query_image: ../secret.png: lies outside the image folder; got /",
            "third.jsonl:2: query_image: http://127.0.0.1/a.png: is a URL",
            "third.jsonl:3: postive: is not a known field; got 'postive'; did you mean",
            "third.jsonl:4: query_image: images/cut.png: cannot be read as an image",
        ]
        assert len(places) == len(expected)
        for place, start in zip(places, expected, strict=True):
            assert place.startswith(start)

    def test_fifty_problems_are_shown_and_the_rest_counted(self, folder: Path) -> None:
        file = write_rows(folder / "a.jsonl", *[{"query_image": "none.png", "positive": "b"}] * 61)
        with pytest.raises(DataError) as refusal:
            MultimodalDataset(file, tasks=["retrieval"])
        assert len(refusal.value.problems) == 61
        shown = str(refusal.value).split("\n")
        assert shown == [*refusal.value.problems[:50], "… and 11 more"]
        again = pickle.loads(pickle.dumps(refusal.value))  # noqa: S301
        assert again.problems == refusal.value.problems

    def test_a_row_belongs_to_retrieval_unless_it_says_otherwise(self, folder: Path) -> None:
        plain, code = (
            {"query": "a", "positive": "b"},
            {"query": "a", "positive": "b", "task": "code"},
        )
        file = write_rows(folder / "a.jsonl", plain, code, {**plain, "task": "retrieval"})
        assert [problem.split(":")[1] for problem in problems_of(file)] == ["2"]
        assert [problem.split(":")[1] for problem in problems_of(file, tasks=["code"])] == [
            "1",
            "3",
        ]
        only_code = write_rows(folder / "b.jsonl", code)
        assert MultimodalDataset(only_code, tasks=["code"])[0].task == "code"

    def test_an_unknown_task_is_refused(self, rows: Path) -> None:
        with pytest.raises(ValueError, match="tasks: unknown; got ..classification..; choose of"):
            MultimodalDataset(rows, tasks=["classification"])

    def test_what_is_no_file_is_refused(self, folder: Path, rows: Path) -> None:
        os.mkfifo(folder / "fifo.jsonl")
        wrong = [folder / "none.jsonl", folder, folder / "fifo.jsonl"]
        problems = problems_of(rows, *wrong)
        assert [problem.split(": ")[0] for problem in problems] == [str(path) for path in wrong]
        assert "is not a file" in problems_of()[0]


class TestLater:
    def test_an_image_that_turned_bad_is_named_with_its_row(self, rows: Path) -> None:
        dataset = MultimodalDataset(rows, tasks=["retrieval"])
        (rows.parent / "images" / "4.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        message = rf"{rows}:5: negative_image\[1\]: images/4.png: cannot be read as an image; got"
        with pytest.raises(ImageError, match=message):
            dataset[4]
        assert dataset[3].query.text == "a\u2028b"

    @pytest.mark.parametrize("kind", [ImageError, DataError, RecordError])
    def test_torch_passes_an_error_of_a_worker_on_by_its_own_name(
        self, kind: type[Exception]
    ) -> None:
        try:
            raise kind("train.jsonl:5: positive: is blank")
        except kind:
            # What a loader worker sends home. A loader itself would take five seconds to close.
            from_worker = ExceptionWrapper(where="in a worker")
        with pytest.raises(kind, match="train.jsonl:5: positive: is blank"):
            from_worker.reraise()

    def test_a_row_that_was_changed_since_the_check_is_refused(self, rows: Path) -> None:
        dataset = MultimodalDataset(rows, tasks=["retrieval"])
        rows.write_bytes(rows.read_bytes().replace(b'"c"', b'"d"'))
        with pytest.raises(DataError, match=f"{rows}:4: line: has changed since it was checked"):
            dataset[3]
        assert dataset[2].query.text == "two"

    def test_rows_added_during_a_run_change_nothing(self, rows: Path) -> None:
        rows.write_bytes(rows.read_bytes().rstrip(b"\n"))
        dataset = MultimodalDataset(rows, tasks=["retrieval"])
        before = [contents(sample) for sample in dataset]
        with rows.open("ab") as stream:
            stream.write(b'\n{"query": "new", "positive": "row"}\n')
        assert [contents(sample) for sample in dataset] == before


class TestWorkers:
    @pytest.mark.parametrize(("workers", "method"), [(2, "fork"), (1, "spawn")])
    def test_workers_return_what_the_main_process_returns(
        self, workers: int, method: str, rows: Path
    ) -> None:
        dataset = MultimodalDataset(rows, tasks=["retrieval"])
        # A row read before the fork must not move the position of a row read after it.
        expected = [contents(sample) for sample in dataset]
        loader = DataLoader(
            dataset,
            batch_size=1,
            num_workers=workers,
            collate_fn=list,
            multiprocessing_context=multiprocessing.get_context(method),
        )
        assert [contents(sample) for batch in loader for sample in batch] == expected

    def test_the_same_row_is_the_same_each_time_and_others_differ(self, rows: Path) -> None:
        dataset = MultimodalDataset(rows, tasks=["retrieval"])
        copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301
        found = [contents(dataset[index]) for index in (0, 5, 0, 3, 0)]
        assert found[0] == found[2] == found[4] == contents(copy[0])
        assert found[0] != found[1]

    def test_a_row_costs_some_hundred_bytes_however_long_it_is(self, folder: Path) -> None:
        def size(count: int) -> int:
            row = {"query": "a" * 1000, "positive": "b" * 1000}
            file = write_rows(folder / "a.jsonl", *[row] * count)
            return len(pickle.dumps(MultimodalDataset(file, tasks=["retrieval"])))

        assert size(2000) - size(1000) < 140_000
