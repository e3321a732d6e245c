"""JSON lines of any keys, and COCO captions."""

import pytest


def coco(**changes):
    """Two images, of which the first has two captions."""
    document = {
        "images": [
            {"id": 7, "file_name": "images/red.png", "width": 8},
            {"id": "eight", "file_name": "images/blue.png", "height": 6},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "caption": "red"},
            {"id": 2, "image_id": "eight", "caption": "blue"},
            {"id": 3, "image_id": 7, "caption": "all red"},
        ],
    }
    return {**document, **changes}


class TestJsonLines:
    def test_foreign_keys_are_mapped_and_the_others_named(self, workshop):
        source = workshop.write("t.jsonl", '{"image": "images/red.png", "text": "red", "w": 8}\n')
        summary = workshop.convert("jsonl", source, "query_image=image", "positive=text")
        assert (
            workshop.output.read_text() == '{"query_image": "images/red.png", "positive": "red"}\n'
        )
        assert summary.unused_columns == ["w"]

    def test_our_own_lines_come_out_as_they_went_in(self, workshop):
        row = {
            **{"query": "q", "positive": ["a", None], "positive_image": [None, "images/red.png"]},
            **{"negative": [], "task": "code", "source": "s", "id": 3, "metadata": {"n": [1, 2.5]}},
        }
        assert workshop.rows("jsonl", workshop.write("t.jsonl", row)) == [row]

    def test_a_bad_line_is_told_as_training_would_tell_it(self, workshop):
        lines = b'{"query": "a"\n[1]\n\n{"query": "a", "query": "b"}\n\xff\n{"query":"\\ud800"}'
        found = workshop.problems("jsonl", workshop.write("t.jsonl", lines), "positive=query")
        for number, said in enumerate(
            ["is not JSON", "is not a JSON object", "is blank", "stands 2 times", "is not UTF-8"],
            start=1,
        ):
            assert any(f"t.jsonl:{number}: " in problem and said in problem for problem in found)
        assert "t.jsonl:6: query: holds half a surrogate pair" in "\n".join(found)

    def test_numbers_that_are_not_finite_are_refused(self, workshop):
        line = '{"query": "a", "positive": "b", "metadata": {"x": NaN, "y": 1e999}}'
        found = workshop.problems("jsonl", workshop.write("t.jsonl", line))
        assert len(found) == 2
        assert all("not finite" in problem for problem in found)

    def test_deep_nesting_is_refused(self, workshop):
        line = '{"query": "a", "positive": ' + "[" * 100_000 + "]" * 100_000 + "}"
        (found,) = workshop.problems("jsonl", workshop.write("t.jsonl", line), "positive=query")
        assert "nested too deeply" in found


class TestCoco:
    def test_an_image_is_a_row_and_its_captions_are_its_positives(self, workshop):
        assert workshop.rows("coco", workshop.write("c.json", coco())) == [
            {"query_image": "images/red.png", "positive": ["red", "all red"], "id": 7},
            {"query_image": "images/blue.png", "positive": ["blue"], "id": "eight"},
        ]

    def test_captions_may_be_what_is_asked_and_then_make_a_row_each(self, workshop):
        rows = workshop.rows(
            "coco",
            workshop.write("c.json", coco()),
            *("query=captions", "positive_image=file_name", "metadata.width=width"),
        )
        assert rows == [
            {"query": query, "positive_image": f"images/{name}.png", "id": key, **more}
            for query, name, key, more in [
                ("red", "red", 7, {"metadata": {"width": 8}}),
                ("all red", "red", 7, {"metadata": {"width": 8}}),
                ("blue", "blue", "eight", {}),
            ]
        ]

    def test_images_may_lie_in_a_folder_of_their_own(self, workshop):
        document = coco()
        for image in document["images"]:
            image["file_name"] = image["file_name"].removeprefix("images/")
        source = workshop.write("annotations/c.json", document)
        rows = workshop.rows("coco", source, images=workshop.folder / "images")
        assert [row["query_image"] for row in rows] == ["images/red.png", "images/blue.png"]

    def test_every_loose_end_is_told_by_its_place_in_its_list(self, workshop):
        document = coco(
            images=[
                *({"id": 1, "file_name": "images/red.png"}, {"id": 1, "file_name": "twice"}),
                *("no object", {"id": [2]}, {"id": 3, "file_name": 4}, {"id": 5}, {"id": 6}),
            ],
            annotations=[
                *({"image_id": 1, "caption": "red"}, {"image_id": 9, "caption": "lost"}),
                *({"image_id": 3, "caption": None}, {"image_id": 5, "caption": " "}, 6),
                {"image_id": {}, "caption": "x"},
            ],
        )
        found = workshop.problems("coco", workshop.write("c.json", document))
        text = "\n".join(found)
        for said in (
            "c.json:images:2: id: does not tell the image from others; got {'file_name': 'twice'",
            "c.json:images:3: id: does not tell the image from others; got 'no object';",
            "c.json:images:4: id: does not tell the image from others; got {'id': [2]};",
            "c.json:annotations:2: image_id: is the id of no image",
            "c.json:annotations:5: image_id: is the id of no image; got 6;",
            "c.json:annotations:6: image_id: is the id of no image",
            "c.json:images:5: query_image: is not a string; got 4;",
            "c.json:images:5: positive[0]: has neither text nor image",
            "c.json:images:6: query: is missing",
            "c.json:images:6: positive[0]: has no visible character",
            "c.json:images:7: captions: are missing",
        ):
            assert said in text
        assert "images:1:" not in text

    @pytest.mark.parametrize(
        ("document", "said"),
        [
            ("{", "is not JSON"),
            (b"\xff\xfe", "is not JSON"),
            ([], "is not in COCO's form"),
            ({"images": [], "annotations": {}}, "is not in COCO's form"),
            (coco(annotations=[]), "holds no captions"),
            (coco(annotations=[{"image_id": 7, "bbox": [1, 2, 3, 4]}] * 3), "holds no captions"),
        ],
    )
    def test_what_is_no_captions_file_is_refused_at_once(self, workshop, document, said):
        (found,) = workshop.problems("coco", workshop.write("c.json", document))
        assert found.startswith("c.json:1: file: ")
        assert said in found
