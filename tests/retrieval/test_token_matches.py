"""Tokens of a text against patches of a picture, by hand and through the score they add up to."""

import numpy as np
import pytest
import torch
from PIL import Image

from jina.retrieval.item_embedding import Embedder, EmbeddingItem
from jina.retrieval.token_matches import MAX_TOKENS, TokenMatches, match_tokens, own_tokens


@pytest.fixture(scope="module")
def picture():
    draw = np.random.default_rng(0)
    return Image.fromarray(draw.integers(0, 255, (84, 140, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def items(picture):
    return {"t": EmbeddingItem(text="a small red square"), "p": EmbeddingItem(image=picture)}


@pytest.fixture(scope="module")
def matches(jina_model, items):
    (found,) = match_tokens(jina_model, [("t", "p")], items, task="retrieval", role="query")
    return found


def test_similarities_are_those_of_the_vectors_that_are_ranked_by(jina_model, items, matches):
    embedder = Embedder(jina_model, task="retrieval", multi=True)
    text = next(iter(embedder.embed([items["t"]], "query"))).multi[0]
    picture = next(iter(embedder.embed([items["p"]], "query"))).multi[0]
    places, _ = own_tokens(jina_model.processor, "a small red square", "Query")
    sequence = jina_model.processor.image_sequence(items["p"].image)
    patches = picture[(sequence.input_ids == jina_model.processor.image_token_id).numpy()]
    expected = text[places] @ patches.T
    np.testing.assert_allclose(matches.similarities, expected, atol=1e-4)
    assert np.abs(expected - np.roll(expected, 1, axis=1)).max() > 1e-3  # order shows


def test_the_grid_is_that_of_the_picture(matches):
    assert matches.columns == 5
    grid = matches.grid(0)
    assert [len(row) for row in grid] == [5, 5, 5]
    assert sum(grid, []) == matches.similarities[0]


def test_tokens_are_the_texts_own_in_their_order(jina_model, matches):
    assert "".join(matches.tokens) == "asmallredsquare"
    prompt = "Passage"
    places, tokens = own_tokens(jina_model.processor, "Passage: is a word", prompt)
    ids = jina_model.processor.text_sequence("Passage: is a word", prompt=prompt).input_ids
    assert "".join(tokens) == "Passage:isaword"
    assert places[-1] == len(ids) - 1
    assert places[0] > 0


def test_a_long_text_shows_its_beginning_and_control_tokens_are_letters(jina_model):
    _, tokens = own_tokens(jina_model.processor, "word " * 200, "Query")
    assert len(tokens) == MAX_TOKENS
    _, tokens = own_tokens(jina_model.processor, "<|image_pad|>", "Query")
    assert "".join(tokens) == "<|image_pad|>"


def test_the_model_is_left_as_it_is(fresh_model, items):
    model = fresh_model()
    model.train_adapters("retrieval")
    model.train()
    match_tokens(model, [("t", "p")], items, task="retrieval", role="passage")
    assert model.training
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_matches_survive_json_and_damage_is_refused(matches):
    values = matches.as_dict()
    assert TokenMatches.from_dict(values) == matches
    for wrong in (
        {"columns": 4},
        {"tokens": ["a"]},
        {"similarities": []},
        {"similarities": [[0.1], [0.1, 0.2]]},
    ):
        with pytest.raises(ValueError, match="are no grid"):
            TokenMatches.from_dict(values | wrong)
    with pytest.raises(TypeError):
        TokenMatches.from_dict({})
