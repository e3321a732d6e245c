"""A folder of images with their captions beside them."""

import os

import pytest


@pytest.fixture
def captioned(workshop):
    """The folder `images`, where every picture has a sidecar."""
    for name in ("red", "green", "blue", "rouge"):
        workshop.write(f"images/{name}.txt", f"{name}\n")
    return workshop.folder / "images"


class TestGood:
    def test_rows_come_in_the_order_of_the_paths(self, workshop, captioned):
        rows = workshop.rows("folder", captioned)
        assert rows == [
            {"query_image": f"images/{name}", "positive": [name.partition(".")[0]]}
            for name in ("blue.png", "green.png", "red.png", "rouge.bmp")
        ]

    def test_each_line_of_a_sidecar_is_a_positive(self, workshop, captioned):
        workshop.write("images/red.txt", "red\r\nall red\r\n rot\u2028rosso ")
        rows = {row["query_image"]: row for row in workshop.rows("folder", captioned)}
        assert rows["images/red.png"]["positive"] == ["red", "all red", " rot\u2028rosso "]

    def test_subfolders_count_and_a_sidecar_belongs_to_its_own_folder(self, workshop, captioned):
        picture = (captioned / "red.png").read_bytes()
        workshop.write("images/deep/er/red.v2.png", picture)
        workshop.write("images/deep/er/red.v2.txt", b"\xef\xbb\xbfanother red")
        rows = {row["query_image"]: row["positive"] for row in workshop.rows("folder", captioned)}
        assert rows["images/deep/er/red.v2.png"] == ["another red"]
        assert rows["images/red.png"] == ["red"]

    def test_captions_may_be_what_is_asked(self, workshop, captioned):
        rows = workshop.rows("folder", captioned, "query=captions", "positive_image=image")
        assert rows[0] == {"query": "blue", "positive_image": "images/blue.png"}

    def test_hidden_files_are_left_alone_and_others_named(self, workshop, captioned):
        workshop.write("images/.hidden.png", "no picture")
        workshop.write("images/.git/red.png", "no picture")
        workshop.write("images/Thumbs.db", "x")
        workshop.write("images/LICENSE", "x")
        summary = workshop.convert("folder", captioned)
        assert summary.rows == 4
        assert summary.notes[0].endswith("2 other files were left out (.db, LICENSE).")


class TestBad:
    def test_every_loose_end_is_told(self, workshop, captioned):
        (captioned / "red.txt").unlink()
        (captioned / "green.png").unlink()
        workshop.write("images/blue.txt", "blue\n\n \nbleu\n")
        workshop.write("images/rouge.txt", b"caf\xe9")
        found = "\n".join(workshop.problems("folder", captioned))
        for said in (
            "images/red.png:1: sidecar: is missing; got 'red.txt';",
            "images/green.txt:1: file: has no image of the same name; got 'green.txt';",
            "images/blue.txt:2: caption: is blank; got '';",
            "images/blue.txt:3: caption: is blank; got ' ';",
            "images/rouge.txt:1: file: is not UTF-8; got b'caf\\xe9';",
        ):
            assert said in found

    def test_an_empty_sidecar_is_refused(self, workshop, captioned):
        workshop.write("images/red.txt", "")
        (found,) = workshop.problems("folder", captioned)
        assert found.startswith("images/red.txt:1: caption: is blank")

    def test_a_sidecar_of_two_images_is_refused(self, workshop, captioned):
        workshop.write("images/red.jpg", (captioned / "red.png").read_bytes())
        found = workshop.problems("folder", captioned)
        assert len(found) == 2
        assert all("would belong to 2 images of one name" in problem for problem in found)

    def test_a_sidecar_that_leads_elsewhere_is_not_read(self, workshop, captioned):
        secret = workshop.write("secret.txt", "secret")
        (captioned / "red.txt").unlink()
        (captioned / "red.txt").symlink_to(secret)
        (found,) = workshop.problems("folder", captioned)
        assert "images/red.txt:1: file: is not a file of this folder" in found
        assert "secret'" not in found

    def test_a_sidecar_that_is_a_pipe_is_not_waited_for(self, workshop, captioned):
        (captioned / "red.txt").unlink()
        os.mkfifo(captioned / "red.txt")
        from jina.data.conversion.image_folder import read_folder

        rows = list(read_folder(captioned).read(()))
        assert "is not a file of this folder" in str(rows[2])

    def test_an_image_that_leads_elsewhere_is_refused(self, workshop, captioned, tmp_path_factory):
        outside = tmp_path_factory.mktemp("outside") / "red.png"
        (captioned / "red.png").rename(outside)
        (captioned / "red.png").symlink_to(outside)
        (found,) = workshop.problems("folder", captioned)
        assert "images/red.txt:1: query_image: images/red.png: lies outside" in found

    def test_what_is_no_picture_is_refused(self, workshop, captioned):
        workshop.write("images/red.png", "no picture")
        (found,) = workshop.problems("folder", captioned)
        assert "images/red.txt:1: query_image: images/red.png: is in none of the formats" in found

    def test_a_folder_without_images_has_no_rows(self, workshop):
        (workshop.folder / "empty").mkdir()
        assert "has no rows" in workshop.problems("folder", workshop.folder / "empty")[0]
