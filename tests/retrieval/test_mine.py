"""Mined negatives: never a right answer, the ones brute force finds, and told where from."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from jina.data.validation import scan
from jina.retrieval.errors import RetrievalError
from jina.retrieval.fingerprint import model_fingerprint
from jina.retrieval.mine import MineJob, mine
from jina.retrieval.mining_rows import OutputRows
from jina.retrieval.negative_selection import SelectionRules

LENIENT = SelectionRules(
    count=100, relative_margin=None, absolute_margin=None, near_duplicate=1.0, last_rank=100
)
WORDS = ["a red cat", "two dogs", "the old house", "rain", "bread and butter", "a tall tree"]


def read_rows(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def job(tmp_path, fixture_folder, write_rows, model_loaded_once):
    """Texts whose questions are distinct; every answer of the others is a candidate."""
    rows = [{"query": f"what is {number}?", "positive": word} for number, word in enumerate(WORDS)]
    return MineJob(
        files=[write_rows(rows)],
        output=tmp_path / "mined.jsonl",
        model=fixture_folder,
        rules=LENIENT,
        max_text_tokens=512,
        cache=tmp_path / "cache",
    )


def negatives_of(job):
    mine(job)
    return [row.get("negative", []) for row in read_rows(job.output)]


def test_without_limits_every_other_answer_is_a_negative_by_falling_score(job, jina_model):
    found = negatives_of(job)
    options = {"task": "retrieval", "return_numpy": True}
    questions = [f"what is {number}?" for number in range(len(WORDS))]
    queries = jina_model.encode_text(questions, prompt_name="query", **options)
    answers = jina_model.encode_text(WORDS, prompt_name="passage", **options)
    for number, scores in enumerate(queries @ answers.T):
        order = [WORDS[i] for i in np.argsort(-scores) if i != number]
        assert found[number] == order


def test_provenance_stands_in_the_metadata(job, jina_model):
    mine(replace(job, rules=replace(LENIENT, count=2)))
    row = read_rows(job.output)[0]
    (mined,) = row["metadata"]["mined"]
    assert mined["model"] == model_fingerprint(job.model)
    assert mined["task"] == "retrieval"
    assert [entry["rank"] for entry in mined["negatives"]] == [1, 2]
    options = {"task": "retrieval", "return_numpy": True}
    query = jina_model.encode_text("what is 0?", prompt_name="query", **options)
    texts = [WORDS[0], *row["negative"]]
    expected = jina_model.encode_text(texts, prompt_name="passage", **options) @ query
    scores = [mined["positive_score"], *(entry["score"] for entry in mined["negatives"])]
    assert scores == pytest.approx(expected, abs=1e-5)
    where = f"{job.files[0]}:{WORDS.index(row['negative'][0]) + 1}: positives[0]"
    assert mined["negatives"][0]["id"] == where


def test_a_margin_below_the_positive_is_kept(job):
    mine(replace(job, rules=replace(LENIENT, relative_margin=0.99, near_duplicate=0.999)))
    rows = read_rows(job.output)
    runs = [row["metadata"]["mined"][0] for row in rows if "negative" in row]
    assert runs
    for run in runs:
        limit = run["positive_score"] * 0.99 + 1e-6
        assert all(entry["score"] < limit for entry in run["negatives"])
    assert sum(len(run["negatives"]) for run in runs) < len(WORDS) * (len(WORDS) - 1)


def test_no_positive_of_the_same_question_is_a_negative_in_another_row(job, write_rows):
    rows = [
        {"query": "what is it?", "positive": ["a cat", "eine Katze"]},
        {"query": "what is it?", "positive": "un chat"},
        {"query": "and this?", "positive": "a dog"},
    ]
    found = negatives_of(replace(job, files=[write_rows(rows)]))
    assert found[:2] == [["a dog"], ["a dog"]]
    assert sorted(found[2]) == ["a cat", "eine Katze", "un chat"]


def test_texts_that_differ_in_case_and_spaces_are_the_same_answer(job, write_rows):
    rows = [{"query": "1", "positive": "a cat"}, {"query": "2", "positive": " A  CAT"}]
    assert negatives_of(replace(job, files=[write_rows(rows)])) == [[], []]


@pytest.fixture
def picture_job(job, tmp_path, write_rows):
    """Two pictures, each also as a pixel-equal copy under another name and format."""
    for number, name in enumerate(("cat", "dog", "sun")):
        pixels = np.random.default_rng(number).integers(0, 256, (56, 56, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        Image.fromarray(pixels).save(tmp_path / f"copy of {name}.bmp")
    rows = [
        {"query": "a cat", "positive_image": "cat.png"},
        {"query": "a kitten", "positive_image": "copy of cat.bmp"},
        {"query": "a dog", "positive_image": "dog.png", "negative_image": ["sun.png"]},
        {"query": "a puppy", "positive": "text and", "positive_image": "copy of dog.bmp"},
    ]
    return replace(job, files=[write_rows(rows)])


def test_a_pixel_equal_copy_of_the_positive_is_no_negative(picture_job, tmp_path):
    mine(picture_job)
    rows = read_rows(picture_job.output)
    cats, dogs = {"cat.png", "copy of cat.bmp"}, {"dog.png", "copy of dog.bmp"}
    for row, own in zip(rows, (cats, cats, dogs, dogs), strict=True):
        images = row["negative_image"]
        assert images
        assert not own & set(images)
    assert set(rows[0]["negative_image"]) >= {"dog.png", "sun.png"}


@pytest.fixture
def random_vectors(monkeypatch):
    """Give each content a random vector of its own, so that anything may rank high."""

    def embed(self, contents, role):
        seeds = [int.from_bytes(content.key, "big") for content in contents]
        vectors = np.stack([np.random.default_rng(seed).normal(size=6) for seed in seeds])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    monkeypatch.setattr("jina.retrieval.mining_vectors.ContentEmbedder.embed", embed)


def random_rows(seed):
    """Rows over few texts and pictures, so that queries share positives, in many shapes."""
    random = np.random.default_rng(seed)
    texts = ["a", "A ", "b", "c", "d", "e"]
    images = ["cat.png", "copy of cat.bmp", "dog.png", "copy of dog.bmp", "sun.png"]

    def item(side):
        text, image = random.choice(texts), random.choice(images)
        shape = random.integers(3)
        fields = {side: str(text)} if shape != 1 else {}
        return fields | ({f"{side}_image": str(image)} if shape else {})

    return [item("query") | item("positive") for _ in range(12)]


def right_answers(rows):
    """Return (query, what is a right answer to it) of each row, by text and by picture."""

    def parts(row, side):
        image = row.get(f"{side}_image", "").replace("copy of ", "").split(".")[0]
        return row.get(side, "").strip().lower(), image

    found = [(parts(row, "query"), parts(row, "positive")) for row in rows]
    return [(query, [answer for other, answer in found if other == query]) for query, _ in found]


def agree(one, other):
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a and b]
    return bool(pairs) and all(a == b for a, b in pairs)


def wrong_negatives(rows, mined):
    """Return the mined negatives that are right answers, or the query itself."""
    wrong = []
    for row, (query, answers) in zip(mined, right_answers(rows), strict=True):
        count = max(len(row.get("negative", [])), len(row.get("negative_image", [])))
        for index in range(count):
            text = (row.get("negative") or [None] * count)[index] or ""
            image = (row.get("negative_image") or [None] * count)[index] or ""
            negative = text.strip().lower(), image.replace("copy of ", "").split(".")[0]
            wrong += [negative] * (negative == query or any(agree(negative, a) for a in answers))
    return wrong


@pytest.mark.parametrize("seed", range(8))
def test_no_right_answer_is_ever_mined_whatever_the_rows(
    picture_job, random_vectors, write_rows, seed, monkeypatch
):
    rows = random_rows(seed)
    job = replace(picture_job, files=[write_rows(rows)], overwrite=True)
    assert mine(job).negatives > 20
    assert not wrong_negatives(rows, read_rows(job.output))
    monkeypatch.setattr("jina.retrieval.mining_rankings.Rankings._blocked", lambda *_: {-1})
    mine(job)
    assert wrong_negatives(rows, read_rows(job.output))  # so the check can see them


def test_negatives_that_are_there_stay_first_and_are_not_mined_again(picture_job):
    mine(picture_job)
    row = read_rows(picture_job.output)[2]
    assert row["negative_image"][0] == "sun.png"
    assert row["negative_image"].count("sun.png") == 1
    assert len(row["metadata"]["mined"][0]["negatives"]) == len(row["negative_image"]) - 1


def test_the_output_passes_the_check_of_training_data(picture_job):
    mine(picture_job)
    found = scan([picture_job.output], deep=True)
    assert not found.problems
    assert len(found.index) == 4
    assert found.index.negatives.counts.min() > 0


def test_a_corpus_takes_the_place_of_the_rows_own_answers(picture_job, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"text": "a thing", "id": "thing"}, {"image": "copy of cat.bmp"}, {"text": "A CAT"}]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    mine(replace(picture_job, corpus=[corpus]))
    first, _, third, _ = read_rows(picture_job.output)
    assert first["negative"] == ["a thing"]  # not the copy, nor the query's own text
    assert "negative_image" not in first
    assert set(third["negative"]) == {None, "a thing", "A CAT"}
    ids = [entry["id"] for entry in first["metadata"]["mined"][0]["negatives"]]
    assert ids == ["thing"]


def test_near_duplicates_of_a_positive_are_no_negatives(job, jina_model):
    options = {"task": "retrieval", "prompt_name": "passage", "return_numpy": True}
    answers = jina_model.encode_text(WORDS, **options)
    likeness = answers @ answers.T
    np.fill_diagonal(likeness, 0)
    middle = np.sort(likeness[np.triu_indices(6, 1)])[6:8]  # of fifteen pairs
    assert middle[1] - middle[0] > 1e-5  # so that rounding doesn't decide
    threshold = float(middle.mean())
    found = negatives_of(replace(job, rules=replace(LENIENT, near_duplicate=threshold)))
    expected = [
        {WORDS[j] for j in range(6) if j != i and likeness[i, j] < threshold} for i in range(6)
    ]
    assert [set(texts) for texts in found] == expected
    assert any(texts for texts in found)


@pytest.mark.parametrize(
    ("limit", "option"),
    [
        ({"near_duplicate": 1e-9}, "--near-duplicate"),
        ({"absolute_margin": 1.99}, "--relative-margin and --absolute-margin"),
    ],
)
def test_rows_that_all_stay_without_negatives_are_told_what_to_change(job, limit, option):
    lines = list(mine(replace(job, rules=replace(LENIENT, **limit))).lines())
    assert lines[-1] == (
        f"No negatives: mine with a model that tells these apart, or change {option}."
    )
    assert "No negatives" not in str(list(mine(replace(job, overwrite=True)).lines()))


def test_a_graph_finds_what_looking_at_all_finds_in_a_small_corpus(job):
    exact = negatives_of(job)
    assert negatives_of(replace(job, is_exact=False, overwrite=True)) == exact


def test_the_same_seed_draws_the_same_negatives(job):
    rules = replace(LENIENT, sampling="random", count=2)
    first = negatives_of(replace(job, rules=rules))
    assert negatives_of(replace(job, rules=rules, overwrite=True)) == first
    other = replace(rules, seed=1)
    assert negatives_of(replace(job, rules=other, overwrite=True)) != first


def test_a_second_start_embeds_nothing_and_finds_the_same(job):
    first = mine(job)
    content = job.output.read_bytes()
    second = mine(replace(job, overwrite=True))
    assert (first.embedded, second.embedded) == (12, 0)
    assert job.output.read_bytes() == content


def test_a_changed_weight_makes_all_vectors_anew(job, tmp_path):
    folder = shutil.copytree(job.model, tmp_path / "model")
    assert mine(replace(job, model=folder)).embedded == 12
    file = folder / "adapters/adapter_model.safetensors"
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if "lora_B" in name and "retrieval" in name:
            tensor.view(-1)[0] += 0.5
    save_file(tensors, file, {"format": "pt"})
    assert mine(replace(job, model=folder, overwrite=True)).embedded == 12


def test_renaming_things_embeds_nothing_and_changing_one_embeds_one(job, tmp_path, write_rows):
    mine(job)
    moved = job.files[0].rename(tmp_path / "other name.jsonl")
    shutil.copytree(job.model, tmp_path / "model")
    same = replace(job, files=[moved], model=tmp_path / "model", overwrite=True)
    assert mine(same).embedded == 0
    moved.write_text(moved.read_text().replace("rain", "snow"))
    assert mine(same).embedded == 1


def test_another_size_of_vectors_is_another_cache(job, jina_model):
    mine(job)
    dim = min(jina_model.config.matryoshka_dims)
    assert mine(replace(job, dim=dim, overwrite=True)).embedded == 12


def test_a_second_run_adds_to_the_negatives_of_the_first(job):
    mine(replace(job, rules=replace(LENIENT, count=2)))
    again = job.output.with_name("again.jsonl")
    mine(replace(job, files=[job.output], output=again, rules=replace(LENIENT, count=2)))
    for before, after in zip(read_rows(job.output), read_rows(again), strict=True):
        assert after["negative"][:2] == before["negative"]
        assert len(set(after["negative"])) == 4
        assert len(after["metadata"]["mined"]) == 2


def test_rows_without_negatives_stay_as_they_are(job):
    rules = replace(LENIENT, first_rank=90)
    summary = mine(replace(job, rules=rules))
    assert (summary.negatives, summary.short) == (0, 6)
    assert read_rows(job.output) == read_rows(job.files[0])


def test_paths_are_written_as_seen_from_the_output(picture_job, tmp_path):
    output = tmp_path / "deep" / "mined.jsonl"
    with pytest.raises(RetrievalError, match=r"images lie outside .*deep; got .*png"):
        mine(replace(picture_job, output=output))
    assert not output.exists()
    mine(replace(picture_job, output=output, image_base_dir=tmp_path))
    assert read_rows(output)[0]["positive_image"] == "cat.png"
    above = replace(picture_job, image_base_dir=tmp_path.parent)
    above.files[0].write_text(
        json.dumps({"query": "a", "positive_image": f"{tmp_path.name}/cat.png"}) + "\n"
    )
    mine(replace(above, output=output, overwrite=True))
    assert read_rows(output)[0]["positive_image"] == f"{tmp_path.name}/cat.png"


def test_rows_of_several_tasks_need_one_named(job, write_rows):
    rows = [{"query": "a", "positive": "b"}, {"query": "c", "positive": "d", "task": "code"}]
    mixed = replace(job, files=[write_rows(rows)])
    with pytest.raises(RetrievalError, match="rows are of several; got code, retrieval"):
        mine(mixed)
    assert mine(replace(mixed, task="code")).negatives == 2
    assert read_rows(job.output)[0]["metadata"]["mined"][0]["task"] == "code"


def test_bad_input_is_told_and_nothing_is_written(job, write_rows, monkeypatch):
    rows = [
        {"query": "a", "positve": "b"},
        {"query": "a", "positive": "b", "metadata": {"mined": "gold"}},
        {"query": "a", "positive_image": "gone.png"},
    ]
    for number, message in enumerate(("positve: is not a known", "metadata.mined: is taken")):
        with pytest.raises(RetrievalError, match=message):
            mine(replace(job, files=[write_rows(rows[number:2])]))
    with pytest.raises(RetrievalError, match="train.jsonl:1: positive_image: .*does not exist"):
        mine(replace(job, files=[write_rows(rows[2:])]))
    with pytest.raises(RetrievalError, match="no rows; got none"):
        mine(replace(job, files=[write_rows([])]))
    assert not job.output.exists()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda text: text.replace("rain", "snow"), 4),
        (lambda text: text.replace("positive", "positve"), 1),
        (lambda text: text + '{"query": "more", "positive": "x"}\n', 7),
        (lambda text: text[: text.rindex('{"query"')], 6),
    ],
    ids=["changed", "broken", "added", "removed"],
)
def test_a_file_that_changes_while_mining_stops_it(job, monkeypatch, change, line):
    class Meddling(OutputRows):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            job.files[0].write_text(change(job.files[0].read_text()))

    monkeypatch.setattr("jina.retrieval.mine.OutputRows", Meddling)
    with pytest.raises(RetrievalError, match=f"train.jsonl:{line}: line: has changed while"):
        mine(job)
    assert not job.output.exists()


def test_an_output_that_exists_or_is_an_input_is_refused(job, monkeypatch):
    with pytest.raises(RetrievalError, match="--output: is an input"):
        mine(replace(job, output=job.files[0], overwrite=True))
    job.output.write_text("precious")
    with pytest.raises(RetrievalError, match="--output: exists"):
        mine(job)
    assert job.output.read_text() == "precious"
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RetrievalError, match="runs in one process; got 2"):
        mine(replace(job, overwrite=True))
