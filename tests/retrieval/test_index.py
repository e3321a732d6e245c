"""Filling and asking an index with the conformance model, in a folder."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jina.retrieval.corpus_embedding import EmbeddingSettings
from jina.retrieval.embed import EmbedJob, embed
from jina.retrieval.errors import RetrievalError
from jina.retrieval.index import Addition, add_embedded, add_sources, settings_of
from jina.retrieval.multi_vectors import max_sim
from jina.retrieval.search import Question, json_lines, search, table
from jina.retrieval.stores import Entry, Hit
from jina.retrieval.vector_index import VectorIndex

TEXTS = ["a red cat", "two dogs", "the old house", "rain", "bread and butter", "a tall tree"]


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (56, 84, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def addition(tmp_path, pictures, fixture_folder, model_loaded_once):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS))
    settings = EmbeddingSettings(model=fixture_folder, vectors=("single", "multi"))
    return Addition(sources=[texts, pictures], settings=settings)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def index(addition, path):
    assert add_sources(addition, lambda settings: VectorIndex.create(path, settings)).added == 10
    return VectorIndex(path)


def ids(hits):
    return [hit.entry.id for hit in hits]


def ask(index, addition, **question):
    return search(Question(**question), index, model=addition.settings.model, cache=None)


def test_texts_and_pictures_are_found_with_what_is_known_of_them(index, addition, pictures):
    hits = ask(index, addition, text="two dogs", top=10, candidates=0)
    assert sorted(ids(hits)) == [
        *("0.png", "1.png", "2.png", "3.png"),
        *(f"texts.txt:{number}" for number in range(1, 7)),
    ]
    found = {hit.entry.id: hit.entry for hit in hits}
    assert found["texts.txt:2"].text == "two dogs"
    assert found["1.png"].image == str(pictures / "1.png")


def test_a_picture_finds_itself(index, addition, pictures):
    hits = ask(index, addition, image=pictures / "2.png", top=1, candidates=0)
    assert ids(hits) == ["2.png"]
    assert hits[0].score == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("candidates", [0, 3, 10])
def test_an_answer_is_what_brute_force_with_the_model_gives(
    index, addition, jina_model, pictures, candidates
):
    options = {"task": "retrieval", "return_numpy": True}
    images = [pictures / f"{number}.png" for number in range(4)]
    names = [*(f"texts.txt:{n}" for n in range(1, 7)), *(image.name for image in images)]

    def embedded(**more):
        texts = jina_model.encode_text(TEXTS, prompt_name="passage", **options, **more)
        return [*texts, *jina_model.encode_image(images, **options, **more)]

    query = jina_model.encode_text("dogs", prompt_name="query", **options)
    order = np.argsort(-np.stack(embedded()) @ query)
    if candidates:
        multi = {"return_multivector": True}
        query = jina_model.encode_text("dogs", prompt_name="query", **options, **multi)
        scores, chosen = max_sim(query, embedded(**multi)), order[:candidates]
        order = chosen[np.argsort(-scores[chosen])]
    hits = ask(index, addition, text="dogs", top=candidates or 10, candidates=candidates)
    assert ids(hits) == [names[number] for number in order]


def test_a_text_and_an_image_are_one_query(index, addition, pictures):
    question = {"image": pictures / "2.png", "top": 10, "candidates": 0}
    alone = ask(index, addition, **question)
    both = ask(index, addition, text="two dogs", **question)
    assert [hit.score for hit in alone] != [hit.score for hit in both]


def test_finished_shards_make_the_index_that_their_source_makes(
    index, addition, pictures, tmp_path
):
    embed(EmbedJob(source=pictures, output=tmp_path / "shards", settings=addition.settings))
    other = tmp_path / "other"
    add_embedded(
        tmp_path / "shards",
        lambda settings: VectorIndex.create(other, settings),
        model=None,
        kind="exact",
        dtype="float32",
    )
    assert VectorIndex(other).settings == index.settings
    question = {"image": pictures / "1.png", "top": 3, "candidates": 0}
    found = ask(VectorIndex(other), addition, **question)
    index.delete([f"texts.txt:{number}" for number in range(1, 7)])
    assert found == ask(index, addition, **question)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"role": "query"}, "isn't for an index"), ({"vectors": ("multi",)}, "isn't for an index")],
)
def test_shards_that_no_index_takes_are_refused(addition, pictures, tmp_path, change, message):
    settings = replace(addition.settings, **change)
    embed(EmbedJob(source=pictures, output=tmp_path / "shards", settings=settings))
    with pytest.raises(RetrievalError, match=message):
        add_embedded(tmp_path / "shards", None, model=None, kind="exact", dtype="float32")


def test_half_precision_keeps_the_ranking_and_half_the_bytes(index, addition, tmp_path):
    half = tmp_path / "half"
    add_sources(
        replace(addition, dtype="float16"), lambda settings: VectorIndex.create(half, settings)
    )
    sizes = [sum(f.stat().st_size for f in p.glob("multi-*")) for p in (half, index.path)]
    assert sizes[0] * 2 == sizes[1]
    answers = [ask(opened, addition, text="dogs", top=10) for opened in (VectorIndex(half), index)]
    scores = [[hit.score for hit in hits] for hits in answers]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)
    assert scores[0] != scores[1]


def test_an_addition_that_fails_leaves_the_index_as_it_was(index, addition, tmp_path, path):
    with pytest.raises(RetrievalError, match="ids: 10 are taken already; got texts.txt:1"):
        add_sources(addition, lambda settings: VectorIndex.create(path, settings))
    (tmp_path / "bad.png").write_bytes(b"x")
    (tmp_path / "rows.jsonl").write_text('{"text": "new"}\n{"image": "bad.png"}\n')
    with pytest.raises(RetrievalError, match="bad.png: is in none of the formats"):
        add_sources(
            replace(addition, sources=[tmp_path / "rows.jsonl"]),
            lambda settings: VectorIndex.create(path, settings),
        )
    assert len(VectorIndex(path)) == 10


def test_ids_that_two_sources_share_are_told_before_anything_is_embedded(
    addition, pictures, path, monkeypatch
):
    monkeypatch.setattr("jina.retrieval.index.CorpusEmbedder", None)
    twice = replace(addition, sources=[pictures, pictures])
    with pytest.raises(RetrievalError, match="ids: 4 are taken already; got 0.png"):
        add_sources(twice, lambda settings: VectorIndex.create(path, settings))


def test_a_picture_that_cannot_be_decoded_is_left_out_if_asked_for(
    addition, pictures, path, caplog
):
    caplog.set_level("INFO", "smartembed")
    file = pictures / "1.png"
    file.write_bytes(file.read_bytes()[:1000])
    addition = replace(addition, sources=[pictures])
    with pytest.raises(RetrievalError, match="1.png: .*cannot be read as an image"):
        add_sources(addition, lambda settings: VectorIndex.create(path, settings))
    summary = add_sources(
        replace(addition, skips_bad_images=True),
        lambda settings: VectorIndex.create(path, settings),
    )
    assert summary.added == 3
    assert [problem.split(":")[0] for problem in summary.skipped] == ["1.png"]
    assert "1 images need attention" in caplog.text


def test_another_model_than_the_indexs_is_refused(index, tiny_folder, addition):
    with pytest.raises(RetrievalError, match="isn't the model of the index; got fingerprint"):
        search(Question(text="a"), index, model=tiny_folder, cache=None)
    kept = settings_of(index.settings, addition.settings.model, None)
    assert kept.vectors == ("single", "multi")
    assert kept.dim == index.settings.dim


def test_an_index_of_other_settings_is_refused(index, addition, path):
    other = replace(addition.settings, task="code", vectors=("single",))
    with pytest.raises(RetrievalError) as caught:
        add_sources(
            replace(addition, settings=other, sources=addition.sources[:1]),
            lambda settings: VectorIndex.create(path, settings),
        )
    assert [p.split(": ")[1] for p in caught.value.problems] == ["task", "multi_dim"]


def test_questions_that_ask_nothing_are_refused_together(tmp_path):
    with pytest.raises(RetrievalError) as caught:
        Question(text=" ", top=0, candidates=-1).check()
    assert [p.split(":")[0] for p in caught.value.problems] == ["query", "--top", "--rerank"]
    with pytest.raises(RetrievalError, match="query: is not UTF-8"):
        Question(text="a\udcff").check()
    with pytest.raises(RetrievalError, match="--image: .*does not exist"):
        Question(image=tmp_path / "gone.png").check()


HITS = [
    Hit(Entry("one", None, "/p/1.png", None), 0.5),
    Hit(Entry("two", "a\nb\x1b[31m" + "x" * 90, None, {"lang": "en"}), 0.25),
]


def test_a_table_shows_scores_and_paths_and_keeps_texts_on_their_line():
    lines = table(HITS).split("\n")
    assert lines[1].split() == ["1", "0.500", "one", "/p/1.png"]
    assert lines[2].startswith("   2   0.250  two  a b [31mxxx")
    assert len(lines) == 3
    assert lines[2].endswith("…")
    assert table([]) == "Nothing found: the index is empty."


def test_json_lines_have_everything():
    assert json_lines(HITS).split("\n")[0] == (
        '{"rank": 1, "score": 0.5, "id": "one", "text": null, "image": "/p/1.png", '
        '"metadata": null}'
    )
