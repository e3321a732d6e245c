"""The one door from bytes to pixels: everything that becomes an image passes `load_image`.

    path ─ inside the root? a regular file? ─► header ─ size and shape? ─► pixels ─► upright RGB

What comes out is 8-bit RGB, the right way up, the same for a path and for the `PIL.Image` opened
from it. Transparency is laid on white. Grey images of more than 8 bits are scaled from black = 0
to white = the largest number of their bit depth (1.0 for floats), where Pillow would clip them.
CMYK, YCbCr and palettes are converted by Pillow's formulas; colour profiles are ignored, as the
official processor ignores them. Of several frames the first counts; unreadable EXIF data is no
reason to turn an image.

Whatever cannot be trusted raises `ImageError`. No network, device or decoder other than
`_DECODERS` is ever reached. Pillow's global switches stay as they are, and its format classes are
called directly, because `Image.open` warns of large images before anybody can ask their size.
"""

import hashlib
import os
import re
import reprlib
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

# A3 paper at 600 dpi has 70 million pixels; the model looks at 0.6 million at most.
MAX_IMAGE_PIXELS = 80_000_000
MAX_IMAGE_BYTES = 256 * 2**20
# The official image processor refuses longer strips, too.
MAX_ASPECT_RATIO = 200
FORMATS = "PNG, JPEG, WebP, GIF, BMP, TIFF or PPM"

_DECODERS: dict[type[ImageFile.ImageFile], tuple[bytes, ...]] = {
    PngImageFile: (b"\x89PNG\r\n\x1a\n",),
    JpegImageFile: (b"\xff\xd8\xff",),
    WebPImageFile: (b"RIFF",),
    GifImageFile: (b"GIF87a", b"GIF89a"),
    BmpImageFile: (b"BM",),
    TiffImageFile: (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    PpmImageFile: (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf"),
}

# What Pillow raises on damaged files and closed images, some of it often, the rest rarely.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError)
_DECODING_ERRORS += (AttributeError, ArithmeticError, MemoryError, RuntimeError, AssertionError)
_DECODING_ERRORS += (struct.error, zlib.error)

_shortened = reprlib.Repr()
_shortened.maxstring = 200
_SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]+://|data:)", re.IGNORECASE)

_EXIF_ORIENTATION = 274
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_TIFF_BITS_PER_SAMPLE, _TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2

# PNG names its transparent colour in the file's own depth, Pillow compares it with 8-bit pixels.
_KEY_COLOUR_SCALES = {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}


class ImageError(ValueError):
    """An image that is not used, as `<where>: <what is wrong>; got <value>; <what to do>`."""


def load_image(source: str | Path | Image.Image, *, root: Path | None = None) -> Image.Image:
    """Return an image as upright 8-bit RGB, in memory and without metadata.

    Args:
        source: A path, or an image from Pillow, which is decoded if it is not yet.
        root: The folder that relative paths start from and that no path may leave, not even by a
            symbolic link; None trusts the caller with any path.

    Raises:
        ImageError: If the source is not a sound image file within the limits above.
    """
    with opened_image(source, root=root) as image:
        _match_key_colour(image)
        image.load()
        pixels = _to_rgb(image)
        # Asked only now: decoding turns a TIFF by itself and then drops its orientation.
        orientation = _orientation(image)
        if orientation != 1:
            pixels = pixels.transpose(_TO_UPRIGHT[orientation])
    pixels.info = {}
    return pixels


def image_size(source: str | Path | Image.Image, *, root: Path | None = None) -> tuple[int, int]:
    """Return the width and height `load_image` would give, reading no more than the header."""
    with opened_image(source, root=root) as image:
        return upright_size(image)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the width and height that `load_image` would give an opened image."""
    width, height = image.size
    # The size of a TIFF is upright from the start.
    lies_on_its_side = image.format != "TIFF" and _orientation(image) >= 5
    return (height, width) if lies_on_its_side else (width, height)


def pixel_identity(image: Image.Image) -> bytes:
    """Return 16 bytes that two images from `load_image` share exactly if all their pixels agree."""
    digest = hashlib.blake2b(struct.pack("<2Q", *image.size), digest_size=16)
    digest.update(image.tobytes())
    return digest.digest()


@contextmanager
def opened_image(
    source: str | Path | Image.Image, *, root: Path | None = None
) -> Iterator[Image.Image]:
    """Yield an image whose header is approved and whose pixels are not decoded yet.

    Everything raised in here, and in the block it serves, leaves as an `ImageError` that names
    the source.
    """
    try:
        if isinstance(source, Image.Image):
            _check_size(source)
            yield source
        else:
            with _regular_file(source, root).open("rb") as stream:
                image = _decoder(stream)(stream)
                _check_size(image)
                yield image
    except ImageError as error:
        raise ImageError(f"{_where(source)}: {error}") from error.__cause__
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow found out before we could: a WebP canvas, a GIF frame larger than its screen.
        message = f"has too many pixels; got {error}; scale it to {MAX_IMAGE_PIXELS:,} at most"
        raise ImageError(f"{_where(source)}: {message}") from error
    except _DECODING_ERRORS as error:
        got = _short(f"{type(error).__name__}: {error}")
        message = f"cannot be read as an image; got {got}; replace it by a sound file"
        raise ImageError(f"{_where(source)}: {message}") from error


def _regular_file(source: str | Path, root: Path | None) -> Path:
    """Return the real path of a file that may be opened: in the root, regular, not too large."""
    name = os.fspath(source)
    if _SCHEME.match(name):
        raise ImageError(f"is a URL; got {_short(name)}; download it and give the file's path")
    path = Path(root, name) if root is not None else Path(name)
    try:
        path = path.resolve(strict=True)
    except FileNotFoundError as error:
        raise ImageError(f"does not exist; got {_short(str(path))}; correct the path") from error
    if root is not None and not path.is_relative_to(Path(root).resolve()):
        remedy = f"move it below {root} or set image_base_dir"
        raise ImageError(f"lies outside the image folder; got {_short(str(path))}; {remedy}")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = stat.filemode(status.st_mode)
        raise ImageError(f"is not a regular file; got {kind}; give the path of an image file")
    if not status.st_size:
        raise ImageError("is empty; got 0 bytes; replace the file")
    if status.st_size > MAX_IMAGE_BYTES:
        remedy = f"save it in at most {MAX_IMAGE_BYTES:,} bytes"
        raise ImageError(f"is too large a file; got {status.st_size:,} bytes; {remedy}")
    return path


def _decoder(stream: BinaryIO) -> type[ImageFile.ImageFile]:
    """Choose Pillow's class by the first bytes, whatever the file is called."""
    head = stream.read(8)
    stream.seek(0)
    for decoder, magic_numbers in _DECODERS.items():
        if head.startswith(magic_numbers):
            return decoder
    raise ImageError(f"is in none of the formats read here; got {head!r}; save it as {FORMATS}")


def _check_size(image: Image.Image) -> None:
    """Refuse sizes the model cannot use or the machine should not decode."""
    width, height = image.size
    got = f"got {width} x {height}"
    if not width or not height:
        raise ImageError(f"has no pixels; {got}; replace it")
    if width * height > MAX_IMAGE_PIXELS:
        raise ImageError(f"has too many pixels; {got}; scale it to {MAX_IMAGE_PIXELS:,} at most")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageError(f"is too long a strip; {got}; crop it to {MAX_ASPECT_RATIO} : 1 at most")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) where there is none or none that can be read."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except _DECODING_ERRORS:
        # Viewers show such an image as it is stored, and so do we.
        return 1
    return orientation if orientation in _TO_UPRIGHT else 1


def _match_key_colour(image: Image.Image) -> None:
    """Bring the transparent colour of a PNG to the depth its pixels will have."""
    key = image.info.get("transparency")
    tile = getattr(image, "tile", None)
    if image.format == "PNG" and tile and tile[0][3] in _KEY_COLOUR_SCALES:
        scale = _KEY_COLOUR_SCALES[tile[0][3]]
        if isinstance(key, int):
            image.info["transparency"] = key * scale
        elif isinstance(key, tuple):
            image.info["transparency"] = tuple(int(value * scale) for value in key)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, with white behind what is transparent."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":
        # Pillow knows no direct way from premultiplied grey to RGBA.
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(rgba, mask=rgba)
    return canvas


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale a deep grey image to the 256 greys of mode L, or LA if one grey is transparent."""
    levels = np.asarray(image)
    white = _white_level(image)
    lowest, highest = levels.min(), levels.max()
    # Written so that NaN, which is never in order, fails too.
    if not 0 <= lowest <= highest <= white:
        remedy = "scale it and save it with 8 bits"
        raise ImageError(f"has pixels outside 0 to {white}; got {lowest} to {highest}; {remedy}")
    greys = np.multiply(levels, 255 / white, dtype=np.float32)
    if _tiff_tag(image, _TIFF_PHOTOMETRIC, 1) == _WHITE_IS_ZERO:
        # Pillow inverts such greys up to 8 bits, but no deeper ones.
        greys = 255 - greys
    grey = Image.fromarray(np.rint(greys).astype(np.uint8))
    if "transparency" not in image.info:
        return grey
    alpha = np.where(levels == image.info["transparency"], 0, 255).astype(np.uint8)
    return Image.merge("LA", (grey, Image.fromarray(alpha)))


def _white_level(image: Image.Image) -> int:
    """Return the pixel value that means white: 1 for floats, the depth's largest for integers."""
    if image.mode == "F":
        return 1
    bits = _tiff_tag(image, _TIFF_BITS_PER_SAMPLE, 16)
    if bits > 16:
        # By custom, 32-bit integers hold 16-bit pixels: PNG, PGM and Pillow itself do so.
        return 65535
    is_signed = _tiff_tag(image, _TIFF_SAMPLE_FORMAT, 1) == _SIGNED
    return 2 ** (bits - is_signed) - 1


def _tiff_tag(image: Image.Image, tag: int, default: int) -> int:
    """Return the first value of a TIFF tag, the default for images from other formats."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return value[0] if isinstance(value, tuple) else value


def _where(source: str | Path | Image.Image) -> str:
    """Name a source in a message."""
    return "PIL image" if isinstance(source, Image.Image) else _short(str(source))


def _short(text: str) -> str:
    """Return a text fit for a message: on one line, printable and not too long."""
    return text if text.isprintable() and len(text) <= 200 else _shortened.repr(text)
