"""The texts and images an export is checked with, from the rows of a JSONL file."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from jina.data.image_loading import load_image
from jina.data.records import Item, RecordError, read_samples
from jina.data.validation import DataError, image_root, readable

QUERY, PASSAGE, IMAGE, BOTH = "query", "passage", "image", "image with text"
IMAGE_IN_MIXED_LIST = "image in a mixed list"


class ParityItem(NamedTuple):
    """Something to embed: its kind, a text or an image or both."""

    kind: str
    text: str | None = None
    image: Image.Image | None = None


class Vectors(NamedTuple):
    """What a model makes of one item: one vector (H,), vectors of its tokens (L, D), or both."""

    single: Tensor | None
    multi: Tensor | None


def read_parity_items(file: Path, image_base_dir: Path | None, limit: int) -> list[ParityItem]:
    """Take the first texts and images of a JSONL file.

    Every text comes twice, as a query and as a passage. Images and texts are also paired, in the
    order in which they come, so that all kinds of items are there.

    Args:
        file: rows as data/README.md describes them.
        image_base_dir: where image paths start; the file's folder if `None`.
        limit: how many different texts, and how many images, to take.

    Raises:
        DataError: a bad row, or a file without texts or without images.
        ImageError: a picture that can't be read.
    """
    readable([file])
    texts: dict[str, None] = {}
    paths: dict[str, None] = {}
    for item in _items(file):
        if item.text is not None and len(texts) < limit:
            texts[item.text] = None
        if item.image is not None and len(paths) < limit:
            paths[item.image] = None
        if len(texts) == len(paths) == limit:
            break
    if not texts or not paths:
        raise DataError(
            f"{file}: can't check texts and images; got {len(texts)} texts and {len(paths)} "
            "images; name a file that holds both"
        )
    root = image_root(file, image_base_dir)
    images = [load_image(path, root=root) for path in paths]
    return [
        *(ParityItem(kind, text=text) for kind in (QUERY, PASSAGE) for text in texts),
        *(ParityItem(IMAGE, image=image) for image in images),
        *(ParityItem(BOTH, *pair) for pair in zip(texts, images, strict=False)),
    ]


def _items(file: Path) -> Iterator[Item]:
    for sample in read_samples(file):
        if isinstance(sample, RecordError):
            raise DataError(*sample.problems)
        yield from (sample.query, *sample.positives, *sample.negatives)
