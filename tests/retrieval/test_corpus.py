"""What sources hold, and what is wrong with them, told before anything is embedded."""

import json

import pytest
from PIL import Image

from jina.data.records import Item
from jina.retrieval.corpus import CorpusItem, open_corpus
from jina.retrieval.errors import RetrievalError


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "deep/c.webp", ".hidden.png"):
        Image.new("RGB", (20, 30), "red").save(folder / name)
    (folder / "notes.md").write_text("no image")
    return folder


def problems_of(*arguments, **options):
    with pytest.raises(RetrievalError) as caught:
        open_corpus(*arguments, **options)
    return caught.value.problems


def test_a_corpus_file_gives_texts_images_ids_and_metadata(tmp_path, pictures, write_rows):
    rows = [
        {"text": "a cat", "id": "cat", "metadata": {"lang": "en"}},
        {"image": "pictures/b.png", "id": 7},
        {"text": "both", "image": "pictures/b.png", "metadata": None},
    ]
    corpus = open_corpus(write_rows(rows, "corpus.jsonl"))
    assert list(corpus) == [
        CorpusItem("cat", Item("a cat"), {"lang": "en"}),
        CorpusItem("7", Item(None, "pictures/b.png")),
        CorpusItem("corpus.jsonl:3", Item("both", "pictures/b.png")),
    ]
    assert len(corpus) == 3
    assert corpus.root == tmp_path


def test_one_side_of_training_rows_is_a_corpus(write_rows):
    file = write_rows(
        [
            {"query": "q", "positive": ["a", "b"], "metadata": {"n": 1}},
            {"query": "r", "positive": "c", "negative": ["x"]},
        ]
    )
    assert list(open_corpus(file, side="positive")) == [
        CorpusItem("train.jsonl:1[0]", Item("a"), {"n": 1}),
        CorpusItem("train.jsonl:1[1]", Item("b"), {"n": 1}),
        CorpusItem("train.jsonl:2", Item("c")),
    ]
    assert [item.item.text for item in open_corpus(file, side="query")] == ["q", "r"]
    assert [item.item.text for item in open_corpus(file, side="negative")] == ["x"]


def test_lines_of_text_are_a_corpus(tmp_path):
    file = tmp_path / "lines.txt"
    file.write_bytes("a cat\r\nzwei\u2028Hälften\nthe end".encode())
    found = [(item.id, item.item.text) for item in open_corpus(file)]
    assert found == [
        ("lines.txt:1", "a cat"),
        ("lines.txt:2", "zwei\u2028Hälften"),
        ("lines.txt:3", "the end"),
    ]


def test_a_folder_of_images_is_a_corpus_in_the_order_of_paths(pictures):
    corpus = open_corpus(pictures)
    assert [item.id for item in corpus] == ["a.JPG", "b.png", "deep/c.webp"]
    assert all(item.item == Item(None, item.id) for item in corpus)
    assert corpus.root == pictures


def test_everything_that_is_wrong_is_told_at_once(tmp_path, write_rows):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    rows = [
        {"text": "a", "id": "x"},
        {"text": "b", "id": "x"},
        {"txt": "c"},
        {"image": "missing.png"},
        {"image": "bad.png"},
        {"text": "  "},
        {"query": "d", "positive": "e"},
        {"text": "f", "metadata": [1]},
        {"image": "../outside.png"},
    ]
    told = "\n".join(problems_of(write_rows(rows, "c.jsonl")))
    for part in (
        "id: stands twice in the corpus; got 'x'",
        "c.jsonl:3: txt: is not a known field; got 'txt'; did you mean \"text\"?",
        "c.jsonl:4: missing.png: does not exist",
        "c.jsonl:5: bad.png: is in none of the formats",
        "c.jsonl:6: text: has no visible character",
        "c.jsonl:7: query: belongs to training rows",
        "name its side, as in --side query",
        "c.jsonl:8: metadata: is not an object",
        "outside.png",
    ):
        assert part in told


def test_a_file_name_that_is_no_text_is_told(pictures):
    (pictures / "b\udcff.png").write_bytes((pictures / "b.png").read_bytes())
    (told,) = problems_of(pictures)
    assert "has a name that is not UTF-8" in told
    told.encode("utf-8")


def test_blank_and_broken_lines_of_text_are_told(tmp_path):
    file = tmp_path / "lines.txt"
    file.write_bytes(b"good\n\n\xff\n")
    told = problems_of(file)
    assert "lines.txt:2: text: is blank" in told[0]
    assert "lines.txt:3: text: is not UTF-8" in told[1]


def test_sources_of_no_known_kind_are_refused(tmp_path, pictures, write_rows):
    (tmp_path / "x.csv").write_text("a")
    assert "is of no known kind" in problems_of(tmp_path / "x.csv")[0]
    assert "side: cannot be read" in problems_of(pictures, side="query")[0]
    assert "side: cannot be read" in problems_of(write_rows([{"text": "a"}]), side="answer")[0]
    (tmp_path / "empty").mkdir()
    assert "holds nothing to embed" in problems_of(tmp_path / "empty")[0]


def test_the_digest_changes_with_the_text_and_with_an_image(tmp_path, pictures, write_rows):
    rows = [{"image": "pictures/b.png"}, {"text": "a"}]
    digests = {open_corpus(write_rows(rows)).digest}
    assert digests == {open_corpus(write_rows(rows)).digest}
    digests.add(open_corpus(write_rows([rows[0], {"text": "b"}])).digest)
    Image.new("RGB", (20, 31), "red").save(pictures / "b.png")
    digests.add(open_corpus(write_rows(rows)).digest)
    assert len(digests) == 3


def test_a_source_that_turns_bad_after_the_check_stops_the_reading(tmp_path, write_rows):
    corpus = open_corpus(write_rows([{"text": "a"}, {"text": "b"}]))
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "a"}) + "\n{}\n")
    with pytest.raises(RetrievalError, match="train.jsonl:2: text: is missing"):
        list(corpus)
