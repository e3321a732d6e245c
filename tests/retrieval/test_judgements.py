"""What is asked, found and right: by content, by kind, by direction."""

import numpy as np
import pytest

from jina.data.multimodal_dataset import MultimodalDataset
from jina.retrieval.graded_pairs import GRADED_PAIR, graded_pairs_of, read_grades
from jina.retrieval.item_collections import ItemReader, collection_of, needed
from jina.retrieval.judgements import directions_of, item_id


@pytest.fixture
def read(rows, write_rows):
    """Return a function from rows to their data set; the pictures of `rows` are there."""
    return lambda own: MultimodalDataset(write_rows(own))


def directions(dataset, *, both=False, task="retrieval"):
    return {
        (d.name, d.is_reversed): d
        for d in directions_of(dataset.index, read_grades(dataset), task=task, both=both)
    }


def right(dataset, direction):
    """The relevant documents of each query, all by the text or image file they stand for."""
    reader = ItemReader(dataset)
    name = {
        identity: next(iter(reader.read([identity])))
        for identity in (*direction.queries, *direction.documents)
    }
    shown = {i: " ".join(filter(None, (item.text, item.image))) for i, item in name.items()}
    found = {shown[query]: set() for query in direction.queries}
    for (query, document), grade in zip(direction.pairs, direction.grades, strict=True):
        if grade:
            found[shown[direction.queries[query]]].add(shown[direction.documents[document]])
    return found, {shown[document] for document in direction.documents}


def test_equal_contents_are_one_query_and_one_document_relevant_to_each(read):
    dataset = read(
        [
            {"query": "a", "positive": "x"},
            {"query": "a", "positive": ["y", "x"]},
            {"query": "b", "positive": "y"},
        ]
    )
    (direction,) = directions(dataset).values()
    assert right(dataset, direction) == ({"a": {"x", "y"}, "b": {"y"}}, {"x", "y"})


def test_a_hard_negative_is_a_document_and_no_answer(read):
    dataset = read([{"query": "a", "positive": "x", "negative": ["n", "m"]}])
    (direction,) = directions(dataset).values()
    assert right(dataset, direction) == ({"a": {"x"}}, {"x", "n", "m"})


def test_a_negative_that_another_row_has_as_positive_is_right_for_its_query_alone(read):
    dataset = read(
        [{"query": "a", "positive": "x", "negative": "y"}, {"query": "b", "positive": "y"}]
    )
    (direction,) = directions(dataset).values()
    assert right(dataset, direction)[0] == {"a": {"x"}, "b": {"y"}}


def test_a_direction_is_named_by_what_stands_on_each_side(read):
    dataset = read(
        [
            {"query_image": "red.png", "positive": "red"},
            {"query": "a", "positive": ["x", None], "positive_image": [None, "blue.png"]},
            {"query": "in red", "query_image": "blue.png", "positive_image": "red.png"},
        ]
    )
    found = directions(dataset)
    names = ["image→text", "text+image→image", "text→image", "text→text"]
    assert sorted(name for name, _ in found) == names
    assert right(dataset, found["text→text", False]) == ({"a": {"x"}}, {"red", "x"})
    assert right(dataset, found["text→image", False])[1] == {"blue.png", "red.png"}


def test_a_reversed_direction_ranks_queries_for_each_positive(read):
    dataset = read(
        [
            {"query_image": "red.png", "positive": ["red", "rot"], "negative": "n"},
            {"query_image": "blue.png", "positive": "blue"},
        ]
    )
    back = directions(dataset, both=True)["text→image", True]
    expected = {"red": {"red.png"}, "rot": {"red.png"}, "blue": {"blue.png"}}
    assert right(dataset, back) == (expected, {"red.png", "blue.png"})
    assert ("text→image", True) not in directions(dataset)


def test_the_same_picture_under_two_names_is_one_document(read, tmp_path):
    (tmp_path / "copy.png").write_bytes((tmp_path / "red.png").read_bytes())
    dataset = read(
        [{"query": "a", "positive_image": "red.png"}, {"query": "b", "positive_image": "copy.png"}]
    )
    (direction,) = directions(dataset).values()
    assert len(direction.documents) == 1
    assert direction.pairs.tolist() == [[0, 0], [1, 0]]


def test_rows_of_another_task_take_no_part(read):
    dataset = read(
        [{"query": "a", "positive": "x"}, {"query": "b", "positive": "y", "task": "code"}]
    )
    (direction,) = directions(dataset, task="code").values()
    assert right(dataset, direction) == ({"b": {"y"}}, {"y"})


def test_a_copy_of_the_query_is_set_aside_unless_it_is_the_answer(read):
    dataset = read(
        [
            {"query": "a", "positive": "b"},
            {"query": "b", "positive": "b"},
            {"query": "c", "positive": "a"},
        ]
    )
    (direction,) = directions(dataset).values()
    ids = [item_id(identity) for identity in direction.documents]
    own = {
        item_id(query): place
        for query, place in zip(direction.queries, direction.own_copies(), strict=True)
    }
    by_text = {
        next(iter(ItemReader(dataset).read([q]))).text: item_id(q) for q in direction.queries
    }
    assert own[by_text["a"]] == ids.index(by_text["a"])
    assert own[by_text["b"]] == -1  # it is its own answer
    assert own[by_text["c"]] == -1  # no document


def test_ids_sort_as_their_numbers_do(read):
    dataset = read([{"query": f"q{i}", "positive": f"p{i}"} for i in range(50)])
    (direction,) = directions(dataset).values()
    ids = [item_id(identity) for identity in direction.documents]
    assert ids == sorted(ids)
    assert {len(one) for one in ids} == {16}


class TestScores:
    def test_a_score_is_the_grade_of_all_positives_and_the_highest_counts(self, read):
        dataset = read(
            [
                {"query": "a", "positive": ["x", "y"], "score": 2},
                {"query": "a", "positive": "x", "score": 0},
                {"query": "b", "positive": "x", "score": 0},
            ]
        )
        (direction,) = directions(dataset).values()
        assert sorted(direction.grades.tolist()) == [0, 2, 2]
        assert sorted(direction.has_answer().tolist()) == [False, True]

    def test_half_a_grade_is_refused_with_its_line(self, read):
        dataset = read([{"query": "a", "positive": "x", "score": 0.5}])
        with pytest.raises(ValueError, match=r"train\.jsonl:1: score: is no relevance; got 0\.5"):
            read_grades(dataset)

    def test_rows_of_text_matching_with_a_score_are_pairs_and_not_ranked(self, read):
        dataset = read(
            [
                {"query": "a", "positive": "x", "score": 2.5, "task": "text-matching"},
                {"query": "a", "positive": "y", "score": 0, "task": "text-matching"},
                {"query": "c", "positive": "z", "task": "text-matching"},
            ]
        )
        grades = read_grades(dataset)
        assert grades.tolist() == [GRADED_PAIR, GRADED_PAIR, 1]
        (pairs,) = graded_pairs_of(dataset, grades, task="text-matching")
        assert pairs.scores.tolist() == [2.5, 0]
        assert (len(pairs.queries), len(pairs.documents)) == (1, 2)
        (direction,) = directions(dataset, task="text-matching").values()
        assert right(dataset, direction) == ({"c": {"z"}}, {"z"})
        assert graded_pairs_of(dataset, grades, task="retrieval") == []


class TestCollections:
    def test_a_picture_is_embedded_once_for_both_sides(self, read):
        dataset = read([{"query_image": "red.png", "positive_image": "red.png", "negative": "x"}])
        found = needed(directions(dataset, both=True).values())
        assert {tuple(name): len(ids) for name, ids in found.items()} == {("image", "query"): 1}

    def test_a_text_is_embedded_for_each_side_it_stands_on(self, read):
        dataset = read([{"query": "a", "positive": "x"}])
        found = needed(directions(dataset, both=True).values())
        sizes = {tuple(name): len(ids) for name, ids in found.items()}
        assert sizes == {("text", "query"): 2, ("text", "passage"): 2}

    def test_text_matching_has_one_role(self):
        assert collection_of("text", "passage", task="text-matching").role == "query"
        assert collection_of("text", "passage", task="code").role == "passage"

    def test_items_are_read_from_where_they_first_stand(self, read):
        dataset = read(
            [
                {"query": "a", "positive": ["x", "y"], "negative": ["n", "m"]},
                {"query_image": "red.png", "query": "a", "positive": "y"},
            ]
        )
        (direction, _) = directions(dataset).values()
        reader = ItemReader(dataset)
        every = np.concatenate([direction.documents, direction.queries])
        texts = {item.text: item.where.rpartition(":")[2] for item in reader.read(every)}
        assert texts == {
            "x": " positive[0]", "y": " positive[1]", "n": " negative[0]", "m": " negative[1]",
            "a": " query",
        }  # fmt: skip
        assert all(reader.where(one).split(": ")[0].endswith("train.jsonl:1") for one in every)
