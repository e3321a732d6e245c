"""How long items are in what the model counts, from sizes alone, and which of them can't fit.

Items ─ vision_tokens ─► tokens of each image ─ text_room ─► tokens left to the text beside it
      ─ item_tokens ─► about how many tokens each item has
RowIndex ─ images_without_room ─► problems of rows that no cutting makes fit
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jina.data.records import Item
from jina.data.row_index import SIDES, Items, RowIndex
from jina.data.validation import Problem

# What English and code come to; a text of another script has fewer bytes a token.
ASSUMED_BYTES_PER_TOKEN = 4
# `<|im_start|>user\n<|vision_start|>` and what follows the picture; "Query: " before a text.
IMAGE_PROMPT_TOKENS, TEXT_PROMPT_TOKENS = 12, 2


@dataclass(frozen=True)
class Measures:
    """How a run measures items.

    Attributes:
        vision_tokens: Tokens of an image of some width and height.
        max_vision_tokens: The most an image can have.
        min_pixels: Smaller images are enlarged; None where images get one size.
        max_pixels: Larger images are shrunk; None where images get one size.
        max_text_tokens: A text is cut so that it and the image beside it have no more.
        text_tokens: Tokens of an item's text in a task as `query` or `passage`, with the prompt
            that a text without an image gets; None without a tokenizer.
        origin: Whose tokenizer and image sizes these are.
        image_prompt_tokens: What surrounds an image and its text.
        max_tokens: What the model reads of an item at most.
    """

    vision_tokens: Callable[[int, int], int]
    max_vision_tokens: int
    min_pixels: int | None
    max_pixels: int | None
    max_text_tokens: int
    text_tokens: Callable[[Item, str, str], int] | None
    origin: str
    image_prompt_tokens: int = IMAGE_PROMPT_TOKENS
    max_tokens: int = 32_768


def vision_tokens(items: Items, count: Callable[[int, int], int]) -> np.ndarray:
    """Return the tokens of each item's image, of which `count` is asked: (items,); 0 for none."""
    sizes, place = np.unique(
        items.widths.astype(np.int64) << 32 | items.heights.astype(np.int64), return_inverse=True
    )
    pairs = ((size >> 32, size & 0xFFFFFFFF) for size in sizes.tolist())
    tokens = [count(*pair) if pair[0] else 0 for pair in pairs]
    return np.array(tokens, np.int64)[place]


def text_room(items: Items, measures: Measures) -> np.ndarray:
    """Return how many tokens the text of each item may have before it is cut: (items,)."""
    return np.maximum(measures.max_text_tokens - _image_tokens(items, measures), 0)


def item_tokens(items: Items, measures: Measures, *, tokens_per_byte: float) -> np.ndarray:
    """Return about how many tokens each item has, its prompt included: (items,)."""
    text = items.text_bytes * tokens_per_byte + TEXT_PROMPT_TOKENS * (items.widths == 0)
    text = np.minimum(text, text_room(items, measures)) * (items.text_bytes > 0)
    return text + _image_tokens(items, measures)


def row_tokens(index: RowIndex, measures: Measures) -> np.ndarray:
    """Return about how many tokens each row has: (rows,)."""
    tokens = np.zeros(len(index))
    for side in SIDES:
        items: Items = getattr(index, side)
        of_items = item_tokens(items, measures, tokens_per_byte=1 / ASSUMED_BYTES_PER_TOKEN)
        tokens += np.bincount(items.rows, of_items, minlength=len(index))
    return tokens


def images_without_room(
    files: Sequence[Path], index: RowIndex, measures: Measures
) -> Iterator[Problem]:
    """Find images, which are never cut, that fill the limit: of a text beside them, or the model's.

    Args:
        files: That the index counts.
        index: Of the rows.
        measures: How a run measures items.
    """
    for side, name in zip(SIDES, ("query", "positive", "negative"), strict=True):
        items: Items = getattr(index, side)
        tokens, has_text = vision_tokens(items, measures.vision_tokens), items.text_bytes > 0
        limits = np.where(has_text, measures.max_text_tokens, measures.max_tokens)
        fills = (items.widths > 0) & (tokens >= limits - measures.image_prompt_tokens)
        for item in np.flatnonzero(fills):
            row = items.rows[item]
            place = f"[{item - items.offsets[row]}]" if items.counts[row] > 1 else ""
            what, limit, remedy = "is longer than the model reads", "", "lower data.max_pixels"
            if has_text[item]:
                what, limit = "leaves the text beside it no room", "data.max_text_tokens "
                remedy = "raise that or lower data.max_pixels"
            yield Problem(
                str(files[index.files[row]]),
                int(index.lines[row]),
                f"{name}_image{place}",
                what,
                f"{tokens[item]} vision tokens for {limit}{limits[item]}",
                remedy,
            )


def _image_tokens(items: Items, measures: Measures) -> np.ndarray:
    """Return the tokens of each item's image and of what surrounds it: (items,); 0 for none."""
    image = vision_tokens(items, measures.vision_tokens) + measures.image_prompt_tokens
    return image * (items.widths > 0)
