"""Contents by which items are told apart: texts, and pixels of images under any name.

items ─ every image decoded once ─► Content, Content, …
documents ─► ContentIndex ─ a positive ─► the documents that are the same thing
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from jina.data.image_loading import ImageError, load_image, pixel_identity
from jina.data.records import Item
from jina.data.splitting import text_identity
from jina.retrieval.embedding_cache import content_key
from jina.retrieval.errors import RetrievalError

# Identities of images by folder and path from there.
Pixels = dict[tuple[Path, str], bytes]
# Decoding the largest image allowed takes about 1 GB, so the threads are few.
MAX_THREADS = 8


@dataclass(frozen=True)
class Content:
    """What an item holds.

    Attributes:
        text: Its text.
        image: The absolute path of its image.
        pixels: `pixel_identity` of the image, empty for none.
    """

    text: str | None
    image: str | None
    pixels: bytes

    @property
    def key(self) -> bytes:
        """What items share that are the same for the model."""
        return content_key(self.text, self.pixels)

    @property
    def parts(self) -> tuple[bytes, bytes]:
        """What texts share but for case and spaces, and what images share; empty for none."""
        return b"" if self.text is None else text_identity(self.text), self.pixels


class ContentIndex:
    """Finds documents by what they hold.

    Args:
        contents: The documents, numbered from 0.
    """

    def __init__(self, contents: Iterable[Content]) -> None:
        self._parts = [content.parts for content in contents]
        self._documents: dict[bytes, list[int]] = defaultdict(list)
        for number, parts in enumerate(self._parts):
            for part in filter(None, parts):
                self._documents[part].append(number)

    def equal_to(self, content: Content) -> set[int]:
        """Return the documents with this text and this image, or this lack of one."""
        return {n for n in self._sharing(content) if self._parts[n] == content.parts}

    def same_as(self, content: Content) -> set[int]:
        """Return the documents that share a text or an image and contradict in nothing.

        A picture without its caption is the same thing as the picture with it; a picture with
        another caption isn't.
        """
        return {
            number
            for number in self._sharing(content)
            if all(
                not own or not other or own == other
                for own, other in zip(self._parts[number], content.parts, strict=True)
            )
        }

    def _sharing(self, content: Content) -> set[int]:
        """Return the documents that share the text or the image."""
        parts = filter(None, content.parts)
        return {number for part in parts for number in self._documents.get(part, ())}


def item_content(item: Item, root: Path, pixels: Pixels) -> Content:
    """Return what an item holds, given the identities of images below `root`."""
    if item.image is None:
        return Content(item.text, None, b"")
    return Content(item.text, str(Path(root, item.image)), pixels[root, item.image])


def identify_images(images: Sequence[tuple[Path, str, str]]) -> Pixels:
    """Decode images, each once, and return the identities of their pixels.

    Args:
        images: Folder, path from there, and what to call the image in a message.

    Raises:
        RetrievalError: With all images that can't be decoded.
    """
    names: dict[tuple[Path, str], str] = {}
    for root, image, where in images:
        names.setdefault((root, image), where)
    problems: list[str] = []

    def identify(name: tuple[Path, str]) -> bytes | str:
        """Return the identity, or what is wrong."""
        root, image = name
        try:
            return pixel_identity(load_image(image, root=root))
        except ImageError as error:
            return f"{names[name]}: {error}"

    found: Pixels = {}
    bar = {"total": len(names), "desc": "images", "leave": False, "disable": None}
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool, tqdm(**bar) as progress:
        for name, identity in zip(names, pool.map(identify, names), strict=True):
            if isinstance(identity, str):
                problems.append(identity)
                progress.set_postfix_str(f"{len(problems)} need attention")
            else:
                found[name] = identity
            progress.update()
    if problems:
        raise RetrievalError(*problems)
    return found
