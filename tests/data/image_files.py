"""What odd and hostile image files are made of, and how their pixels are compared."""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

rows, columns = np.mgrid[0:16, 0:24]
# Asymmetric in both directions, so that a turned or mirrored copy cannot pass for it.
PICTURE = np.stack([columns * 10, rows * 15, (rows * 7 + columns * 3) % 256], axis=-1)
PICTURE = PICTURE.astype(np.uint8)
# Flat blocks of 8 x 8 survive JPEG unharmed.
GREY_BLOCKS = np.kron([[0, 90, 255], [200, 30, 128]], np.ones((8, 8))).astype(np.uint8)
RAMP_16 = np.linspace(0, 65535, 64).astype(np.uint16).reshape(4, 16)


@dataclass(frozen=True)
class Case:
    """A file and what it means: pixels (height, width, 3), or a reason to be refused."""

    name: str
    data: bytes
    pixels: np.ndarray | None = None
    reason: str = ""

    @property
    def kind(self) -> str:
        """Return the part of the name that says what is odd about the file."""
        return self.name.rsplit(" @", 1)[0]


def grey(levels: np.ndarray) -> np.ndarray:
    """Return grey levels of 0 to 255 as RGB."""
    return np.repeat(np.rint(levels)[..., None], 3, axis=-1).astype(np.uint8)


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay colours of 0 to 255 over white; alpha is 0 to 1."""
    return np.rint(colours * alpha[..., None] + 255 * (1 - alpha[..., None])).astype(np.uint8)


def saved(image: Image.Image | np.ndarray, file_format: str, **options: object) -> bytes:
    """Return the file Pillow writes for an image."""
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """Return one PNG chunk."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(samples: np.ndarray, *, depth: int, colour: int, extra: bytes = b"") -> bytes:
    """Write a PNG by hand: samples (height, width) or (height, width, bands) of `depth` bits."""
    height, width = samples.shape[:2]
    flat = samples.reshape(height, -1)
    if depth == 16:
        lines = flat.astype(">u2")
    else:
        bits = (flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        lines = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    body = b"".join(b"\0" + line.tobytes() for line in lines)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(body, 9)), chunk(b"IEND", b""))
    )


def empty_png(width: int, height: int, *, depth: int = 1) -> bytes:
    """Write a black grey PNG of any size, small on the disk: one bit a pixel, well packed."""
    line = b"\0" * (1 + (width * depth + 7) // 8)
    packer, body = zlib.compressobj(9), []
    for _ in range(height):
        body.append(packer.compress(line))
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    idat = b"".join([*body, packer.flush()])
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", idat), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(
    data: bytes,
    size: tuple[int, int],
    *,
    order: str = "<",
    photometric: int = 1,
    bits: tuple[int, ...] = (8,),
    more: dict[int, tuple[int, ...]] | None = None,
) -> bytes:
    """Write a TIFF by hand: one uncompressed strip; `more` adds or replaces tags."""
    width, height = size
    tags = {256: (width,), 257: (height,), 258: bits, 259: (1,), 262: (photometric,), 273: (0,)}
    tags |= {277: (len(bits),), 278: (height,), 279: (len(data),), **(more or {})}
    start = 8 + 2 + 12 * len(tags) + 4
    entries, outside = b"", b""
    for tag, values in sorted(tags.items()):
        kind, letter = (4, "I") if tag in (273, 279) else (3, "H")
        values = (start + 2 * sum(map(len, tags.values())),) if tag == 273 else values
        body = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(body) > 4:
            position, outside = start + len(outside), outside + body
            body = struct.pack(f"{order}I", position)
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + body.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    middle = head + entries + b"\0\0\0\0" + outside
    return middle.ljust(start + 2 * sum(map(len, tags.values())), b"\0") + data


def pixels_of(image: Image.Image) -> np.ndarray:
    assert type(image) is Image.Image
    assert image.mode == "RGB"
    assert image.info == {}
    return np.asarray(image).astype(int)


def assert_same_pixels(image: Image.Image, expected: np.ndarray) -> None:
    actual = pixels_of(image)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1


def written(folder: Path, data: bytes, name: str = "image.png") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
