"""Gradient caching: the gradient of the whole graph, whatever the micro-batches."""

import random
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from jina.models.contrastive_loss import ContrastiveLoss, Weights
from jina.models.embeddings import Embeddings, TokenVectors
from jina.models.packing import pack
from jina.models.pairing import pair_candidates
from jina.training import gradient_cache
from jina.training.gradient_cache import embed, kept_graphs, micro_batches
from tests.checkpointing import enable_checkpointing

LOSSES = {
    "single": ContrastiveLoss(Weights(1, 0, 0), (64,)),
    "joint": ContrastiveLoss(Weights(1, 1, 1), (64,)),
    "matryoshka": ContrastiveLoss(Weights(1, 1, 1), (16, 32, 64), symmetric=True),
}
TOKENS = {"one item": 1, "three items": 90, "all": None}
TOLERANCES = {"float64": 1e-12, "float32": 1e-6}


@pytest.fixture
def items(sequences):
    """Return a function from a modality to six queries and candidates of that kind."""

    def build(modality):
        if modality == "text":
            return (sequences.text * 3)[:12]
        return (sequences.image if modality == "image" else sequences.mixed)[:4] * 2

    return build


@pytest.fixture
def make_model(fresh_model):
    """Return a function that builds a model in training, and its whole batch as one stream."""

    def build(*, dtype="float64", dropout=0.1, checkpointing=False):
        model = fresh_model(dtype=dtype)
        model.train_adapters("retrieval", dropout=dropout)
        if checkpointing:
            enable_checkpointing(model, {"use_reentrant": False})
        torch.manual_seed(0)
        return model.train()

    return build


def whole_graph(model, batch, task, *, single, multi, tokens_per_micro_batch):
    """What `embed` stands for: every micro-batch with its graph, all of them in memory."""
    batch = model.with_vision_features(batch)
    batch = batch if multi else batch.without_unpooled_ends()
    singles, multis = [], []
    for ends in micro_batches(batch.lengths, tokens_per_micro_batch):
        piece = batch.part(*ends)
        states = model.hidden_states(piece, task)
        singles.append(model.single_vectors(states, piece))
        if multi:  # its dropout draws random numbers, too
            multis.append(model.multi_vectors(states))
    return Embeddings(
        torch.cat(singles) if single else None,
        TokenVectors(torch.cat(multis), batch.lengths) if multi else None,
    )


def gradient_of(model, batch, *, how=embed, loss="joint", **limits):
    """The gradient of one step as a flat vector."""
    objective, half = LOSSES[loss], len(batch) // 2
    needs = {"single": objective.weights.needs_single, "multi": objective.weights.needs_multi}
    vectors = how(model, batch, "retrieval", **needs, **limits)
    pairing = pair_candidates(
        torch.arange(half), torch.arange(half) + 100, owners=torch.arange(half)
    )
    sides = vectors.part(0, half), vectors.part(half, len(batch))
    objective(*sides, pairing, temperature=torch.tensor(0.1))[0].backward()
    parameters = model.trained_parameters().values()
    found = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    model.zero_grad()
    return found


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("modality", ["text", "image", "mixed"])
def test_micro_batches_have_the_gradient_of_the_whole_graph(
    make_model, items, modality, dropout, dtype
):
    batch = pack(items(modality))
    found = {}
    for name, tokens in TOKENS.items():
        model = make_model(dtype=dtype, dropout=dropout)
        expected = gradient_of(model, batch, how=whole_graph, tokens_per_micro_batch=tokens)
        torch.manual_seed(0)
        found[name] = gradient_of(model, batch, tokens_per_micro_batch=tokens)
        assert error(found[name], expected) < TOLERANCES[dtype], name
    other_dropout = error(found["one item"], found["all"])
    assert (other_dropout > 0.01) == bool(dropout)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_loss_and_checkpointing_go_with_it(make_model, items, loss, checkpointing):
    batch = pack(items("mixed"))
    options = {"loss": loss, "tokens_per_micro_batch": 60}
    expected = gradient_of(make_model(), batch, how=whole_graph, **options)
    model = make_model(checkpointing=checkpointing)
    assert error(gradient_of(model, batch, **options), expected) < 1e-12


def test_other_losses_have_other_gradients(make_model, items):
    batch = pack(items("mixed"))
    single, joint = (gradient_of(make_model(), batch, loss=loss) for loss in ("single", "joint"))
    assert error(single, joint[: len(single)]) > 0.1  # the joint one has the projector's, too


def test_without_the_same_dropout_the_gradient_is_another(make_model, items, monkeypatch):
    batch = pack(items("mixed"))
    expected = gradient_of(make_model(), batch, tokens_per_micro_batch=1)
    monkeypatch.setattr(gradient_cache, "_set_random_state", lambda *_: None)
    assert error(gradient_of(make_model(), batch, tokens_per_micro_batch=1), expected) > 0.1


def test_a_step_leaves_the_random_numbers_where_one_pass_does(make_model, items):
    batch, model = pack(items("text")), make_model()
    gradient_of(model, batch, tokens_per_micro_batch=1)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    gradient_of(model, batch, how=whole_graph, tokens_per_micro_batch=1)
    assert torch.equal(torch.get_rng_state(), after)


# ---- what runs how often -------------------------------------------------------------------


@pytest.fixture
def count_calls(monkeypatch):
    """Return a function that counts the calls of a module from now on."""

    def count(module):
        calls = []
        module.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
        return calls

    return count


@pytest.mark.parametrize(
    ("tokens", "with_graph", "passes"),
    [(None, None, 1), (10_000, None, 1), (1, None, 2 * 8 - 1), (1, 10_000, 8)],
)
def test_only_micro_batches_without_a_kept_graph_run_twice(
    make_model, items, count_calls, tokens, with_graph, passes
):
    model, batch = make_model(), pack(items("mixed"))
    assert len(batch) == 8
    decoder, vision = (count_calls(m) for m in (model.model.language_model, model.model.visual))
    gradient_of(model, batch, tokens_per_micro_batch=tokens, tokens_with_graph=with_graph)
    assert len(decoder) == passes
    passes = 4 if tokens == 1 else 1
    assert vision == [False] * passes  # each image once, without a graph


def test_graphs_that_are_kept_change_no_gradient(make_model, items):
    batch = pack(items("mixed"))
    expected = gradient_of(make_model(), batch, tokens_per_micro_batch=1)
    for tokens in (50, 150, 10_000):
        options = {"tokens_per_micro_batch": 1, "tokens_with_graph": tokens}
        assert error(gradient_of(make_model(), batch, **options), expected) < 1e-12


def test_without_gradients_everything_runs_once_and_vectors_are_the_same(
    make_model, items, count_calls
):
    model, batch = make_model(dropout=0.0), pack(items("mixed"))
    with_graph = embed(model, batch, "retrieval", tokens_per_micro_batch=60)
    calls = count_calls(model.model.language_model)
    with torch.no_grad():
        without = embed(model, batch, "retrieval", tokens_per_micro_batch=60)
    assert calls == [False] * len(list(micro_batches(batch.lengths, 60)))
    assert torch.equal(without.single, with_graph.single)
    assert torch.equal(without.multi.vectors, with_graph.multi.vectors)
    assert not without.single.requires_grad


@pytest.mark.parametrize("seed", range(20))
def test_micro_batches_hold_every_item_once_in_order_and_no_more_tokens_than_allowed(seed):
    draw = random.Random(seed)  # noqa: S311
    lengths = [draw.randint(1, 30) for _ in range(draw.randint(1, 40))]
    limit = draw.randint(1, 100)
    cuts = list(micro_batches(lengths, limit))
    assert [item for start, end in cuts for item in range(start, end)] == [*range(len(lengths))]
    assert all(sum(lengths[a:b]) <= limit or b - a == 1 for a, b in cuts)
    for (a, b), (_, c) in pairwise(cuts):
        assert sum(lengths[a : b + 1]) > limit, (a, b, c)  # none could have taken one more
    assert list(micro_batches(lengths, None)) == [(0, len(lengths))]


@pytest.mark.parametrize(("limit", "kept"), [(1, 1), (5, 1), (9, 2), (10, 3), (99, 3)])
def test_the_last_micro_batches_within_the_limit_keep_their_graphs(limit, kept):
    pieces = [SimpleNamespace(input_ids=range(size)) for size in (1, 4, 5)]
    assert kept_graphs(pieces, limit) == kept
