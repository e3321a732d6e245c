"""Image files that must be refused, each with a word its refusal has to contain; and cut ones.

`CUT` cases are sound files that lost their end: refused, or, if only padding was lost, still right.
"""

import gzip
import struct
import zlib

import numpy as np
from PIL import Image

from tests.data.image_files import (
    GREY_BLOCKS,
    PICTURE,
    Case,
    chunk,
    empty_png,
    grey,
    png,
    saved,
    tiff,
)


def _hostile_headers() -> list[Case]:
    """Return files whose header alone says no."""
    many, long = "too many pixels", "too long a strip"
    ihdr = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    huge_png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", b"x")
    jpeg = bytearray(saved(GREY_BLOCKS, "JPEG"))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = struct.pack(">HH", 65500, 65500)
    webp = saved(PICTURE, "WEBP", save_all=True, append_images=[Image.fromarray(PICTURE[::-1])])
    webp_100, webp_268 = (
        _patched(webp, 24, side.to_bytes(3, "little") * 2) for side in (9999, 16383)
    )
    gif = bytearray(saved(PICTURE[..., 0], "GIF"))
    gif_screen, gif_frame = bytearray(gif), bytearray(gif)
    gif_screen[6:10] = b"\xff" * 4
    frame = gif.index(b",", 13 + (6 << (gif[10] & 7)))
    gif_frame[frame + 5 : frame + 9] = b"\xff" * 4
    bmp = bytearray(saved(PICTURE, "BMP"))
    bmp[18:26] = struct.pack("<ii", 30000, 30000)
    no_pixels = empty_png(1, 1)
    return [
        Case("huge png", huge_png, reason=many),
        Case("huge jpeg", bytes(jpeg), reason=many),
        Case("huge webp @100 MP", webp_100, reason=many),
        Case("huge webp @268 MP", webp_268, reason=many),
        Case("huge gif @screen", bytes(gif_screen), reason=many),
        Case("huge gif @frame", bytes(gif_frame), reason=many),
        Case("huge bmp", bytes(bmp), reason=many),
        Case("huge tiff", tiff(b"", (65000, 65000)), reason=many),
        Case("huge ppm @wide", b"P6 80000001 1 255 ", reason=many),
        Case("huge ppm @square", b"P6 8945 8945 255 ", reason=many),
        Case("long strip @201", saved(np.zeros((1, 201), np.uint8), "PNG"), reason=long),
        Case("long strip @tall", saved(np.zeros((4000, 1), np.uint8), "PNG"), reason=long),
        Case("long strip @wide", saved(np.zeros((40, 10000), np.uint8), "PNG"), reason=long),
        Case("long strip @turned", saved(np.zeros((10000, 40), np.uint8), "JPEG"), reason=long),
        Case("no width png", no_pixels.replace(b"IHDR\0\0\0\1", b"IHDR\0\0\0\0"), reason="cannot"),
        Case("no size gif", gif[:6] + b"\0\0\0\0" + gif[10:13], reason="cannot be read"),
        Case("no size ppm", b"P6 0 0 255 ", reason="cannot be read"),
        Case("negative ppm", b"P6 -4 -4 255 ", reason="cannot be read"),
        Case("no size tiff", tiff(b"", (0, 0)), reason="cannot be read"),
    ]


def _hostile_pixels() -> list[Case]:
    """Return files whose header promises what the rest does not keep."""
    no = "cannot be read"
    range_error = "has pixels outside"
    good = saved(PICTURE, "PNG")
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0x55
    floats = {"bits": (32,), "more": {339: (3,)}}
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b" " * 10**8))
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(b" " * 10**8))
    grid = np.zeros((4, 8), int)
    gif = saved(PICTURE[..., 0], "GIF")
    gif_code_size = gif.index(b",", 13 + (6 << (gif[10] & 7))) + 10
    webp = saved(PICTURE, "WEBP", lossless=True)
    short = chunk(b"tRNS", b"\0")
    truth = struct.pack("<2f", 0.0, 1.5)
    return [
        Case("png flipped bit", bytes(flipped), reason=no),
        Case("png bad header sum", good[:29] + b"\0\0\0\0" + good[33:], reason=no),
        Case("png without pixels", good[:33] + chunk(b"IEND", b""), reason=no),
        Case("png impossible depth", png(grid, depth=8, colour=7), reason=no),
        Case("png short transparency", png(grid, depth=8, colour=0, extra=short), reason=no),
        Case("png text bomb", png(grid, depth=8, colour=0, extra=bomb), reason=no),
        Case("png profile bomb", png(grid, depth=8, colour=0, extra=profile), reason=""),
        Case("jpeg without scan", saved(GREY_BLOCKS, "JPEG")[:200] + b"\xff\xd9", reason=no),
        Case("jpeg of noise", b"\xff\xd8\xff" + bytes(range(256)) * 8, reason=no),
        Case("jpeg arithmetic", b"\xff\xd8\xff\xc9\0\x0b\x08\0\x10\0\x10\1\1\x11\0", reason=no),
        Case("webp sound file", b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 40, reason=no),
        Case("webp flipped", webp[:30] + bytes(len(webp) - 30), reason=no),
        Case("gif without frame", b"GIF89a\4\0\4\0\0\0\0;", reason=no),
        Case("gif bad code size", _patched(gif, gif_code_size, b"\xff"), reason=no),
        Case("bmp unknown packing", _patched(saved(PICTURE, "BMP"), 30, b"\4"), reason=no),
        Case("bmp impossible depth", _patched(saved(PICTURE, "BMP"), 28, b"\7"), reason=no),
        Case("bmp palette past end", _patched(saved(PICTURE, "BMP"), 14, b"\xff\xff"), reason=no),
        Case("tiff without directory", b"II*\0\xff\xff\xff\x7f", reason=no),
        Case("tiff empty directory", b"II*\0\x08\0\0\0\0\0\0\0\0\0", reason=no),
        Case("tiff unknown packing", tiff(b"\0" * 4, (2, 2), more={259: (999,)}), reason=no),
        Case("tiff odd bands", tiff(b"\0" * 8, (2, 2), bits=(3, 5)), reason=no),
        Case("tiff pixels missing", tiff(b"", (16, 16)), reason=no),
        Case("tiff float too bright", tiff(truth, (2, 1), **floats), reason=range_error),
        Case(
            "tiff float not a number", tiff(b"\0\0\xc0\x7f", (1, 1), **floats), reason=range_error
        ),
        Case("tiff float infinite", tiff(b"\0\0\x80\x7f", (1, 1), **floats), reason=range_error),
        Case(
            "tiff negative",
            tiff(struct.pack("<2h", -1, 5), (2, 1), bits=(16,), more={339: (2,)}),
            reason=range_error,
        ),
        Case(
            "tiff beyond 16 bits",
            tiff(struct.pack("<2i", 0, 70000), (2, 1), bits=(32,), more={339: (2,)}),
            reason=range_error,
        ),
        Case("ppm no maximum", b"P5 1 1 0 \0", reason=no),
        Case("ppm maximum too large", b"P5 1 1 65536 \0\0", reason=no),
        Case("ppm endless token", b"P5 " + b"1" * 1000, reason=no),
        Case("ppm endless comment", b"P5 #" + b"x" * 5000, reason=no),
        Case("ppm too bright", b"P2 1 1 15 16", reason=no),
        Case("ppm letters", b"P2 1 1 15 a", reason=no),
        Case("ppm float scale", b"Pf 1 1 nan \0\0\0\0", reason=no),
    ]


def _patched(data: bytes, position: int, patch: bytes) -> bytes:
    return data[:position] + patch + data[position + len(patch) :]


def _foreign_files() -> list[Case]:
    """Return files that are no image of a format we read, whatever they are called."""
    heads = {
        "text": b"a cat on a sofa",
        "html": b"<html><body>404 Not Found</body></html>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "json": b'{"error": "not found"}',
        "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/pwned) (w) file\n",
        "eps with preview": b"\xc5\xd0\xd3\xc6" + b"\0" * 60,
        "zip": b"PK\3\4" + b"\0" * 60,
        "gzip": gzip.compress(b"a" * 99),
        "elf": b"\x7fELF" + b"\0" * 60,
        "pickle": b"\x80\4\x95" + b"\0" * 60,
        "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        "avif": b"\0\0\0\x1cftypavif" + b"\0" * 60,
        "heic": b"\0\0\0\x18ftypheic" + b"\0" * 60,
        "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 60,
        "psd": b"8BPS\0\1" + b"\0" * 60,
        "ico": b"\0\0\1\0\1\0" + b"\0" * 60,
        "icns": b"icns" + b"\0" * 60,
        "dds": b"DDS " + b"\0" * 120,
        "fli": b"\0" * 4 + b"\x11\xaf" + b"\0" * 120,
        "im": b"Image type: L image\r\n",
        "pcx": b"\x0a\5\1\x08" + b"\0" * 124,
        "sgi": b"\1\xda\0\1" + b"\0" * 60,
        "xbm": b"#define a_width 8\n#define a_height 8\n",
        "xpm": b"/* XPM */\nstatic char *a[] = {",
        "fits": b"SIMPLE  =                    T",
        "hdf5": b"\x89HDF\r\n\x1a\n" + b"\0" * 60,
        "wmf": b"\xd7\xcd\xc6\x9a\0\0" + b"\0" * 60,
        "mp4": b"\0\0\0\x18ftypmp42" + b"\0" * 60,
        "qoi": b"qoif" + b"\0" * 60,
        "zeros": b"\0" * 1000,
        "one byte": b"\x89",
        "utf-16": "a cat".encode("utf-16"),
    }
    return [
        Case(f"not an image @{name}", data, reason="none of the formats")
        for name, data in heads.items()
    ]


def _cut_files() -> list[Case]:
    """Return one sound file of each format, cut at the places where files break off."""
    whole = {
        "png": (saved(PICTURE, "PNG"), PICTURE),
        "jpeg": (saved(grey(GREY_BLOCKS), "JPEG", quality=100, subsampling=0), grey(GREY_BLOCKS)),
        "webp": (saved(PICTURE, "WEBP", lossless=True), PICTURE),
        "gif": (saved(PICTURE[..., 0], "GIF"), grey(PICTURE[..., 0])),
        "bmp": (saved(PICTURE, "BMP"), PICTURE),
        "tiff": (saved(PICTURE, "TIFF"), PICTURE),
        "tiff lzw": (saved(PICTURE, "TIFF", compression="tiff_lzw"), PICTURE),
        "ppm": (saved(PICTURE, "PPM"), PICTURE),
    }
    return [
        Case(f"cut {name} @{length}", data[:length], pixels)
        for name, (data, pixels) in whole.items()
        for length in (0, 1, 10, 100, len(data) // 4, len(data) // 2, len(data) - 2)
    ]


HOSTILE = [*_hostile_headers(), *_hostile_pixels(), *_foreign_files()]
CUT = _cut_files()
