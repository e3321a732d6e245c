"""From rows to a packed batch: ragged sides come through, and equal contents never compete."""

import random

import pytest
import torch

from jina.data.data_collator import ContrastiveDataCollator
from jina.data.multimodal_dataset import MultimodalDataset
from jina.models.packing import PackedBatch
from jina.models.pairing import pair_candidates
from jina.models.processing_jina_embeddings_v4 import JinaEmbeddingsV4Processor

WORDS = ["a red square", "ein Kreis", "пять", "図", "a dog", "sea", "tea"]


@pytest.fixture(scope="module")
def processor(fixture_folder):
    return JinaEmbeddingsV4Processor.from_pretrained(fixture_folder)


@pytest.fixture
def batch_of(processor, write_rows):
    """Return a function that makes rows into a batch, and the samples it was made of."""

    def make(rows):
        dataset = MultimodalDataset(write_rows(rows))
        samples = [dataset[i] for i in range(len(dataset))]
        return ContrastiveDataCollator(processor, max_text_tokens=64)(iter(samples)), samples

    return make


def random_side(draw, colours, side, counts):
    """Items of one side, each a text, an image or both, in lists with null where one lacks it."""
    found = [draw.choice(["text", "image", "both"]) for _ in range(draw.randint(*counts))]
    texts = [None if kind == "image" else draw.choice(WORDS) for kind in found]
    images = [None if kind == "text" else draw.choice(colours) for kind in found]
    row = {side: texts, f"{side}_image": images}
    return {name: values for name, values in row.items() if any(values)}


def random_row(draw, colours, task):
    """A row with any kind of query, one to three positives and up to three hard negatives."""
    query = random_side(draw, colours, "query", (1, 1))
    return {
        **{name: value for name, (value,) in query.items()},
        **random_side(draw, colours, "positive", (1, 3)),
        **random_side(draw, colours, "negative", (0, 3)),
        "task": task,
    }


def random_rows(seed, rows, tasks=("retrieval", "code")):
    draw = random.Random(seed)  # noqa: S311
    colours = [row["query_image"] for row in rows]
    task = draw.choice(tasks)
    return [random_row(draw, colours, task) for _ in range(draw.randint(2, 16))]


def unpacked(batch, prefix):
    packed = PackedBatch.from_dict(batch, prefix)
    return [ids.tolist() for ids in packed.input_ids.split(packed.lengths)]


@pytest.mark.parametrize("seed", range(40))
def test_every_item_of_ragged_rows_comes_through_once_and_in_order(batch_of, processor, rows, seed):
    batch, samples = batch_of(random_rows(seed, rows))
    assert batch["positive_owners"].tolist() == [
        row for row, sample in enumerate(samples) for _ in sample.positives
    ]
    for prefix, items, name in (
        ("query_", [sample.query for sample in samples], "query"),
        ("positive_", [item for sample in samples for item in sample.positives], "passage"),
        ("negative_", [item for sample in samples for item in sample.negatives], "passage"),
    ):
        if not items:
            assert not [key for key in batch if key.startswith(prefix)]
            continue
        expected = [
            processor.sequence(item.text, item.image, task=batch["task"], prompt_name=name)
            for item in items
        ]
        assert unpacked(batch, prefix) == [s.input_ids.tolist() for s in expected]
        pixels = [s.patches for s in expected if s.patches is not None]
        found = batch[f"{prefix}patches"]
        assert torch.equal(found, torch.cat(pixels)) if pixels else found is None


@pytest.mark.parametrize("seed", range(40))
def test_rows_of_one_content_never_score_as_negatives(batch_of, rows, seed):
    """A few contents in up to sixteen rows repeat often; each would be a false negative."""
    every_row_alone = [{"query": f"other {n}", "positive": f"thing {n}"} for n in range(2)]
    batch, samples = batch_of([*random_rows(seed, rows, ["retrieval"]), *every_row_alone])
    identities = [batch[f"{side}_identities"] for side in ("query", "positive", "negative")
                  if f"{side}_identities" in batch]  # fmt: skip
    pairing = pair_candidates(
        identities[0], torch.cat(identities[1:]), owners=batch["positive_owners"]
    ).tile(0, len(samples))
    candidates = [item for sample in samples for item in sample.positives]
    candidates += [item for sample in samples for item in sample.negatives]
    for row, sample in enumerate(samples):
        same_query = [s for s in samples if s.query.identity == sample.query.identity]
        right = {item.identity for s in same_query for item in s.positives}
        right.add(sample.query.identity)
        is_right = [candidate.identity in right for candidate in candidates]
        assert pairing.is_negative[row].tolist() == [not flag for flag in is_right]
        own = {id(item) for item in sample.positives}
        assert pairing.is_positive[row].tolist() == [id(c) in own for c in candidates]


def test_an_answer_that_only_a_row_elsewhere_names_is_no_negative(processor, write_rows):
    rows = [
        {"query": "X", "positive": "a"},
        {"query": "X", "positive": ["b", "a"]},
        {"query": "Y", "positive": "b"},
        {"query": "Z", "positive": "c", "negative": "a"},
    ]
    dataset = MultimodalDataset(write_rows(rows))
    collate = ContrastiveDataCollator(processor, max_text_tokens=64)

    def negatives(**known):
        return pair_candidates(
            batch["query_identities"],
            torch.cat([batch["positive_identities"], batch["negative_identities"]]),
            owners=batch["positive_owners"],
            **known,
        ).tile(0, 3).is_negative.tolist()  # fmt: skip

    batch = collate([dataset[0], dataset[2], dataset[3]])
    assert negatives(elsewhere=batch["elsewhere"]) == [
        [False, False, True, False],  # of X neither a nor b
        [True, False, True, True],
        [True, True, False, True],
    ]
    assert negatives()[0] == [False, True, True, False]
    assert "elsewhere" not in collate([dataset[2], dataset[3]])


@pytest.mark.parametrize(
    ("task", "query", "positive"),
    [
        ("retrieval", "Query", "Passage"),
        ("code", "Query", "Passage"),
        ("text-matching", "Query", "Query"),
    ],
)
def test_each_side_gets_the_prompt_that_inference_gives_it(
    batch_of, processor, task, query, positive
):
    rows = [{"query": word, "positive": word[::-1], "task": task} for word in ("abc", "def")]
    batch, _ = batch_of(rows)
    decode = processor.tokenizer.decode
    assert [decode(ids) for ids in unpacked(batch, "query_")] == [f"{query}: abc", f"{query}: def"]
    assert decode(unpacked(batch, "positive_")[0]) == f"{positive}: cba"


def test_a_batch_says_its_task_and_has_no_labels(batch_of, rows):
    batch, _ = batch_of(rows)
    assert batch["task"] == "retrieval"
    assert "labels" not in batch


def test_scores_become_ratings_and_rows_without_one_have_none(batch_of, rows):
    rated = [
        {"query": word, "positive": word[::-1], "task": "text-matching", "score": score}
        for word, score in (("abc", 0.5), ("def", 4))
    ]
    assert batch_of(rated)[0]["ratings"].tolist() == [0.5, 4]
    assert "ratings" not in batch_of(rows)[0]


@pytest.mark.parametrize("other", [{"task": "code"}, {"score": 1}], ids=str)
def test_rows_that_are_learned_from_differently_are_not_mixed(batch_of, other):
    pair = {"query": "a", "positive": "b", "task": "text-matching"}
    with pytest.raises(ValueError, match="batch: rows of one task, all with a score or none"):
        batch_of([pair, {**pair, **other}])
