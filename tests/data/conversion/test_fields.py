"""`--map` and `--set`: what goes where, and what is refused before a row is read."""

from pathlib import Path

import pytest


class TestMap:
    def test_a_mapped_field_is_not_taken_from_the_column_of_its_name(self, workshop):
        source = workshop.write("t.csv", "query,positive,title\nq,p,t\n")
        assert workshop.rows("csv", source, "query=title") == [{"query": "t", "positive": "p"}]

    def test_parts_of_metadata_are_gathered(self, workshop):
        source = workshop.write("t.csv", "query,positive,metadata.lang,w\nq,p,en,8\nr,s,,\n")
        assert workshop.rows("csv", source, "metadata.width=w") == [
            {"query": "q", "positive": "p", "metadata": {"lang": "en", "width": "8"}},
            {"query": "r", "positive": "s"},
        ]

    def test_metadata_of_the_source_is_added_to(self, workshop):
        row = {"query": "q", "positive": "p", "metadata": {"a": 1}, "w": 8}
        rows = workshop.rows("jsonl", workshop.write("t.jsonl", row), "metadata.b=w")
        assert rows[0]["metadata"] == {"a": 1, "b": 8}

    def test_several_columns_make_a_list_without_its_empty_places(self, workshop):
        source = workshop.write("t.csv", "a,b,c,d\n1,2,3,4\n5,,7,\n")
        maps = ("query=a", "positive=b", "positive=c", "negative=d", "negative=c")
        assert workshop.rows("csv", source, *maps) == [
            {"query": "1", "positive": ["2", "3"], "negative": ["4", "3"]},
            {"query": "5", "positive": ["7"], "negative": ["7"]},
        ]

    def test_several_columns_that_are_all_empty_are_no_list(self, workshop):
        source = workshop.write("t.csv", "query,positive,m,n\nq,p,,\n")
        rows = workshop.rows("csv", source, "negative=m", "negative=n")
        assert rows == [{"query": "q", "positive": "p"}]

    def test_several_columns_for_a_query_make_a_row_each(self, workshop):
        source = workshop.write("t.csv", "positive,m,n\np,x,y\nq,,z\n")
        rows = workshop.rows("csv", source, "query=m", "query=n")
        assert [(row["query"], row["positive"]) for row in rows] == [
            ("x", "p"),
            ("y", "p"),
            ("z", "q"),
        ]

    def test_what_is_wrong_with_a_row_of_several_queries_is_told_once(self, workshop):
        row = {"query": ["a", "b", "c"], "positive_image": "gone.png"}
        assert len(workshop.problems("jsonl", workshop.write("t.jsonl", row))) == 1

    def test_texts_and_images_of_several_columns_stay_pairs(self, workshop):
        source = workshop.write(
            "t.csv",
            "q,t1,i1,t2,i2,t3,i3\n"
            "x,one,,,,three,images/red.png\n"
            "y,one,images/blue.png,two,,three,images/red.png\n",
        )
        maps = [
            f"positive{kind}={name}{n}"
            for n in "123"
            for kind, name in (("", "t"), ("_image", "i"))
        ]
        rows = workshop.rows("csv", source, "query=q", *maps)
        assert rows == [
            {
                "query": "x",
                "positive": ["one", "three"],
                "positive_image": [None, "images/red.png"],
            },
            {
                "query": "y",
                "positive": ["one", "two", "three"],
                "positive_image": ["images/blue.png", None, "images/red.png"],
            },
        ]

    def test_lists_in_several_columns_are_laid_end_to_end(self, workshop):
        row = {"query": "q", "title": "t", "captions": ["c", "d"]}
        source = workshop.write("t.jsonl", row)
        rows = workshop.rows("jsonl", source, "positive=title", "positive=captions")
        assert rows[0]["positive"] == ["t", "c", "d"]

    def test_a_list_of_queries_with_images_makes_a_row_for_each_pair(self, workshop):
        row = {
            "query": ["in red", None],
            "query_image": ["images/blue.png", "images/green.png"],
            "positive": "p",
        }
        assert workshop.rows("jsonl", workshop.write("t.jsonl", row)) == [
            {"query": "in red", "query_image": "images/blue.png", "positive": "p"},
            {"query": None, "query_image": "images/green.png", "positive": "p"},
        ]

    @pytest.mark.parametrize("query", [[], [["a"]], [3]])
    def test_queries_that_are_no_texts_are_refused_and_not_lost(self, workshop, query):
        source = workshop.write("t.jsonl", {"query": query, "positive": "p"})
        assert workshop.problems("jsonl", source)[0].startswith("t.jsonl:1: query: is ")

    def test_queries_and_images_of_unequal_number_are_refused(self, workshop):
        row = {"query": ["a", "b"], "query_image": ["images/red.png"], "positive": "p"}
        found = workshop.problems("jsonl", workshop.write("t.jsonl", row))
        assert any("is a list" in problem for problem in found)


class TestSet:
    def test_a_constant_is_in_every_row_and_goes_before_a_column(self, workshop):
        source = workshop.write("t.csv", "query,positive,source\na,b,x\nc,d,\n")
        options = {"constants": ("source=mine", "metadata.license=MIT", "score=0.5")}
        rows = workshop.rows("csv", source, **options)
        assert [(row["source"], row["score"], row["metadata"]) for row in rows] == [
            ("mine", 0.5, {"license": "MIT"})
        ] * 2

    def test_a_constant_may_be_one_side(self, workshop):
        source = workshop.write("t.csv", "caption\nred\n")
        options = {"constants": ("query_image=images/red.png",)}
        (row,) = workshop.rows("csv", source, "positive=caption", **options)
        assert row == {"query_image": "images/red.png", "positive": "red"}

    def test_a_value_may_hold_an_equals_sign(self, workshop):
        source = workshop.write("t.csv", "query,positive\na,b\n")
        assert workshop.rows("csv", source, constants=["source=a=b"])[0]["source"] == "a=b"


class TestRefused:
    def test_all_bad_options_are_told_at_once_with_the_nearest_name(self, workshop):
        source = workshop.write("t.csv", "query,positive\na,b\n")
        workshop.write("out.jsonl", "mine")
        *found, last = workshop.problems(
            "csv",
            source,
            *("querry=query", "positive", "metadata.=x", "source=query"),
            constants=["source=a", "task=code", "task=code", "lang="],
            split="train=1",
            images=Path("nowhere"),
        )
        assert found == [
            "--map: is not a known field; got 'querry'; did you mean \"query\"?",
            "--map: is not field=…; got 'positive'; write such as query=title",
            "--map: is not a known field; got 'metadata.'; did you mean \"metadata\"?",
            "--set source: gives a value to a field that has one; got 'a'; give it once",
            "--set task: gives a value to a field that has one; got 'code'; give it once",
            "--set: is not field=…; got 'lang='; write such as query=title",
            "--split: is not name=fraction; got 'train=1'; write such as train=0.9,eval=0.1",
            "--images: is not a folder; got 'nowhere'; correct the path",
        ]
        assert last.startswith("--output: exists; got")
        assert last.endswith("; add --overwrite")

    def test_columns_that_are_not_there_are_told_with_the_nearest(self, workshop):
        source = workshop.write("t.csv", "image,caption\na,b\n")
        assert workshop.problems("csv", source, "query_image=imgae", "metadata.x=zzz") == [
            "--map query_image: is not a column; got 'imgae'; did you mean \"image\"?",
            "--map metadata.x: is not a column; got 'zzz'; known: image, caption",
            "--map positive: comes from no column; got ['image', 'caption']; "
            "add --map positive=… or positive_image=…",
        ]

    def test_the_sides_of_coco_are_no_longer_guessed_once_one_is_given(self, workshop):
        document = {"images": [{"id": 1, "file_name": "f"}], "annotations": [{"caption": "c"}]}
        found = workshop.problems("coco", workshop.write("c.json", document), "query=captions")
        assert found == [
            "--map positive: comes from no column; got ['id', 'file_name', 'captions']; "
            "add --map positive=… or positive_image=…"
        ]
