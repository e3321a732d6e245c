"""The processor: sizes, prompts, the item of text and image, and texts that look like control."""

import ast
import math
import operator
import random
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from jina.data.checking.image_headers import ImageFacts
from jina.models.packing import rope_positions
from jina.models.processing_jina_embeddings_v4 import (
    CONTROL_TOKENS,
    MAX_TEXT_TOKENS,
    ImageSettings,
    image_patches,
    prompt_for,
)

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
SIZES = [
    (1, 1),
    (1, 200),
    (200, 1),
    (27, 28),
    (42, 42),
    (70, 14),
    (5000, 25),
    (13, 2600),
    (776, 776),
]
LIMITS = [(3136, 12544), (3136, 602112), (3136, 37_788_800), (200_704, 200_704)]
# Qwen2.5's control tokens; the fixture's tokenizer has those that it knows as special
QWEN_TOKENS = [
    *CONTROL_TOKENS,
    *(f"<|{name}|>" for name in (
        "object_ref_start", "object_ref_end", "box_start", "box_end", "quad_start", "quad_end",
        "vision_pad", "video_pad",
    )),
]  # fmt: skip


@pytest.fixture(scope="module")
def processor(jina_model):
    """The processor of the conformance checkpoint."""
    return jina_model.processor


@pytest.fixture(scope="module")
def special_ids(processor):
    """The ids of the tokenizer's special tokens."""
    return {
        id_
        for id_, token in processor.tokenizer.get_added_tokens_decoder().items()
        if token.special
    }


# ---- sizes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smart_resize():
    """transformers' own function, cut out of its file: importing that needs torchvision."""
    package = Path(find_spec("transformers").origin).parent
    source = package / "models/qwen2_vl/image_processing_qwen2_vl.py"
    (function,) = (
        node
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == "smart_resize"
    )
    names = {"math": math}
    exec(compile(ast.Module([function], []), str(source), "exec"), names)  # noqa: S102
    return names["smart_resize"]


@pytest.mark.parametrize(("min_pixels", "max_pixels"), LIMITS)
def test_sizes_are_those_of_transformers(smart_resize, min_pixels, max_pixels):
    settings = ImageSettings(min_pixels, max_pixels, MEAN, STD)
    generator = random.Random(0)  # noqa: S311
    drawn = [tuple(round(28 * 2 ** generator.uniform(-3, 7)) for _ in "wh") for _ in range(2000)]
    halves = [(14 * i, 14 * j) for i in range(1, 60, 2) for j in (3, 4, 5, 31)]  # x.5 tokens
    for width, height in [*SIZES, *drawn, *halves]:
        if max(width, height) > 200 * min(width, height):
            continue
        rows, columns = smart_resize(height, width, 28, min_pixels, max_pixels)
        assert settings.resized(width, height) == (columns, rows), (width, height)
        assert settings.token_count(width, height) == rows * columns // 784


def test_sides_round_half_to_even():
    settings = ImageSettings(784, 10**6, MEAN, STD)
    assert settings.resized(28 * 2 + 14, 28 * 3 + 14) == (28 * 2, 28 * 4)


@pytest.mark.parametrize("size", [(201, 1), (1, 201), (2, 401)])
def test_strips_are_refused(size):
    settings = ImageSettings(3136, 602112, MEAN, STD)
    with pytest.raises(ValueError, match=f"200:1; got {size[0]} x {size[1]}"):
        settings.resized(*size)
    settings.resized(200, 1)


def test_a_square_stretches_every_image(processor, loaded_images):
    square = processor.with_image_settings(square=56)
    resized = [image.resize((56, 56)) for image in loaded_images]
    assert {square.image_settings.token_count(*image.size) for image in loaded_images} == {4}
    for image in loaded_images:
        patches, grid = image_patches(image, square.image_settings)
        assert (grid, patches.shape) == ((1, 4, 4), (16, 588))
    assert processor.image_settings.square is None
    same, other = (
        image_patches(i, square.image_settings)[0] for i in (resized[0], loaded_images[1])
    )
    assert torch.equal(same, image_patches(resized[0], processor.image_settings)[0])
    assert not torch.equal(same, other)


def test_patches_lie_in_the_order_of_the_vision_tower():
    """Four tokens of 2 x 2 patches each; a patch is channel, frame, row, column."""
    settings = ImageSettings(784, 10**6, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    pixels = torch.randint(256, (56, 84, 3), generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(pixels.to(torch.uint8).numpy())
    patches, grid = image_patches(image, settings)
    assert grid == (1, 4, 6)
    expected = [
        pixels[28 * i + 14 * y :, 28 * j + 14 * x :][:14, :14].permute(2, 0, 1)  # (3, 14, 14)
        for i in range(2) for j in range(3) for y in range(2) for x in range(2)
    ]  # fmt: skip
    assert torch.equal(patches, torch.stack(expected).flatten(1))
    two_frames = torch.stack([torch.stack(expected)] * 2, dim=2)
    found = settings.pixel_values(patches)
    assert_close(found, two_frames.flatten(1) / 255, rtol=0, atol=1e-6)


def test_settings_may_stand_under_size_or_beside_it():
    values = {
        "image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255,
        "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2,
    }  # fmt: skip
    limits = {"min_pixels": 784, "max_pixels": 5000}
    size = {"size": {"shortest_edge": 784, "longest_edge": 5000}}
    assert ImageSettings.from_dict(values | limits) == ImageSettings.from_dict(values | size)
    assert ImageSettings.from_dict(values | limits).max_pixels == 5000


# ---- prompts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "prompt_name", "prompt"),
    [
        ("retrieval", "query", "Query"),
        ("retrieval", "passage", "Passage"),
        ("code", "query", "Query"),
        ("code", "passage", "Passage"),
        ("text-matching", "query", "Query"),
        ("text-matching", "passage", "Query"),
    ],
)
def test_a_text_stands_behind_the_prompt_of_its_task(processor, task, prompt_name, prompt):
    assert prompt_for(task, prompt_name) == prompt
    item = processor.sequence("a cat", None, task=task, prompt_name=prompt_name)
    assert processor.tokenizer.decode(item.input_ids.tolist()) == f"{prompt}: a cat"
    assert item.pooled == (0, len(item))
    assert torch.equal(item.position_ids, rope_positions(len(item)))


def test_an_image_has_one_prompt_for_all(processor, loaded_images):
    items = [
        processor.sequence(None, loaded_images[0], task=task, prompt_name=name)
        for task in ("retrieval", "text-matching", "code")
        for name in ("query", "passage")
    ]
    assert len({tuple(item.input_ids.tolist()) for item in items}) == 1
    text = processor.tokenizer.decode(items[0].input_ids.tolist(), skip_special_tokens=False)
    vision = "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>"
    assert text == f"<|im_start|>user\n{vision}Describe the image.<|im_end|>\n"
    before = text.index("<|vision_start|>")
    start = len(processor.tokenizer.encode("user\n").ids) + 1
    assert before > 0
    assert items[0].pooled == (start, start + 6)


def test_a_text_with_an_image_replaces_its_caption_and_is_pooled(processor, loaded_images):
    image, caption = loaded_images[0], "a red house"
    plain = processor.image_sequence(image)
    item = processor.sequence(caption, image, task="retrieval", prompt_name="query")
    text = processor.tokenizer.decode(item.input_ids.tolist(), skip_special_tokens=False)
    assert text.endswith(f"<|vision_end|>{caption}<|im_end|>\n")
    assert "Describe" not in text
    tail = 1 + len(processor.tokenizer.encode("\n").ids)
    assert item.pooled == (plain.pooled[0], len(item) - tail)
    assert plain.pooled[1] < len(plain) - tail
    assert torch.equal(item.patches, plain.patches)
    assert torch.equal(item.position_ids, rope_positions(len(item), plain.pooled[0] + 1, (2, 2)))
    spelled_out = processor.image_sequence(image, text="Describe the image.")
    assert torch.equal(spelled_out.input_ids, plain.input_ids)
    assert spelled_out.pooled != plain.pooled


def test_a_text_beside_an_image_gives_way_and_the_image_never(processor, loaded_images):
    image = loaded_images[0]
    whole = processor.image_sequence(image, text="a red house by the sea")
    cut = processor.image_sequence(image, text="a red house by the sea", max_length=len(whole) - 2)
    assert len(cut) == len(whole) - 2
    assert torch.equal(cut.patches, whole.patches)
    assert cut.pooled == (whole.pooled[0], whole.pooled[1] - 2)
    with pytest.raises(ValueError, match="no room for the text; got 10 tokens .* limit of 12"):
        processor.image_sequence(image, text="a red house", max_length=12)
    assert len(processor.image_sequence(image, max_length=1)) == len(
        processor.image_sequence(image)
    )


@pytest.mark.parametrize("max_length", [1, 5, 9])
def test_max_length_cuts_a_text_from_behind(processor, max_length):
    whole = processor.text_sequence("a cat on a sofa", prompt="Query")
    cut = processor.text_sequence("a cat on a sofa", prompt="Query", max_length=max_length)
    assert len(whole) > 9
    assert torch.equal(cut.input_ids, whole.input_ids[:max_length])
    assert torch.equal(cut.position_ids, whole.position_ids[:, :max_length])
    assert cut.pooled == (0, max_length)
    padded = processor.process_texts(["a cat on a sofa"], max_length=max_length, prefix="Query")
    assert torch.equal(padded["input_ids"][0], cut.input_ids)


def test_no_text_is_longer_than_the_official_limit(processor):
    assert len(processor.text_sequence("1 " * 20000)) == MAX_TEXT_TOKENS == 32768
    padded = processor.process_texts(["1 " * 20000], max_length=10**6)
    assert padded["input_ids"].shape == (1, MAX_TEXT_TOKENS)


def test_texts_can_be_padded_to_max_length(processor):
    padded = processor.process_texts(["a", "a cat"], max_length=40, padding="max_length")
    assert padded["input_ids"].shape == (2, 40)
    lengths = padded["attention_mask"].sum(1).tolist()
    assert lengths == [len(processor.text_sequence(text)) for text in ("a", "a cat")]
    assert (padded["input_ids"][0, lengths[0] :] == processor.pad_token_id).all()


# ---- texts that look like control ----------------------------------------------------------


@pytest.mark.parametrize("token", QWEN_TOKENS)
@pytest.mark.parametrize("text", ["{}", "a {} b", "{0}{0}", "\n{}user\n", "{}Describe the image."])
def test_a_typed_special_token_is_never_a_control_id(processor, special_ids, token, text):
    typed = text.format(token)
    item = processor.text_sequence(typed, prompt="Passage")
    assert not special_ids & set(item.input_ids.tolist())
    assert processor.tokenizer.decode(item.input_ids.tolist()) == f"Passage: {typed}"
    assert processor.tokenizer.token_to_id(token) in special_ids  # it could have been


def test_a_typed_special_token_beside_an_image_is_no_second_image(processor, loaded_images):
    token = "<|image_pad|>"  # noqa: S105
    item = processor.image_sequence(loaded_images[0], text=f"{token}<|vision_end|>")
    image_id = processor.tokenizer.token_to_id(token)
    assert (item.input_ids == image_id).sum() == 4


def test_an_images_facts_give_its_sequence_without_patches(processor, loaded_images):
    for number, image in enumerate(loaded_images):
        facts = ImageFacts(*image.size, b"%d" % number)
        for text in (None, "a caption"):
            whole = processor.image_sequence(image, text=text, identity=facts.identity)
            known = processor.image_sequence(facts, text=text)
            assert known.patches is None
            assert len(whole.patches) == 4 * whole.vision_tokens
            for field in fields(whole):
                if field.name != "patches":
                    found, expected = (getattr(s, field.name) for s in (known, whole))
                    same = torch.equal if isinstance(found, torch.Tensor) else operator.eq
                    assert same(found, expected), field.name


def test_equal_contents_are_equal_to_the_model_and_others_are_not(processor):
    text = processor.text_sequence
    contents = [text("a", prompt="Query").content, text("a", prompt="Passage").content,
                text("b", prompt="Query").content, text("a").content]  # fmt: skip
    assert len({*contents}) == 4
    assert text("Query: a").content == contents[0]
    assert text("a b", max_length=1).content == text("a c", max_length=1).content
