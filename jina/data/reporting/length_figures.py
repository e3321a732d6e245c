"""How long texts and images are, in what the model counts, against the limits of a run.

Images are measured one by one from their sizes. Texts are tokenized where there is a tokenizer: a
few thousand evenly spaced ones, and all that may be over the limit; without one, their bytes count.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jina.data.row_index import SIDES, Items, RowIndex
from jina.data.validation import Problem, Scan, read_row

MEASURED_ROWS = 5000
# A token is at least a byte of the text after normalisation, which makes few texts longer.
LONGEST_NORMALISED = 3
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
        max_text_tokens: Longer texts are cut.
        text_tokens: Tokens of a text and its prompt; None without a tokenizer.
        origin: Whose tokenizer and image sizes these are.
        image_prompt_tokens: What surrounds an image and its text.
    """

    vision_tokens: Callable[[int, int], int]
    max_vision_tokens: int
    min_pixels: int | None
    max_pixels: int | None
    max_text_tokens: int
    text_tokens: Callable[[str], int] | None
    origin: str
    image_prompt_tokens: int = IMAGE_PROMPT_TOKENS


def texts_without_room(
    files: Sequence[Path], index: RowIndex, measures: Measures
) -> Iterator[Problem]:
    """Find items of image and text whose image alone fills the limit: it is never cut.

    Args:
        files: That the index counts.
        index: Of the rows.
        measures: How a run measures items.
    """
    room = measures.max_text_tokens - measures.image_prompt_tokens
    for side, name in zip(SIDES, ("query", "positive", "negative"), strict=True):
        items: Items = getattr(index, side)
        tokens = vision_tokens(items.widths, items.heights, measures.vision_tokens)
        has_both = (items.text_bytes > 0) & (items.widths > 0)
        for item in np.flatnonzero(has_both & (tokens >= room)):
            row = items.rows[item]
            yield Problem(
                str(files[index.files[row]]),
                int(index.lines[row]),
                f"{name}_image",
                "leaves the text beside it no room",
                f"{tokens[item]} vision tokens for data.max_text_tokens {measures.max_text_tokens}",
                "raise that or lower data.max_pixels",
            )


def text_figures(scan: Scan, measures: Measures) -> dict[str, object]:
    """Measure the texts."""
    sizes = np.concatenate([_sides(scan)[side].text_bytes for side in SIDES])
    sizes, limit = sizes[sizes > 0], measures.max_text_tokens
    if measures.text_tokens is None:
        over = int((sizes > limit).sum())
        figures = {"unit": "bytes", "measured": len(sizes), "limit": limit, "perhaps_cut": over}
        return figures | _spread(sizes) | {"tokens_per_byte": 1 / ASSUMED_BYTES_PER_TOKEN}
    rows = range(0, len(scan.index), max(1, len(scan.index) // MEASURED_ROWS))
    texts = list(_texts(scan, rows))
    lengths = np.array([measures.text_tokens(text) for text in texts], np.int64)
    long_texts = _texts(scan, _rows_over(scan, limit // LONGEST_NORMALISED))
    long_lengths = np.array([measures.text_tokens(text) for text in long_texts], np.int64)
    figures = _spread(lengths)
    if long_lengths.size:
        figures["maximum"] = max(figures.get("maximum", 0), int(long_lengths.max()))
    prompts, read = TEXT_PROMPT_TOKENS * len(texts), sum(len(text.encode()) for text in texts)
    return {
        "unit": "tokens",
        "measured": len(texts),
        "limit": limit,
        "cut": int((long_lengths > limit).sum()),
        "tokens_per_byte": float(lengths.sum() - prompts) / read if read else 0.0,
        **figures,
        "texts": len(sizes),
    }


def image_figures(scan: Scan, measures: Measures) -> dict[str, object]:
    """Measure the images, as often as rows show them."""
    columns = [(items.widths, items.heights) for items in _sides(scan).values()]
    widths, heights = (
        np.concatenate(column).astype(np.int64) for column in zip(*columns, strict=True)
    )
    areas = (widths * heights)[widths > 0]
    tokens = vision_tokens(widths, heights, measures.vision_tokens)[widths > 0]
    figures: dict[str, object] = {"images": len(areas), "distinct": scan.distinct_images}
    if measures.min_pixels is not None and measures.max_pixels is not None:
        figures["enlarged"] = int((areas < measures.min_pixels).sum())
        figures["shrunk"] = int((areas > measures.max_pixels).sum())
    return {**figures, "limit": measures.max_vision_tokens, **_spread(tokens)}


def tokens_per_row(scan: Scan, measures: Measures, *, tokens_per_byte: float) -> dict[str, float]:
    """Return how many tokens the items on each side of a row have on average, prompts included."""
    means = {}
    for side, items in _sides(scan).items():
        has_image = items.widths > 0
        text = items.text_bytes * tokens_per_byte + TEXT_PROMPT_TOKENS * ~has_image
        image = vision_tokens(items.widths, items.heights, measures.vision_tokens)
        tokens = np.minimum(text, measures.max_text_tokens) * (items.text_bytes > 0)
        tokens += (image + IMAGE_PROMPT_TOKENS) * has_image
        means[side] = float(tokens.sum()) / max(1, len(scan.index))
    return means


def estimated_tokens(index: RowIndex, count: Callable[[int, int], int]) -> np.ndarray:
    """Return about how many tokens each row has: (rows,)."""
    tokens = np.zeros(len(index))
    for side in SIDES:
        items: Items = getattr(index, side)
        of_items = vision_tokens(items.widths, items.heights, count)
        of_items = of_items + items.text_bytes / ASSUMED_BYTES_PER_TOKEN
        tokens += np.bincount(items.rows, of_items, minlength=len(index))
    return tokens


def vision_tokens(
    widths: np.ndarray, heights: np.ndarray, count: Callable[[int, int], int]
) -> np.ndarray:
    """Return the tokens of images of some sizes; 0 for no image."""
    sizes, place = np.unique(
        widths.astype(np.int64) << 32 | heights.astype(np.int64), return_inverse=True
    )
    pairs = ((size >> 32, size & 0xFFFFFFFF) for size in sizes.tolist())
    tokens = [count(*pair) if pair[0] else 0 for pair in pairs]
    return np.array(tokens, np.int64)[place]


def _sides(scan: Scan) -> dict[str, Items]:
    """Return the items of each side."""
    return {side: getattr(scan.index, side) for side in SIDES}


def _texts(scan: Scan, rows: range | list[int]) -> Iterator[str]:
    """Yield all texts of some rows."""
    for row in rows:
        sample = read_row(scan.files, scan.index, row)
        for item in (sample.query, *sample.positives, *sample.negatives):
            if item.text is not None:
                yield item.text


def _rows_over(scan: Scan, size: int) -> list[int]:
    """Return the rows with a text of more bytes."""
    found = [items.rows[items.text_bytes > size] for items in _sides(scan).values()]
    return np.unique(np.concatenate(found)).tolist()


def _spread(lengths: np.ndarray) -> dict[str, object]:
    """Return where lengths lie, and how many in each doubling of the length."""
    if not len(lengths):
        return {"histogram": []}
    ends = 2 ** np.arange(1, int(lengths.max()).bit_length() + 1)
    counts = np.bincount(np.searchsorted(ends, lengths, side="right"), minlength=len(ends))
    first = int(np.flatnonzero(counts)[0])
    return {
        "minimum": int(lengths.min()),
        "median": float(np.median(lengths)),
        "percentile_95": float(np.percentile(lengths, 95)),
        "maximum": int(lengths.max()),
        "histogram": [
            {"from": int(end // 2), "to": int(end - 1), "count": int(count)}
            for end, count in zip(ends[first:], counts[first:], strict=True)
        ],
    }
