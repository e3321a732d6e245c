"""`embed`, `index`, `search` and `mine` from the command line, one after the other."""

import json
import sys

import pytest

from jina.__main__ import main


@pytest.fixture
def run(capsys, caplog, tmp_path, monkeypatch):
    """Return a function that runs a command and returns its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO", "smartembed")

    def command(*words):
        caplog.clear()
        return main([str(word) for word in words]), caplog.text

    return command


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("a cat\nthe dog\nrain")
    return file


@pytest.fixture
def filled(run, source, fixture_folder):
    """An index of three texts, with multi vectors."""
    words = ("index", "idx", "--add", source, "--model", fixture_folder)
    code, said = run(*words, "--vectors", "single,multi")
    assert code == 0
    assert "idx: 3 items, exact search, single and multi vectors, task retrieval" in said


def test_embed_writes_shards_that_index_takes(run, source, fixture_folder, tmp_path):
    job = ("embed", source, "--model", fixture_folder, "--output", "out", "--shard-rows", 2)
    code, said = run(*job)
    assert code == 0
    assert "out: 3 items in 2 shards, 2 made now, 0 still missing, 0 items left out." in said
    assert "0 made now" in run(*job)[1]
    assert run("index", "idx", "--embedded", "out")[0] == 0
    code, said = run("search", "idx", "--text", "rain", "--top", 2)
    assert code == 0
    assert said.count("texts.txt:") == 2
    code, said = run(*job, "--precision", "float16")
    assert code == 2
    assert "dtype: differs from what the folder was started with" in said


def test_search_prints_a_table_or_json(run, filled):
    code, said = run("search", "idx", "--text", "cat")
    assert code == 0
    assert "rank   score  id" in said
    code, said = run("search", "idx", "--text", "cat", "--json", "--rerank", 0, "--top", 1)
    assert code == 0
    found = json.loads(said[said.index("{") :])
    assert found["rank"] == 1
    assert found["text"] in ("a cat", "the dog", "rain")


def test_later_additions_keep_the_settings_of_the_first(run, filled, tmp_path):
    (tmp_path / "more.txt").write_text("snow\nice")
    code, said = run("index", "idx", "--delete", "texts.txt:2", "--add", "more.txt")
    assert code == 0
    assert "Deleted 1 items." in said
    assert "idx: 4 items, exact search, single and multi vectors" in said
    _, said = run("search", "idx", "--text", "dog")
    assert "the dog" not in said
    assert "snow" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("index", "new", "--add", "texts.txt"), "--model: is missing; got none for a new index"),
        (("index", "idx", "--add", "texts.txt"), "ids: 3 are taken already; got texts.txt:1"),
        (("index", "idx", "--add", "texts.txt", "--task", "code"), "task: the index has another"),
        (("index", "idx", "--delete", "nobody"), "has no such ids; got nobody"),
        (("index", "nothing"), "nothing: is no index"),
        (("search", "idx"), "query: is empty"),
        (("search", "nothing", "--text", "a"), "nothing: is no index"),
        (("search", "idx", "--text", "a", "--url", "http://x"), "--url: a folder has none"),
        (("search", "idx", "--text", "a", "--backend", "qdrant"), "--url: is missing"),
        (("search", "idx", "--text", "a", "--model", "gone"), "gone: no such folder"),
        (("embed", "gone.txt", "--model", "gone", "--output", "o"), "gone: no such folder"),
    ],
)
def test_what_cannot_be_done_is_told_and_ends_with_code_2(run, filled, words, message):
    code, said = run(*words)
    assert code == 2
    assert message in said


def test_a_collection_in_qdrants_local_mode_answers_like_a_folder(
    run, filled, source, fixture_folder
):
    place = ("--backend", "qdrant", "--url", "qdrant")
    words = ("index", "texts", *place, "--add", source, "--model", fixture_folder)
    code, said = run(*words, "--vectors", "single,multi", "--kind", "exact")
    assert code == 0
    assert "texts: 3 items, exact search, single and multi vectors" in said
    code, said = run("search", "texts", *place, "--text", "a dog")
    assert code == 0
    tables = [
        text[text.index("rank   score") :]
        for text in (said, run("search", "idx", "--text", "a dog")[1])
    ]
    assert tables[0] == tables[1]


def test_without_its_library_a_command_says_what_to_install(
    run, source, fixture_folder, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    code, said = run("embed", source, "--model", fixture_folder, "--output", "out")
    assert code == 2
    assert "pip install 'pyarrow>=" in said


def test_mine_writes_rows_with_negatives(run, write_rows, fixture_folder, tmp_path):
    rows = [{"query": f"{n}?", "positive": text} for n, text in enumerate(("cat", "dog", "rain"))]
    words = ("mine", write_rows(rows), "--model", fixture_folder, "--output", "mined.jsonl")
    limits = ("--relative-margin", "none", "--near-duplicate", 1, "--negatives", 1)
    code, said = run(*words, *limits)
    assert code == 0
    assert "3 negatives, 1.00 a row; 0 rows got fewer than wanted." in said
    mined = [json.loads(line) for line in (tmp_path / "mined.jsonl").read_text().splitlines()]
    assert all(row["negative"] != [row["positive"]] for row in mined)
    code, said = run(*words, "--ranks", 5, 4)
    assert code == 2
    assert "--ranks: is no window; got 5 to 4" in said
