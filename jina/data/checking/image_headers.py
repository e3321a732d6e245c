"""What an image file tells without its pixels: its size, and an identity that is nearly certain.

    path ─ checks of `image_loading` ─► header ─► upright size
                                      └► length, first and last 16 KiB ─► identity

Of a file of any length no more is read than its header, the names of its PNG chunks and these 32
KiB. Different files with one identity could differ only in between, which pictures compressed apart
don't. The other way round, one picture in two formats has two identities here, while
`pixel_identity` sees that they are the same.
"""

import hashlib
import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL.PngImagePlugin import PngImageFile

from jina.data.image_loading import opened_image, upright_size

END_BYTES = 16 * 1024
# Of a PNG of more chunks than this the pixels are decoded, to see what stands behind them.
MAX_PNG_CHUNKS = 65_536
_PNG_METADATA = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")
_EXIF_KEYS = {"exif", "Raw profile type exif"}


class ImageFacts(NamedTuple):
    """Upright width and height of a sound image, and 16 bytes that equal images share."""

    width: int
    height: int
    identity: bytes


def read_header(path: str | Path, *, root: Path | None = None) -> ImageFacts:
    """Check an image file as `load_image` does, as far as that goes without decoding it.

    Raises:
        ImageError: If the file may not be opened or its header is unsound.
    """
    with opened_image(path, root=root) as image:
        stream = image.fp
        if isinstance(image, PngImageFile) and not _EXIF_KEYS & image.info.keys():
            place = stream.tell()
            if _ends_with_pixels(stream):
                # Else Pillow would decode the pixels to look for EXIF data behind them.
                image.info["exif"] = b""
            stream.seek(place)
        return ImageFacts(*upright_size(image), _file_identity(stream))


def _ends_with_pixels(stream: BinaryIO) -> bool:
    """Tell whether no chunk that may hold an orientation stands behind the pixels of a PNG."""
    stream.seek(8)
    has_pixels = False
    for _ in range(MAX_PNG_CHUNKS):
        head = stream.read(8)
        if len(head) < 8:
            return True
        length, kind = struct.unpack(">I4s", head)
        has_pixels = has_pixels or kind == b"IDAT"
        if kind == b"IEND" or (has_pixels and kind in _PNG_METADATA):
            return kind == b"IEND"
        stream.seek(length + 4, os.SEEK_CUR)
    return False


def _file_identity(stream: BinaryIO) -> bytes:
    """Return a digest of the length and both ends of a file."""
    length = stream.seek(0, os.SEEK_END)
    digest = hashlib.blake2b(struct.pack("<Q", length), digest_size=16)
    stream.seek(0)
    digest.update(stream.read(END_BYTES))
    stream.seek(max(END_BYTES, length - END_BYTES))
    digest.update(stream.read(END_BYTES))
    return digest.digest()
