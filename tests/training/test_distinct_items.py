"""Equal items as one: the same vectors and gradients, from fewer tokens."""

import pytest
import torch
from torch.nn.functional import rms_norm
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRMSNorm

from jina.models.contrastive_loss import ContrastiveLoss, Weights
from jina.models.embeddings import Embeddings, TokenVectors
from jina.models.packing import concatenate, pack
from jina.models.pairing import pair_candidates
from jina.training.distinct_items import distinct_items, select
from jina.training.gradient_cache import embed
from jina.training.image_features import image_features

JOINT = ContrastiveLoss(Weights(1, 1, 1), (16, 64), symmetric=True)


def norm_in_its_own_type(norm, states):
    return rms_norm(states, states.shape[-1:], norm.weight, norm.variance_epsilon)


@pytest.fixture
def make_model(fresh_model, monkeypatch):
    """Return a function that builds a model in training, without dropout.

    transformers' norm computes in float32 whatever it is given, and its rounding isn't linear in
    the gradient: of copies one by one, or added up, it makes something else in the eighth digit.
    """
    monkeypatch.setattr(Qwen2_5_VLRMSNorm, "forward", norm_in_its_own_type)

    def build(dtype):
        model = fresh_model(dtype=dtype)
        model.train_adapters("retrieval", dropout=0.0)
        return model.train()

    return build


@pytest.fixture
def repeated(golden, loaded_images, jina_model):
    """Queries and passages: pictures and texts that come up again on either side."""
    processor = jina_model.processor
    texts = golden.texts[:2]

    def image(number, text=None):
        return processor.image_sequence(loaded_images[number], text=text, identity=b"%d" % number)

    def text(number, prompt):
        return processor.text_sequence(texts[number], prompt=prompt)

    queries = [image(0), text(0, "Query"), image(0), text(1, "Query"), image(1, "in words")]
    passages = [text(0, "Passage"), image(1), text(1, "Passage"), image(0), text(0, "Passage")]
    return queries, passages


def gradient_of(model, batch, *, shared, **limits):
    half = len(batch) // 2
    if shared:
        features, _ = image_features(model, batch, reload=None)
        kept, places = distinct_items(batch.contents)
        vectors = embed(model, select(batch, kept, features), "retrieval", **limits).take(places)
    else:
        vectors = embed(model, batch, "retrieval", **limits)
    pairing = pair_candidates(
        torch.arange(half), torch.arange(half) + 100, owners=torch.arange(half)
    )
    loss, _ = JOINT(
        vectors.part(0, half), vectors.part(half, 2 * half), pairing, temperature=torch.tensor(0.1)
    )
    loss.backward()
    found = torch.cat([p.grad.flatten() for p in model.trained_parameters().values()])
    model.zero_grad()
    return loss.detach(), found


@pytest.mark.parametrize("tokens", [None, 60])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
def test_shared_items_have_the_loss_and_gradient_of_each_on_its_own(
    make_model, repeated, dtype, tolerance, tokens
):
    model, batch = make_model(dtype), concatenate([pack(side) for side in repeated])
    expected_loss, expected = gradient_of(model, batch, shared=False, tokens_per_micro_batch=tokens)
    loss, found = gradient_of(model, batch, shared=True, tokens_per_micro_batch=tokens)
    assert abs(loss - expected_loss) < tolerance * 10
    assert float((found - expected).norm() / expected.norm()) < tolerance


def test_a_gradient_that_forgets_repeats_is_another(make_model, repeated, monkeypatch):
    model, batch = make_model("float64"), concatenate([pack(side) for side in repeated])
    _, expected = gradient_of(model, batch, shared=False)
    take = Embeddings.take

    def forgetful(self, places):
        repeats = [place in places[:i] for i, place in enumerate(places)]
        single = take(self, places).single
        single = torch.where(torch.tensor(repeats)[:, None], single.detach(), single)
        return Embeddings(single, take(self, places).multi)

    monkeypatch.setattr(Embeddings, "take", forgetful)
    _, found = gradient_of(model, batch, shared=True)
    assert float((found - expected).norm() / expected.norm()) > 0.01


def test_pictures_are_shared_by_both_sides_and_texts_where_the_prompt_is_the_same(repeated):
    queries, passages = repeated
    kept, places = distinct_items([s.content for s in (*queries, *passages)])
    assert places == [0, 1, 0, 2, 3, 4, 5, 6, 0, 4]
    assert kept == [0, 1, 3, 4, 5, 6, 7]
    same_prompt = [s.content for s in (queries[1], queries[3], queries[1])]
    assert distinct_items(same_prompt) == ([0, 1], [0, 1, 0])


def test_a_picture_without_identity_and_what_is_pooled_otherwise_are_never_shared(
    jina_model, loaded_images
):
    sequence = jina_model.processor.image_sequence
    contents = [
        sequence(loaded_images[0]).content,
        sequence(loaded_images[0]).content,
        sequence(loaded_images[0], identity=b"0").content,
        sequence(loaded_images[0], identity=b"0", text="Describe the image.").content,
        sequence(loaded_images[0], identity=b"1").content,
    ]
    assert distinct_items(contents)[1] == [0, 1, 2, 3, 4]


def test_only_distinct_items_go_through_the_decoder_and_distinct_pictures_through_the_tower(
    make_model, repeated
):
    model, batch = make_model("float32"), concatenate([pack(side) for side in repeated])
    seen = {"tower": 0, "decoder": 0}
    model.model.visual.register_forward_hook(
        lambda _, inputs, __: seen.update(tower=seen["tower"] + len(inputs[0]))
    )
    model.model.language_model.register_forward_hook(
        lambda _, __, found: seen.update(decoder=found.last_hidden_state.shape[1])
    )
    gradient_of(model, batch, shared=True)
    distinct = {s.content: len(s) for side in repeated for s in side}
    assert seen["decoder"] == sum(distinct.values()) < sum(batch.lengths)
    pictures = {
        s.image_identity: len(s.patches) for side in repeated for s in side if s.vision_tokens
    }
    assert len(pictures) == 2
    assert seen["tower"] == sum(pictures.values()) < sum(batch.patch_counts)


def test_repeated_items_have_copies_of_both_kinds_of_vectors():
    single = torch.eye(3)
    multi = TokenVectors(torch.arange(6.0)[:, None], [1, 2, 3])
    taken = Embeddings(single, multi).take([2, 0, 2])
    assert taken.single.argmax(1).tolist() == [2, 0, 2]
    assert taken.multi.lengths == [3, 1, 3]
    assert taken.multi.vectors.flatten().tolist() == [3, 4, 5, 0, 3, 4, 5]
    assert Embeddings(None, multi).take([1]).single is None
    assert Embeddings(single, None).take([1]).multi is None
