"""Packing and unpadding: sequences of a batch never see each other, nor padding, nor its order."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import pad
from torch.testing import assert_close

from jina.models.packing import (
    PackedBatch,
    TokenSequence,
    attention_arguments,
    concatenate,
    pack,
    packed_sdpa,
    rope_positions,
)
from jina.models.padding import repad, unpad

LENGTHS = [3, 1, 5]
GRIDS = [(1, 1), (2, 2), (2, 8), (8, 2), (3, 5), (1, 40), (28, 27)]  # rows and columns of tokens


# ---- attention -----------------------------------------------------------------------------


@pytest.fixture
def query_key_value():
    """Four query heads and two key-value heads over nine tokens, in float64."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, heads, 9, 6, generator=generator, dtype=torch.float64) for heads in (4, 2, 2)
    ]


def masked_attention(query, key, value, is_visible, scaling):
    """Attention spelled out: all scores, a mask, softmax."""
    key, value = (x.repeat_interleave(2, dim=1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * scaling
    weights = scores.masked_fill(~is_visible, -torch.inf).softmax(-1)
    return (weights @ value).transpose(1, 2)


def test_packed_attention_is_causal_within_each_sequence(query_key_value):
    row = torch.repeat_interleave(torch.arange(3), torch.tensor(LENGTHS))
    is_causal = torch.ones(9, 9, dtype=torch.bool).tril()
    is_visible = is_causal & (row.unsqueeze(0) == row.unsqueeze(1))
    found, weights = packed_sdpa(None, *query_key_value, None, lengths=LENGTHS, scaling=0.3)
    assert weights is None
    expected = masked_attention(*query_key_value, is_visible, 0.3)
    assert_close(found, expected, rtol=0, atol=1e-12)
    unseparated = masked_attention(*query_key_value, is_causal, 0.3)
    assert (found - unseparated).abs().amax((0, 2, 3))[3:].min() > 1e-2


def test_flash_attention_is_told_the_same_ends():
    arguments = attention_arguments(LENGTHS, torch.device("cpu"))
    assert arguments["lengths"] == LENGTHS
    for side in "qk":
        assert arguments[f"cu_seq_lens_{side}"].tolist() == [0, 3, 4, 9]
        assert arguments[f"cu_seq_lens_{side}"].dtype == torch.int32
        assert arguments[f"max_length_{side}"] == 5


# ---- positions -----------------------------------------------------------------------------


def stock_positions(model, ids, grids):
    """Positions by transformers' own Qwen2.5-VL, for one unpadded row."""
    ids = torch.tensor([ids])
    is_image = (ids == model.config.image_token_id).int()
    positions, _ = model.model.get_rope_index(
        ids, is_image, torch.tensor(grids), attention_mask=torch.ones_like(ids)
    )
    return positions[:, 0]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize(("before", "after"), [(4, 7), (1, 1), (0, 3), (30, 50)])
def test_image_positions_are_those_of_stock_qwen(jina_model, grid, before, after):
    rows, columns = grid
    image = [jina_model.config.image_token_id] * rows * columns
    expected = stock_positions(
        jina_model, [5] * before + image + [5] * after, [[1, 2 * rows, 2 * columns]]
    )
    found = rope_positions(before + len(image) + after, before, grid)
    assert torch.equal(found, expected)
    if rows != columns:
        assert not torch.equal(rope_positions(found.shape[1], before, (columns, rows)), expected)


def test_positions_of_the_official_prompt_are_the_known_ones():
    tail = list(range(6, 13))
    expected = [
        [0, 1, 2, 3, 4, 4, 4, 4, *tail],
        [0, 1, 2, 3, 4, 4, 5, 5, *tail],
        [0, 1, 2, 3, 4, 5, 4, 5, *tail],
    ]
    assert rope_positions(15, 4, (2, 2)).tolist() == expected


def test_text_positions_count_up():
    assert rope_positions(3).tolist() == [[0, 1, 2]] * 3


# ---- packing -------------------------------------------------------------------------------


def assert_same(found, expected):
    for name, value in vars(expected).items():
        other = getattr(found, name)
        assert torch.equal(other, value) if torch.is_tensor(value) else other == value, name


def test_packing_lays_sequences_end_to_end():
    text = TokenSequence(torch.tensor([7, 8]), rope_positions(2), (0, 2))
    image = TokenSequence(
        torch.tensor([1, 9, 2]),
        rope_positions(3, 1, (1, 1)),
        (0, 3),
        torch.ones(4, 588, dtype=torch.uint8),
        (1, 2, 2),
        vision_tokens=1,
    )
    batch = pack([text, image, text])
    assert batch.input_ids.tolist() == [7, 8, 1, 9, 2, 7, 8]
    assert batch.position_ids.tolist() == [[0, 1, 0, 1, 2, 0, 1]] * 3
    assert (batch.lengths, batch.pooled) == ([2, 3, 2], [(0, 2), (0, 3), (0, 2)])
    assert batch.image_grid_thw.tolist() == [[1, 2, 2]]
    assert torch.equal(batch.patches, torch.ones(4, 588))
    assert batch.vision_tokens == [0, 1, 0]
    assert len(batch) == 3
    assert pack([text]).patches is None


def test_single_vectors_never_see_what_is_left_out_behind_their_span(jina_model, sequences):
    batch = pack(sequences.mixed)
    short = batch.without_unpooled_ends()
    assert sum(short.lengths) < sum(batch.lengths)
    with torch.no_grad():
        found, expected = (
            jina_model.single_vectors(jina_model.hidden_states(each, "retrieval"), each)
            for each in (short, batch)
        )
    assert_close(found, expected, rtol=0, atol=1e-6)
    text = pack(sequences.text)
    assert text.without_unpooled_ends() is text


def test_joined_batches_are_the_batch_of_all_their_sequences(sequences):
    parts = [sequences.text[:3], sequences.mixed, sequences.image[:2], sequences.text[3:]]
    whole = pack([item for part in parts for item in part])
    assert_same(concatenate([pack(part) for part in parts]), whole)
    assert concatenate([pack(parts[0]), pack(parts[3])]).patches is None
    with pytest.raises(AssertionError):
        assert_same(concatenate([pack(part) for part in reversed(parts)]), whole)


def test_a_batch_survives_a_flat_dictionary(sequences):
    query, positive = pack(sequences.text), pack(sequences.mixed)
    flat = {**query.to_dict("query_"), **positive.to_dict("positive_"), "task": "retrieval"}
    assert all(name.startswith(("query_", "positive_", "task")) for name in flat)
    assert_same(PackedBatch.from_dict(flat, "query_"), query)
    assert_same(PackedBatch.from_dict(flat, "positive_"), positive)
    assert_same(positive.to("cpu"), positive)


# ---- independence --------------------------------------------------------------------------


@torch.no_grad()
def test_an_embedding_does_not_depend_on_its_batch_or_its_place(jina_model, sequences, embed):
    items = sequences.mixed
    lengths = [len(item) for item in items]
    alone = [embed(jina_model, [item]) for item in items]
    for order in (range(len(items)), reversed(range(len(items))), [3, 1, 4]):
        order = list(order)
        single, multi = embed(jina_model, [items[i] for i in order])
        for i, vector, tokens in zip(
            order, single, multi.split([lengths[i] for i in order]), strict=True
        ):
            assert_close(vector, alone[i][0][0], rtol=0, atol=1e-6)
            assert_close(tokens, alone[i][1], rtol=0, atol=1e-6)
    vectors = torch.cat([single for single, _ in alone])
    assert torch.pdist(vectors).min() > 1e-2


@pytest.fixture(scope="module")
def padded(golden, loaded_images, jina_model):
    """The official padded inputs of texts, of images, and of two images between two texts."""
    processor = jina_model.processor
    text = processor.process_texts(golden.texts, prefix="Query")
    image = processor.process_images(loaded_images)
    mixed = dict(image) | {"image_grid_thw": image["image_grid_thw"][:2]}
    for name in ("input_ids", "attention_mask"):
        short = text[name][:2, : image[name].shape[1]]
        short = pad(short, (0, image[name].shape[1] - short.shape[1]))
        mixed[name] = torch.cat([short[:1], image[name][:2], short[1:]])
    mixed["pixel_values"] = image["pixel_values"][:2]
    return {"text": dict(text), "image": dict(image), "mixed": mixed}


def with_padding(inputs, side, columns, filler):
    """Push rows to one side and add columns; `filler` stands where the mask is zero."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    rows = [row[kept] for row, kept in zip(ids, mask.bool(), strict=True)]
    width = ids.shape[1] + columns
    ids, mask = torch.full((len(rows), width), filler), torch.zeros(len(rows), width).long()
    for i, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(len(row))
        ids[i, place], mask[i, place] = row, 1
    return {**inputs, "input_ids": ids, "attention_mask": mask}


@torch.no_grad()
@pytest.mark.parametrize("modality", ["text", "image", "mixed"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("columns", [0, 1, 7, 64])
def test_padding_does_not_change_an_embedding(jina_model, padded, modality, side, columns):
    plain = jina_model("retrieval", **padded[modality])
    filler = jina_model.config.image_token_id  # the worst there is
    moved = with_padding(padded[modality], side, columns, filler)
    found = jina_model("retrieval", **moved, output_vlm_last_hidden_states=True)
    assert_close(found.single_vec_emb, plain.single_vec_emb, rtol=0, atol=1e-6)
    mask, moved_mask = padded[modality]["attention_mask"].bool(), moved["attention_mask"].bool()
    assert_close(found.multi_vec_emb[moved_mask], plain.multi_vec_emb[mask], rtol=0, atol=1e-6)
    assert not found.multi_vec_emb[~moved_mask].any()
    assert not found.vlm_last_hidden_states[~moved_mask].any()
    assert found.vlm_last_hidden_states[moved_mask].any(1).all()


@torch.no_grad()
def test_padding_without_its_mask_does_change_an_embedding(jina_model, padded):
    inputs = padded["text"]
    unmasked = {**inputs, "attention_mask": torch.ones_like(inputs["attention_mask"])}
    difference = jina_model("retrieval", **unmasked)[0] - jina_model("retrieval", **inputs)[0]
    assert difference.abs().amax(1)[:-1].min() > 1e-2  # the last row has no padding


@torch.no_grad()
def test_rows_of_a_mixed_batch_are_what_they_are_alone(jina_model, padded):
    both = jina_model("retrieval", **padded["mixed"]).single_vec_emb
    texts = jina_model("retrieval", **padded["text"]).single_vec_emb
    images = jina_model("retrieval", **padded["image"]).single_vec_emb
    expected = torch.stack([texts[0], images[0], images[1], texts[1]])
    assert_close(both, expected, rtol=0, atol=1e-6)
    assert torch.pdist(both).min() > 1e-2


@torch.no_grad()
def test_filler_behind_an_image_s_patches_is_never_read(jina_model, padded):
    inputs = dict(padded["image"])
    plain = jina_model("retrieval", **inputs).single_vec_emb
    sizes = inputs["image_grid_thw"].prod(1)
    patches = [image[:size] for image, size in zip(inputs["pixel_values"], sizes, strict=True)]
    flat = jina_model("retrieval", **inputs | {"pixel_values": torch.cat(patches)})
    assert torch.equal(flat.single_vec_emb, plain)
    spoilt = torch.nn.utils.rnn.pad_sequence(patches, batch_first=True, padding_value=torch.nan)
    assert spoilt.isnan().any()
    found = jina_model("retrieval", **inputs | {"pixel_values": pad(spoilt, (0, 0, 0, 9))})
    assert torch.equal(found.single_vec_emb, plain)


# ---- the padded door -----------------------------------------------------------------------


def test_unpadding_gives_back_what_the_processor_built(jina_model, padded, sequences):
    settings = {"image_token_id": jina_model.config.image_token_id, "merge_size": 2}
    for modality, expected in (("text", sequences.text), ("image", sequences.image)):
        inputs = padded[modality]
        found = unpad(
            inputs["input_ids"],
            inputs["attention_mask"],
            inputs.get("pixel_values"),
            inputs.get("image_grid_thw"),
            **settings,
        )
        for sequence, other in zip(found, expected, strict=True):
            if other.patches is not None:  # the official form is normalised
                normalised = jina_model.processor.image_settings.pixel_values(other.patches)
                other = replace(other, patches=normalised)
            # padded rows don't say what they were made of, so none is taken for another
            assert_same(sequence, replace(other, content=b""))


def test_repadding_puts_rows_where_the_mask_has_them():
    mask = torch.tensor([[0, 1, 1], [1, 0, 0]]).bool()
    rows = [torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0]])]
    assert repad(rows, mask).squeeze(-1).tolist() == [[0, 1, 2], [3, 0, 0]]


def without(*names):
    return lambda inputs: {k: v for k, v in inputs.items() if k not in names}


def second_image_in_a_row(inputs):
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    return {
        **inputs,
        "input_ids": ids.reshape(-1, 2 * ids.shape[1]),
        "attention_mask": mask.reshape(-1, 2 * mask.shape[1]),
    }


@torch.no_grad()
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (second_image_in_a_row, "one image a row"),
        (lambda x: {**x, "image_grid_thw": x["image_grid_thw"].flip(1)}, "image"),
        (lambda x: {**x, "image_grid_thw": x["image_grid_thw"].roll(1, 0)}, "don't match"),
        (without("pixel_values", "image_grid_thw"), "image"),
        (without("image_grid_thw"), "image_grid_thw"),
        (without("pixel_values"), "pixel_values"),
    ],
    ids=["two in a row", "odd grid", "other grids", "no images", "no grids", "no pixels"],
)
def test_images_that_do_not_match_their_rows_are_refused(jina_model, padded, damage, message):
    with pytest.raises(ValueError, match=message):
        jina_model("retrieval", **damage(padded["image"]))


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 8])
def test_a_list_of_tasks_that_does_not_match_the_rows_is_refused(jina_model, padded, count):
    with pytest.raises(ValueError, match="task"):
        jina_model(["retrieval"] * count, **padded["text"])


@torch.no_grad()
def test_a_row_without_tokens_is_refused(jina_model, padded):
    inputs = dict(padded["text"])
    inputs["attention_mask"] = inputs["attention_mask"].clone()
    inputs["attention_mask"][2] = 0
    with pytest.raises(ValueError, match="attention_mask|empty|token"):
        jina_model("retrieval", **inputs)


@torch.no_grad()
def test_hidden_states_are_returned_on_request_only(jina_model, padded):
    inputs = padded["text"]
    assert jina_model("retrieval", **inputs).vlm_last_hidden_states is None
    output = jina_model("retrieval", **inputs, output_vlm_last_hidden_states=True)
    assert output.vlm_last_hidden_states is not None
