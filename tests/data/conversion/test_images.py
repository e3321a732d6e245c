"""Where image paths start, that they stay inside, and that every image is opened."""

import os

import pytest

from tests.data.conversion.conftest import picture_bytes

HOSTILE = [
    "../secret.png",
    "images/../../secret.png",
    "/etc/passwd",
    "/proc/self/environ",
    "/dev/zero",
    "images/../../../../../../../../etc/passwd",
    "file:///etc/passwd",
    "http://localhost/a.png",
    "https://localhost/a.png",
    "ftp://localhost/a.png",
    "data:image/png;base64,AAAA",
    "\\\\host\\share\\a.png",
    "images/red.png\0.txt",
    "images/link.png",
    "linked/secret.png",
    "linked/../secret.png",
    "images/gone.png",
    "images",
    ".",
    "images/pipe.png",
    "images/empty.png",
    "images/text.png",
    "~/a.png",
    "images/" + "a" * 5000 + ".png",
]


@pytest.fixture
def hostile(workshop, tmp_path_factory):
    """The workshop with links, a pipe and bad files in it, and secrets beside it."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.png").write_bytes(picture_bytes("black"))
    (workshop.folder / "images/link.png").symlink_to(outside / "secret.png")
    (workshop.folder / "linked").symlink_to(outside)
    os.mkfifo(workshop.folder / "images/pipe.png")
    workshop.write("images/empty.png", "")
    workshop.write("images/text.png", "no picture")
    return workshop


class TestInside:
    def test_every_hostile_path_is_refused_under_its_line(self, hostile):
        for split in (None, "train=0.5,eval=0.5"):
            for path in HOSTILE:
                row = {"query_image": path, "positive": "p"}
                source = hostile.write("t.jsonl", row)
                with pytest.raises(
                    ValueError, match=r"t\.jsonl:1: query_image: .+; got "
                ) as refusal:
                    hostile.convert("jsonl", source, split=split)
                assert len(refusal.value.problems) == 1
                assert not hostile.output.exists()

    def test_nothing_outside_is_opened(self, hostile, monkeypatch):
        from pathlib import Path

        opened, real = [], Path.open

        def noting(self, *args, **options):
            opened.append(self)
            return real(self, *args, **options)

        monkeypatch.setattr(Path, "open", noting)
        rows = "".join(f'{{"query_image": "{p}", "positive": "p"}}\n' for p in HOSTILE[:6])
        with pytest.raises(ValueError, match="lies outside"):
            hostile.convert("jsonl", hostile.write("t.jsonl", rows))
        assert opened
        assert all(path.resolve().is_relative_to(hostile.folder) for path in opened)

    def test_control_honest_detours_are_allowed_and_straightened(self, workshop):
        (workshop.folder / "alias").symlink_to(workshop.folder / "images")
        absolute = workshop.folder / "images/red.png"
        paths = ["./images/red.png", "images/../images/red.png", str(absolute), "alias/red.png"]
        table = "query_image,positive\n" + "".join(f"{path},p\n" for path in paths)
        rows = workshop.rows("csv", workshop.write("t.csv", table))
        assert [row["query_image"] for row in rows] == [*["images/red.png"] * 3, "alias/red.png"]

    def test_behind_a_link_two_dots_lead_where_the_system_says(self, workshop):
        workshop.write("a/b/green.png", picture_bytes("green"))
        workshop.write("a/x.png", picture_bytes("blue"))
        (workshop.folder / "short").symlink_to(workshop.folder / "a/b")
        row = {"query_image": "short/../x.png", "positive": "p"}
        assert workshop.rows("jsonl", workshop.write("t.jsonl", row))[0]["query_image"] == "a/x.png"


class TestStart:
    ROW = {"query_image": "red.png", "positive": "red"}

    def test_paths_start_at_the_source(self, workshop):
        rows = workshop.rows("jsonl", workshop.write("images/t.jsonl", self.ROW))
        assert rows[0]["query_image"] == "images/red.png"

    def test_an_image_base_dir_is_where_paths_start_and_are_told_from(self, workshop):
        rows = workshop.rows(
            "jsonl", workshop.write("t.jsonl", self.ROW), image_base_dir=workshop.folder / "images"
        )
        assert rows[0]["query_image"] == "red.png"

    def test_images_says_where_paths_of_the_source_start(self, workshop):
        rows = workshop.rows(
            "jsonl",
            workshop.write("t.jsonl", self.ROW),
            images=workshop.folder / "images",
            image_base_dir=workshop.folder,
        )
        assert rows[0]["query_image"] == "images/red.png"

    def test_images_that_the_output_cannot_reach_are_refused_with_a_way_out(self, workshop):
        source = workshop.write("images/t.jsonl", self.ROW)
        (found,) = workshop.problems("jsonl", source, output=workshop.folder / "new/deep/o.jsonl")
        assert "put the output beside the images or set --image-base-dir" in found

    def test_pictures_from_a_column_need_a_place_inside(self, workshop):
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        table = pa.table({"query": ["q"], "positive_image": [picture_bytes("red")]})
        parquet.write_table(table, workshop.folder / "t.parquet")
        (found,) = workshop.problems(
            "parquet", workshop.folder / "t.parquet", image_base_dir=workshop.folder / "images"
        )
        assert "would be stored outside images" in found


class TestStored:
    @pytest.fixture
    def source(self, workshop):
        """A Parquet file with three pictures, two of them equal."""
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        pictures = [picture_bytes(colour) for colour in ("red", "blue", "red")]
        table = pa.table({"query_image": pictures, "positive": ["red", "blue", "rot"]})
        parquet.write_table(table, workshop.folder / "t.parquet")
        return workshop.folder / "t.parquet"

    def test_equal_pictures_are_stored_once(self, workshop, source):
        rows = workshop.rows("parquet", source)
        assert rows[0]["query_image"] == rows[2]["query_image"] != rows[1]["query_image"]
        assert len(list((workshop.folder / "out_images").iterdir())) == 2

    def test_a_second_run_writes_the_same_and_mends_what_was_cut_off(self, workshop, source):
        workshop.rows("parquet", source)
        before = workshop.files()
        stored = sorted((workshop.folder / "out_images").iterdir())
        stored[0].write_bytes(b"\x89PNG")
        workshop.rows("parquet", source, overwrite=True)
        assert workshop.files() == before

    def test_pictures_of_an_earlier_run_survive_a_refusal(self, workshop, source):
        workshop.rows("parquet", source)
        assert "--set task" not in workshop.problems(
            "parquet", source, constants=["task=x"], overwrite=True
        )
        assert len(list((workshop.folder / "out_images").iterdir())) == 2

    @pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
    def test_a_name_ends_as_its_format_does(self, workshop, file_format):
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        picture = picture_bytes("red", file_format)
        table = pa.table({"query_image": [picture], "positive": ["red"]})
        parquet.write_table(table, workshop.folder / "t.parquet")
        (row,) = workshop.rows("parquet", workshop.folder / "t.parquet")
        ending = {"JPEG": "jpg", "TIFF": "tif"}.get(file_format, file_format.lower())
        assert row["query_image"].endswith(f".{ending}")
