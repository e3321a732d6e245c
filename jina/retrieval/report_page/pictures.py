"""Items as the page shows them: a shortened text, and a small picture inside the page.

Texts and files are whoever's wrote the rows: a text is only ever escaped by the template, and a
picture is decoded by `load_image` and encoded anew, so that nothing of the file itself arrives.
"""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from jina.data.image_loading import ImageError, load_image
from jina.retrieval.item_collections import ItemReader

SIDE = 176  # pixels, enough for a screen with two of them to a CSS pixel
QUALITY = 70
MAX_TEXT = 400  # characters
MAX_BYTES = 3_500_000  # of all pictures of a page


@dataclass(frozen=True)
class ItemView:
    """An item as it is shown.

    Attributes:
        text: shortened; `None` without one.
        picture: a data URI; `None` without one.
        note: why there is no picture where the item has an image.
        where: the line it stands on, such as `eval.jsonl:7: positive[0]`.
    """

    text: str | None
    picture: str | None
    note: str | None
    where: str


class Pictures:
    """Shows items by their ids, each made once, and keeps to the page's size.

    Args:
        reader: of the held-out rows.
        room: bytes that all pictures may have together.
    """

    def __init__(self, reader: ItemReader, *, room: int = MAX_BYTES) -> None:
        self.reader, self.room = reader, room
        self._made: dict[str, ItemView] = {}

    def view(self, name: str) -> ItemView:
        """Return an item as it is shown.

        Args:
            name: the item's id.
        """
        if name not in self._made:
            self._made[name] = self._view(name)
        view = self._made[name]
        self.room -= len(view.picture or "")
        if self.room < 0 and view.picture is not None:
            return ItemView(view.text, None, "left out, as the page is full", view.where)
        return view

    def _view(self, name: str) -> ItemView:
        (item,) = self.reader.read([int(name, 16)])
        text = item.text
        if text is not None and len(text) > MAX_TEXT:
            text = f"{text[: MAX_TEXT - 1]}…"
        picture, note = None, None
        if item.image is not None:
            try:
                picture = data_uri(load_image(item.image, root=item.root))
            except ImageError as error:
                note = str(error)
        return ItemView(text, picture, note, Path(item.where).name)


def data_uri(image: Image.Image, side: int = SIDE) -> str:
    """Return a small WebP of an image as a data URI."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _encoded(small, "WEBP", quality=QUALITY)


def heat_uri(values: list[list[float]]) -> str:
    """Return a picture with a pixel for each cell, clear where cold and red where hot.

    Args:
        values: rows of cells, each from 0 to 1.
    """
    picture = Image.new("RGBA", (len(values[0]), len(values)))
    picture.putdata([(255, 40, 0, round(200 * value)) for row in values for value in row])
    return _encoded(picture, "PNG")


def _encoded(image: Image.Image, kind: str, **options: int) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    code = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{code}"
