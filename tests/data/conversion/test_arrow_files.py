"""Parquet files and saved data sets; neither library is needed to learn that it is missing."""

import importlib
import json
import os
import sys
from datetime import date, datetime
from decimal import Decimal

import pytest

from tests.data.conversion.conftest import picture_bytes

FEATURES = {
    "image": {"_type": "Image"},
    "caption": [{"dtype": "string", "_type": "Value"}],  # as older versions note a list
    "label": {"names": ["warm", "cold"], "_type": "ClassLabel"},
    "unnamed": {"names": None, "_type": "ClassLabel"},
}


@pytest.fixture
def pa():
    """Return pyarrow, without which these tests make no sense."""
    return pytest.importorskip("pyarrow")


@pytest.fixture
def write_parquet(workshop, pa):
    """Return a function that writes columns as a Parquet file."""

    def write(name="t.parquet", **columns):
        (workshop.folder / name).parent.mkdir(exist_ok=True)
        parquet = importlib.import_module("pyarrow.parquet")
        parquet.write_table(pa.table(columns), workshop.folder / name)
        return workshop.folder / name

    return write


@pytest.fixture
def table(pa):
    """Rows as Hugging Face's `datasets` stores them: pictures as bytes, labels as numbers."""
    rows = {
        "image": [
            {"bytes": picture_bytes("red"), "path": "red.png"},
            {"bytes": picture_bytes("blue", "JPEG"), "path": None},
            {"bytes": None, "path": "images/green.png"},
        ],
        "caption": [["red", "rot"], ["blue"], ["green"]],
        "label": [0, 1, -1],
        "unnamed": [0, 1, 2],
    }
    note = json.dumps({"info": {"features": FEATURES}})
    return pa.table(rows).replace_schema_metadata({"huggingface": note})


@pytest.fixture
def saved(workshop, pa, table):
    """A data set as `save_to_disk` leaves it, in two files."""
    names = [f"data-0000{number}-of-00002.arrow" for number in range(2)]
    for name, part in zip(names, [table.slice(0, 2), table.slice(2)], strict=True):
        workshop.write(f"set/{name}", b"")
        with pa.ipc.new_stream(workshop.folder / "set" / name, table.schema) as writer:
            writer.write_table(part, max_chunksize=1)
    workshop.write("set/state.json", {"_data_files": [{"filename": name} for name in names]})
    return workshop.folder / "set"


MAPS = ("query_image=image", "positive=caption", "metadata.label=label")


class TestParquet:
    def test_columns_of_our_names_need_no_map(self, workshop, write_parquet):
        columns = {"query_image": ["images/red.png"], "positive": [["red", "rot"]]}
        source = write_parquet(**columns, **{"metadata.lang": ["en"], "score": [0.5], "id": [3]})
        assert workshop.rows("parquet", source) == [
            {
                **{"query_image": "images/red.png", "positive": ["red", "rot"]},
                **{"score": 0.5, "id": 3, "metadata": {"lang": "en"}},
            }
        ]

    def test_values_that_are_missing_are_fields_that_are_not_there(self, workshop, write_parquet):
        source = write_parquet(query=["a", "b"], positive=["c", "d"], negative=[None, ["e"]])
        assert workshop.rows("parquet", source)[0] == {"query": "a", "positive": "c"}

    def test_all_files_of_a_folder_are_read_in_order(self, workshop, write_parquet):
        for number in (2, 1):
            write_parquet(f"set/part-{number}.parquet", query=[f"q{number}"], positive=["p"])
        rows = workshop.rows("parquet", workshop.folder / "set")
        assert [row["query"] for row in rows] == ["q1", "q2"]

    def test_pictures_in_a_column_become_files_named_by_content(
        self, workshop, pa, table, tmp_path
    ):
        importlib.import_module("pyarrow.parquet").write_table(table, tmp_path / "t.parquet")
        rows = workshop.rows("parquet", tmp_path / "t.parquet", *MAPS)
        names = [row["query_image"] for row in rows]
        assert [name.rpartition(".")[2] for name in names] == ["png", "jpg", "png"]
        assert names[2] == "images/green.png"
        assert (tmp_path / names[0]).read_bytes() == picture_bytes("red")
        assert {path.name for path in (tmp_path / "out_images").iterdir()} == {
            name.rpartition("/")[2] for name in names[:2]
        }

    def test_plain_bytes_are_a_picture_where_one_is_asked_for(self, workshop, write_parquet):
        source = write_parquet(picture=[picture_bytes("red")], text=["red"])
        rows = workshop.rows("parquet", source, "query=text", "positive_image=picture")
        assert (workshop.folder / rows[0]["positive_image"]).read_bytes() == picture_bytes("red")

    def test_lists_of_pictures_are_several_items(self, workshop, write_parquet):
        pages = [[picture_bytes("red"), picture_bytes("blue")]]
        (row,) = workshop.rows("parquet", write_parquet(query=["q"], positive_image=pages))
        assert len(row["positive_image"]) == 2

    def test_dates_are_written_as_text(self, workshop, write_parquet):
        columns = {"metadata.day": [date(2026, 1, 2)], "metadata.at": [datetime(2026, 1, 2, 3)]}
        (row,) = workshop.rows("parquet", write_parquet(query=["q"], positive=["p"], **columns))
        assert row["metadata"] == {"day": "2026-01-02", "at": "2026-01-02T03:00:00"}

    def test_only_the_columns_asked_for_are_read(self, workshop, write_parquet, monkeypatch):
        source = write_parquet(query=["q"], positive=["p"], huge=["x"])
        parquet = importlib.import_module("pyarrow.parquet")
        asked, iterate = [], parquet.ParquetFile.iter_batches

        def noting(self, **options):
            asked.append(options["columns"])
            return iterate(self, **options)

        monkeypatch.setattr(parquet.ParquetFile, "iter_batches", noting)
        workshop.rows("parquet", source)
        assert asked == [["query", "positive"]]

    def test_every_bad_row_is_told_by_its_number(self, workshop, write_parquet):
        found = workshop.problems(
            "parquet",
            write_parquet(
                query=["a", None, "c", "d"],
                positive_image=[b"no picture", picture_bytes("red"), b"", None],
                **{"metadata.price": [None, None, None, Decimal("1.5")]},
            ),
        )
        assert [": ".join(problem.split(": ")[:2]) for problem in found] == [
            "t.parquet:1: positive_image",
            "t.parquet:2: query",
            "t.parquet:3: positive_image",
            "t.parquet:4: metadata",
        ]
        assert "is nothing that JSON can hold; got {'price': Decimal('1.5')}" in found[3]
        assert not (workshop.folder / "out_images").exists()

    def test_numbers_are_no_texts(self, workshop, write_parquet):
        (found,) = workshop.problems("parquet", write_parquet(query=["a"], positive=[3]))
        assert "t.parquet:1: positive: is not a string; got 3" in found

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet", b"PAR1" * 100])
    def test_what_is_no_parquet_is_refused(self, workshop, pa, content):
        (found,) = workshop.problems("parquet", workshop.write("t.parquet", content))
        assert "t.parquet:1: file: cannot be read; got " in found
        assert "ArrowInvalid: " in found

    def test_a_file_cut_off_in_the_middle_is_refused(self, workshop, write_parquet):
        source = write_parquet(query=["q" * 50] * 99, positive=["p"] * 99)
        content = bytearray(source.read_bytes())
        content[4:60] = bytes(56)
        source.write_bytes(content)
        (found,) = workshop.problems("parquet", source)
        assert "t.parquet:1: file: cannot be read; got " in found

    def test_a_folder_without_files_is_refused(self, workshop, pa):
        (workshop.folder / "set").mkdir()
        assert "holds no data files" in workshop.problems("parquet", workshop.folder / "set")[0]


class TestSavedDataSet:
    def test_pictures_lists_and_labels_arrive(self, workshop, saved):
        rows = workshop.rows("hf-dataset", saved, *MAPS, images=workshop.folder)
        assert [row["positive"] for row in rows] == [["red", "rot"], ["blue"], ["green"]]
        assert [row.get("metadata") for row in rows] == [{"label": "warm"}, {"label": "cold"}, None]
        assert (workshop.folder / rows[0]["query_image"]).read_bytes() == picture_bytes("red")

    def test_what_the_library_saves_is_read(self, workshop):
        datasets = pytest.importorskip("datasets")
        features = datasets.Features(
            image=datasets.Image(), label=datasets.ClassLabel(names=["warm", "cold"])
        )
        files = [str(workshop.folder / f"images/{name}.png") for name in ("red", "blue")]
        rows = {"image": files, "label": [0, 1]}
        datasets.Dataset.from_dict(rows, features=features).save_to_disk(workshop.folder / "set")
        rows = workshop.rows(
            "hf-dataset", workshop.folder / "set", "query_image=image", "positive=label"
        )
        assert [row["positive"] for row in rows] == ["warm", "cold"]

    def test_several_sets_in_one_are_to_be_converted_one_by_one(self, workshop, pa):
        workshop.write("set/dataset_dict.json", {"splits": ["train", "test"]})
        for name in ("train", "test"):
            workshop.write(f"set/{name}/state.json", {})
        (found,) = workshop.problems("hf-dataset", workshop.folder / "set")
        assert "holds several data sets; got ['test', 'train']; convert them one by one" in found

    @pytest.mark.parametrize(
        ("state", "said"),
        [
            ("{", "is no saved data set; got 'JSONDecodeError"),
            ([], "is no saved data set"),
            ({"_data_files": [3]}, "is no saved data set"),
            ({}, "is no saved data set; got \"KeyError: '_data_files'\""),
            ({"_data_files": []}, "holds no data files"),
            ({"_data_files": [{"filename": "../t.arrow"}]}, "names files elsewhere"),
            ({"_data_files": [{"filename": "/etc/passwd"}]}, "names files elsewhere"),
            ({"_data_files": [], "_indices_files": [{"filename": "i"}]}, "with an index of rows"),
            ({"_data_files": [{"filename": "gone.arrow"}]}, "lacks files; got ['gone.arrow']"),
        ],
    )
    def test_a_folder_that_is_no_data_set_is_refused(self, workshop, pa, state, said):
        workshop.write("set/state.json", state)
        (found,) = workshop.problems("hf-dataset", workshop.folder / "set")
        assert said in found

    def test_a_folder_without_a_state_is_refused(self, workshop, pa):
        (found,) = workshop.problems("hf-dataset", workshop.folder / "images")
        assert "images:1: folder: is no saved data set" in found
        assert "FileNotFoundError" in found

    @pytest.mark.parametrize("name", ["state.json", "data-00000-of-00002.arrow"])
    def test_a_pipe_is_not_waited_for(self, workshop, saved, name):
        (saved / name).unlink()
        os.mkfifo(saved / name)
        with pytest.raises(ValueError, match=name):
            workshop.convert("hf-dataset", saved, *MAPS)

    def test_a_damaged_stream_is_refused_wherever_it_is_cut(self, workshop, saved):
        file = saved / "data-00000-of-00002.arrow"
        content = file.read_bytes()
        # The last eight bytes say that nothing follows; the third batch ends before them.
        for length in (*range(0, len(content) - 8, 97), len(content) - 8):
            file.write_bytes(content[:length])
            (found,) = workshop.problems("hf-dataset", saved, *MAPS, images=workshop.folder)
            assert "cannot be read" in found

    def test_columns_of_one_name_are_refused(self, workshop, pa):
        twice = pa.table([["a"], ["b"]], names=["query", "query"])
        workshop.write("set/state.json", {"_data_files": [{"filename": "t.arrow"}]})
        with pa.ipc.new_stream(workshop.folder / "set/t.arrow", twice.schema) as writer:
            writer.write_table(twice)
        (found,) = workshop.problems("hf-dataset", workshop.folder / "set")
        assert "set/t.arrow:1: columns: share a name; got ['query', 'query'];" in found


class TestWithoutPyarrow:
    @pytest.mark.parametrize("format_name", ["parquet", "hf-dataset"])
    def test_it_says_what_to_install(self, workshop, monkeypatch, format_name):
        for module in ("pyarrow", "pyarrow.parquet"):
            monkeypatch.setitem(sys.modules, module, None)
        (found,) = workshop.problems(format_name, workshop.folder / "images")
        assert found.startswith(f"--from {format_name}: needs pyarrow, which is not here; got ")
        assert found.endswith("run pip install 'pyarrow>=18,<26'")

    def test_the_other_formats_do_not_miss_it(self, workshop, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        assert workshop.rows("csv", workshop.write("t.csv", "query,positive\na,b\n"))
