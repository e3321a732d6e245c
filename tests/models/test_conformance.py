"""The official code's numbers on the conformance checkpoint: ids, pixels, embeddings, gradients.

The training step goes through the product's own scores and loss.
"""

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from jina.models.contrastive_loss import ContrastiveLoss, Weights
from jina.models.embeddings import Embeddings, TokenVectors
from jina.models.pairing import pair_candidates
from jina.models.scores import DenseScores, LateScores
from tests.checkpointing import enable_checkpointing

FOLDER = Path(__file__).parents[1] / "fixtures" / "jina_v4_tiny"
ENTRIES = json.loads((FOLDER / "golden.json").read_text(encoding="utf-8"))["entries"]
EMBEDDINGS = {e["name"]: e for e in ENTRIES if "task" in e and e["kind"] in ("single", "multi")}
TOLERANCE = {"text": 1e-6, "image": 1e-5}
PROMPTS = {"query": "Query", "passage": "Passage"}
CHECKPOINTING = {
    "none": None,
    "non-reentrant": {"use_reentrant": False},
    "reentrant": {"use_reentrant": True},
}


@pytest.fixture(scope="module")
def padded_inputs(golden, loaded_images, jina_model):
    """The official padded inputs, by prompt, and those of the images under `None`."""
    processor = jina_model.processor
    inputs = {
        name: processor.process_texts(golden.texts, prefix=prefix)
        for name, prefix in PROMPTS.items()
    }
    return {**inputs, None: processor.process_images(loaded_images)}


@pytest.fixture(scope="module")
def forward_outputs(jina_model, padded_inputs):
    """Return a function that runs `forward` once for each task and prompt."""
    known = {}

    def run(task, prompt):
        if (task, prompt) not in known:
            with torch.no_grad():
                known[task, prompt] = jina_model(task, **padded_inputs[prompt])
        return known[task, prompt]

    return run


def test_token_ids_masks_and_grids_are_the_official_ones(golden, padded_inputs):
    for prompt, name in (("query", "text.retrieval.query"), (None, "image.retrieval")):
        for field, found in padded_inputs[prompt].items():
            assert torch.equal(found, golden.arrays[f"{name}.{field}"]), field
    assert not torch.equal(
        padded_inputs["passage"]["input_ids"][:, 0],
        golden.arrays["text.retrieval.query.input_ids"][:, 0],
    )


def test_pixel_values_are_the_official_ones_bit_for_bit(golden, padded_inputs):
    expected = golden.arrays["image.retrieval.pixel_values"]
    assert torch.equal(padded_inputs[None]["pixel_values"], expected)
    assert (expected[0] - expected[1]).abs().max() > 0.1


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_forward_computes_the_official_embeddings(golden, forward_outputs, name):
    entry = EMBEDDINGS[name]
    output = forward_outputs(entry["task"], entry.get("prompt"))
    found = output.single_vec_emb if entry["kind"] == "single" else output.multi_vec_emb
    assert_close(found, golden.arrays[name], rtol=0, atol=TOLERANCE[entry["modality"]])


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_encode_computes_the_official_embeddings(golden, jina_model, name):
    entry = EMBEDDINGS[name]
    options = {"task": entry["task"], "return_multivector": entry["kind"] == "multi"}
    if entry["modality"] == "text":
        found = jina_model.encode_text(golden.texts, prompt_name=entry["prompt"], **options)
    else:
        found = jina_model.encode_image(golden.images, **options)
    for row, expected in zip(found, golden.arrays[name], strict=True):
        if entry["kind"] == "multi":
            assert not expected[len(row) :].any()  # the golden rows are padded with zeros
            expected = expected[: len(row)]
        assert_close(row, expected, rtol=0, atol=TOLERANCE[entry["modality"]])


@pytest.mark.parametrize("modality", TOLERANCE)
def test_golden_embeddings_differ_by_task_and_prompt(golden, modality):
    names = [n for n, e in EMBEDDINGS.items() if (e["modality"], e["kind"]) == (modality, "single")]
    vectors = torch.stack([golden.arrays[name] for name in names])
    differences = (vectors.unsqueeze(0) - vectors.unsqueeze(1)).abs().amax((2, 3))
    assert len(names) >= 3
    assert differences.fill_diagonal_(1).min() > 100 * TOLERANCE[modality]


def test_a_batch_of_mixed_tasks_gives_each_row_its_own_adapter(golden, jina_model, padded_inputs):
    tasks = ["retrieval", "code", "text-matching"]
    rows = {name: tensor[:3] for name, tensor in padded_inputs["query"].items()}
    with torch.no_grad():
        found = jina_model(tasks, **rows).single_vec_emb
        swapped = jina_model(tasks[::-1], **rows).single_vec_emb
    assert_close(found, golden.arrays["text.mixed.single"], rtol=0, atol=TOLERANCE["text"])
    assert_close(swapped[1], found[1], rtol=0, atol=TOLERANCE["text"])
    assert (swapped[0] - found[0]).abs().max() > 1e-3


def test_a_truncated_vector_is_the_official_one(golden, jina_model):
    found = torch.stack(jina_model.encode_image(golden.images, "retrieval", truncate_dim=16))
    assert_close(found, golden.arrays["image.retrieval.truncate16"], rtol=0, atol=1e-5)
    assert_close(found.norm(dim=1), torch.ones(6))
    assert (found - golden.arrays["image.retrieval.single"][:, :16]).abs().max() > 1e-3


@pytest.fixture(scope="module")
def train_step(fresh_model, golden, sequences, embed):
    """Return a function that takes golden.json's training step: its scores, losses, gradients."""

    def take(checkpointing=None, passages=None):
        rows, temperature = golden.train["rows"], golden.train["temperature"]
        model = fresh_model()
        model.train_adapters(golden.train["task"], dropout=0.0)
        model.train()
        if checkpointing:
            enable_checkpointing(model, checkpointing)
            model.enable_input_require_grads()
        runs = count_runs(model.model.language_model.layers[0].input_layernorm)
        queries, documents = (
            [items[row] for row in chosen]
            for items, chosen in ((sequences.text, rows), (sequences.image, passages or rows))
        )
        query, passage = (embedded(embed, model, items) for items in (queries, documents))
        loss, parts = official_loss(query, passage, temperature)
        loss.backward()
        gradients = {name: p.grad for name, p in model.trained_parameters().items()}
        losses = torch.stack([parts[name] for name in LOSSES])
        return *scores_of(query, passage), losses, gradients, len(runs)

    return take


LOSSES = ("single_loss", "multi_loss", "kl_loss", "contrastive_loss")


def embedded(embed, model, items):
    """Both kinds of vectors of some sequences."""
    single, tokens = embed(model, items)
    return Embeddings(single, TokenVectors(tokens, [len(item) for item in items]))


def official_loss(queries, passages, temperature):
    """The product's loss as golden.json's step has it: three terms that count the same."""
    rows, size = torch.arange(len(queries.single)), queries.single.shape[1]
    pairing = pair_candidates(rows, rows + len(rows), owners=rows)
    compute = ContrastiveLoss(Weights(1.0, 1.0, 1.0), (size,))
    return compute(queries, passages, pairing, temperature=torch.tensor(temperature))


@torch.no_grad()
def scores_of(queries, passages):
    """The product's dense and late scores."""
    rows, size = len(queries.single), queries.single.shape[1]
    dense = DenseScores(queries.single, passages.single, (size,))
    late, _ = LateScores(queries.multi, passages.multi).tile(0, rows)
    return next(dense.tile(0, rows)), late


def count_runs(module):
    """Return a list that grows with every run of a module."""
    runs = []
    module.register_forward_hook(lambda *_: runs.append(None))
    return runs


@pytest.mark.parametrize("checkpointing", CHECKPOINTING)
def test_a_training_step_has_the_official_scores_losses_and_gradients(
    golden, train_step, relative_error, checkpointing
):
    dense, late, losses, gradients, runs = train_step(CHECKPOINTING[checkpointing])
    assert_close(dense, golden.arrays["train.scores_dense"], rtol=0, atol=1e-5)
    assert_close(late, golden.arrays["train.scores_late"], rtol=0, atol=1e-5)
    assert_close(losses, golden.arrays["train.losses"], rtol=1e-5, atol=1e-5)
    expected = {
        name.removeprefix("grad:"): gradient
        for name, gradient in golden.arrays.items()
        if name.startswith("grad:")
    }
    assert len(expected) == 44
    assert relative_error(gradients, expected) <= 1e-5
    assert runs == (2 if checkpointing == "none" else 4)  # checkpointing runs each layer again


def test_other_pairs_give_other_gradients(golden, train_step, relative_error):
    _, _, losses, gradients, _ = train_step(passages=[1, 3, 4, 0])
    expected = {name: golden.arrays[f"grad:{name}"] for name in gradients}
    assert relative_error(gradients, expected) > 0.1
    assert (losses - golden.arrays["train.losses"]).abs().max() > 0.1
