"""`image_features`: the tower sees an image once, and every sequence gets its own features."""

from dataclasses import replace

import pytest
import torch

from jina.data.checking.image_headers import ImageFacts
from jina.models.packing import pack
from jina.training.image_features import image_features


class Cache:
    """A cache in a dictionary, that keeps what it is given as it is."""

    def __init__(self, known=()):
        self.known = dict(known)

    def get(self, identity, tokens):
        return self.known.get(identity)

    def put(self, identity, features):
        self.known[identity] = features
        return features


@pytest.fixture
def tower(jina_model):
    """The sizes of what the tower is given from now on."""
    sizes = []
    hook = jina_model.model.visual.register_forward_pre_hook(
        lambda _, inputs: sizes.append(len(inputs[0]))
    )
    yield sizes
    hook.remove()


@pytest.fixture
def sequence(jina_model, loaded_images):
    """Return a function that makes a sequence of an image, with its patches or its facts."""

    def make(number, text=None, *, has_patches=True, identity=True):
        image, name = loaded_images[number], b"%d" % number if identity else b""
        given = image if has_patches else ImageFacts(*image.size, name)
        return jina_model.processor.image_sequence(given, text=text, identity=name)

    return make


def never(_):
    raise AssertionError("everything needed is at hand")


def expected_of(model, number, sequence):
    return model.with_vision_features(pack([sequence(number)])).vision_features


@pytest.mark.parametrize("max_tokens", [None, 1])
def test_each_sequence_gets_the_features_of_its_image(
    jina_model, sequence, sequences, tower, max_tokens
):
    numbers = [0, None, 1, 0, 2, 1]
    items = [sequences.text[0] if n is None else sequence(n) for n in numbers]
    found, made = image_features(jina_model, pack(items), max_tokens=max_tokens, reload=never)
    assert sum(tower) == 4 * made == sum(len(sequence(n).patches) for n in (0, 1, 2))
    assert len(tower) == (3 if max_tokens else 1)
    assert [*found] == [0, 2, 3, 4, 5]
    for item, features in found.items():
        torch.testing.assert_close(features, expected_of(jina_model, numbers[item], sequence))
    assert found[0] is found[3]


def test_a_picture_that_came_before_or_behind_lends_its_features(jina_model, sequence, tower):
    items = [sequence(0, has_patches=False), sequence(0), sequence(0, "a text", has_patches=False)]
    found, _ = image_features(jina_model, pack(items), reload=never)
    assert len(tower) == 1
    assert found[0] is found[1] is found[2]


def test_what_the_cache_knows_is_not_encoded_and_what_is_new_it_learns(jina_model, sequence, tower):
    kept = torch.full((sequence(0).vision_tokens, jina_model.config.text_config.hidden_size), 7.0)
    cache = Cache({b"0": kept})
    items = [sequence(0, has_patches=False), sequence(1), sequence(0)]
    found, made = image_features(jina_model, pack(items), cache=cache, reload=never)
    assert torch.equal(found[0], kept)
    assert torch.equal(found[2], kept)
    assert tower == [len(sequence(1).patches)]
    assert made == sequence(1).vision_tokens
    assert torch.equal(cache.known[b"1"], found[1])
    tower.clear()
    assert image_features(jina_model, pack(items), cache=cache, reload=never)[1] == 0
    assert tower == []


def test_an_image_that_neither_has_is_decoded_after_all(jina_model, sequence, tower):
    asked, cache = [], Cache()

    def reload(identity):
        asked.append(identity)
        return sequence(int(identity))

    items = [sequence(1, has_patches=False), sequence(0), sequence(1, has_patches=False)]
    found, _ = image_features(jina_model, pack(items), cache=cache, reload=reload)
    assert asked == [b"1"]
    torch.testing.assert_close(found[0], expected_of(jina_model, 1, sequence))
    assert {*cache.known} == {b"0", b"1"}


def test_images_without_identity_are_each_their_own_and_never_kept(jina_model, sequence, tower):
    cache, item = Cache(), sequence(0, identity=False)
    found, made = image_features(jina_model, pack([item, item]), cache=cache, reload=never)
    assert made == 2 * item.vision_tokens
    torch.testing.assert_close(found[0], found[1])
    assert cache.known == {}


def test_texts_alone_need_no_tower(jina_model, sequences, tower):
    batch = pack(sequences.text)
    assert image_features(jina_model, batch, reload=never) == ({}, 0)
    assert image_features(jina_model, replace(batch), cache=Cache(), reload=never) == ({}, 0)
    assert tower == []
