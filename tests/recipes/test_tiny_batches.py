"""Batches of pretraining: repeatable, no thing twice, nothing that is held out."""

from dataclasses import replace

import pytest
import torch

from recipes.tiny_batches import Batches


def drawn(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def batches(tiny_set):
    return Batches(tiny_set, 4)


def test_a_batch_has_no_thing_twice_and_captions_of_its_pictures(batches, tiny_set):
    places, captions, views = batches.pairs(drawn(0), 0.0)
    assert len({tiny_set.keys[place] for place in places}) == len(views) == 4
    for place, caption in zip(places, captions, strict=True):
        assert tiny_set.keys[place] in caption.lower()


def test_one_seed_gives_one_batch(batches):
    first, again, other = (batches.pairs(drawn(seed), 0.95) for seed in (5, 5, 6))
    assert first[:2] == again[:2]
    assert torch.equal(first[2], again[2])
    assert other[:2] != first[:2] or not torch.equal(other[2], first[2])


def test_translations_share_the_place_of_their_english_text(batches, tiny_set):
    texts, places = batches.texts(50, drawn(0))
    assert any("auf Deutsch" in text for text in texts)
    for text, place in zip(texts, places.tolist(), strict=True):
        assert tiny_set.texts[place].lower() in text.lower()


def test_each_picture_is_told_where_its_english_caption_stands(tiny_set):
    english = [captions["en"] for captions in tiny_set.captions]
    assert [tiny_set.texts[place] for place in tiny_set.caption_places()] == english


def test_flags_and_held_out_pictures_never_come(tiny_set):
    captions = [{"en": f"picture number {place}"} for place in range(8)]
    origins = ["openclipart"] * 4 + ["noto"] * 4
    keys = ["1f1e6-1f1e8", *(f"thing{place}" for place in range(1, 8))]
    texts = [found["en"] for found in captions]
    features = torch.zeros(8, 80)
    data = replace(tiny_set, captions=captions, origins=origins, keys=keys, texts=texts,
                   text_features=features)  # fmt: skip
    assert data.held_out() == [0, 1, 2, 3]
    batches = Batches(data, 8)
    assert batches.names == ["thing4", "thing5", "thing6", "thing7"]
    flag = Batches(replace(data, origins=["noto"] * 8), 8)
    assert flag.names == [f"thing{place}" for place in range(1, 8)]
