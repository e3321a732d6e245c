"""How long texts and images are, in what the model counts, against the limits of a run.

Images are measured one by one from their sizes. Texts are tokenized where there is a tokenizer: a
few thousand evenly spaced ones, and all that may be over the limit; without one, their bytes count.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from jina.data.item_lengths import (
    ASSUMED_BYTES_PER_TOKEN,
    TEXT_PROMPT_TOKENS,
    Measures,
    item_tokens,
    text_room,
    vision_tokens,
)
from jina.data.records import DEFAULT_TASK
from jina.data.row_index import SIDES, Items, RowIndex
from jina.data.validation import Scan, read_row

MEASURED_ROWS = 5000
# A token is at least a byte of the text after normalisation, which makes few texts longer.
LONGEST_NORMALISED = 3


class Rows(Protocol):
    """What holds checked rows: a scan, or a data set."""

    files: Sequence[Path]
    index: RowIndex


class TextLength(NamedTuple):
    """How long one text is.

    Attributes:
        tokens: With the prompt, where it has one.
        prompt: How many of them are the prompt's, about.
        room: How many there may be before it is cut.
        size: Bytes of UTF-8.
    """

    tokens: int
    prompt: int
    room: int
    size: int


def text_lengths(found: Rows, rows: Iterable[int], measures: Measures) -> Iterator[TextLength]:
    """Tokenize the texts of some rows."""
    rooms = {side: text_room(items, measures) for side, items in _sides(found.index).items()}
    for row in rows:
        sample = read_row(found.files, found.index, row)
        for side, items in zip(
            SIDES, ((sample.query,), sample.positives, sample.negatives), strict=True
        ):
            prompt_name = "query" if side == "queries" else "passage"
            start = getattr(found.index, side).offsets[row]
            for place, item in enumerate(items, start):
                if item.text is not None:
                    yield TextLength(
                        measures.text_tokens(item, sample.task or DEFAULT_TASK, prompt_name),
                        TEXT_PROMPT_TOKENS if item.image is None else 0,
                        int(rooms[side][place]),
                        len(item.text.encode()),
                    )


def text_figures(scan: Scan, measures: Measures) -> dict[str, object]:
    """Measure the texts."""
    sides = _sides(scan.index).values()
    sizes = np.concatenate([items.text_bytes[items.text_bytes > 0] for items in sides])
    limit = measures.max_text_tokens
    if measures.text_tokens is None:
        over = sum(int(_may_be_cut(items, measures, 1).sum()) for items in sides)
        figures = {"unit": "bytes", "measured": len(sizes), "limit": limit, "perhaps_cut": over}
        return figures | _spread(sizes) | {"tokens_per_byte": 1 / ASSUMED_BYTES_PER_TOKEN}
    rows = range(0, len(scan.index), max(1, len(scan.index) // MEASURED_ROWS))
    texts = [*text_lengths(scan, rows, measures)]
    over = [items.rows[_may_be_cut(items, measures, LONGEST_NORMALISED)] for items in sides]
    long_texts = [*text_lengths(scan, np.unique(np.concatenate(over)).tolist(), measures)]
    figures = _spread(np.array([text.tokens for text in texts], np.int64))
    if figures["histogram"]:
        figures["maximum"] = max(text.tokens for text in chain(texts, long_texts))
    read = sum(text.size for text in texts)
    own_tokens = sum(text.tokens - text.prompt for text in texts)
    return {
        "unit": "tokens",
        "measured": len(texts),
        "limit": limit,
        "cut": sum(text.tokens > text.room for text in long_texts),
        "tokens_per_byte": own_tokens / read if read else 0.0,
        **figures,
        "texts": len(sizes),
    }


def image_figures(scan: Scan, measures: Measures) -> dict[str, object]:
    """Measure the images, as often as rows show them."""
    sides = _sides(scan.index).values()
    shown = [items.widths > 0 for items in sides]
    areas, tokens = (
        np.concatenate([column[kept] for column, kept in zip(columns, shown, strict=True)])
        for columns in (
            [items.widths.astype(np.int64) * items.heights for items in sides],
            [vision_tokens(items, measures.vision_tokens) for items in sides],
        )
    )
    figures: dict[str, object] = {"images": len(areas), "distinct": scan.distinct_images}
    if measures.min_pixels is not None and measures.max_pixels is not None:
        figures["enlarged"] = int((areas < measures.min_pixels).sum())
        figures["shrunk"] = int((areas > measures.max_pixels).sum())
    return {**figures, "limit": measures.max_vision_tokens, **_spread(tokens)}


def tokens_per_row(
    index: RowIndex, measures: Measures, *, tokens_per_byte: float
) -> dict[str, float]:
    """Return how many tokens the items on each side of a row have on average, prompts included."""
    return {
        side: float(item_tokens(items, measures, tokens_per_byte=tokens_per_byte).sum())
        / max(1, len(index))
        for side, items in _sides(index).items()
    }


def _sides(index: RowIndex) -> dict[str, Items]:
    """Return the items of each side."""
    return {side: getattr(index, side) for side in SIDES}


def _may_be_cut(items: Items, measures: Measures, tokens_per_byte: int) -> np.ndarray:
    """Tell which items have a text that so many tokens a byte would make too long: (items,)."""
    prompts = TEXT_PROMPT_TOKENS * (items.widths == 0)
    tokens = items.text_bytes * tokens_per_byte + prompts
    return (items.text_bytes > 0) & (tokens > text_room(items, measures))


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
