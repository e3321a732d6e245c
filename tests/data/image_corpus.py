"""Image files of every odd and hostile kind, made by code, each with what must come of it.

`VALID` cases carry the RGB pixels they mean, worked out here by hand and never by the code under
test. `HOSTILE` cases carry a word their refusal has to contain. `CUT` cases are sound files that
lost their end: refused, or, if only padding was lost, still right.
"""

import gzip
import io
import struct
import zlib
from dataclasses import dataclass

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


def _png_cases() -> list[Case]:
    cases = [Case("png rgb", saved(PICTURE, "PNG"), PICTURE)]
    for depth in (1, 2, 4, 8, 16):
        top = 2**depth - 1
        levels = np.linspace(0, top, 32).round().astype(int).reshape(4, 8)
        pixels = grey(levels * 255 / top)
        cases.append(Case(f"png grey @{depth}", png(levels, depth=depth, colour=0), pixels))
        key = int(levels[1, 3])
        marked = png(levels, depth=depth, colour=0, extra=chunk(b"tRNS", struct.pack(">H", key)))
        pixels = np.where((levels == key)[..., None], 255, pixels)
        cases.append(Case(f"png grey with transparent key @{depth}", marked, pixels))
    for depth in (1, 2, 4, 8):
        palette = PICTURE.reshape(-1, 3)[:: 384 // 2**depth + 1][: 2**depth]
        indices = np.arange(32).reshape(4, 8) % len(palette)
        table = chunk(b"PLTE", palette.tobytes())
        data = png(indices, depth=depth, colour=3, extra=table)
        cases.append(Case(f"png palette @{depth}", data, palette[indices]))
        alpha = np.linspace(0, 255, len(palette)).astype(np.uint8)
        data = png(indices, depth=depth, colour=3, extra=table + chunk(b"tRNS", alpha.tobytes()))
        pixels = on_white(palette[indices], alpha[indices] / 255)
        cases.append(Case(f"png palette with alpha @{depth}", data, pixels))
        data = png(indices, depth=depth, colour=3, extra=table + chunk(b"tRNS", b"\xff\0"))
        pixels = np.where((indices == 1)[..., None], 255, palette[indices])
        cases.append(Case(f"png palette with one clear entry @{depth}", data, pixels))
    alpha = np.linspace(0, 255, 384).round().reshape(16, 24)
    for depth in (8, 16):
        wide = PICTURE.astype(int) * (257 if depth == 16 else 1)
        wide_alpha = alpha.astype(int) * (257 if depth == 16 else 1)
        if depth == 16:
            cases.append(Case("png rgb 16", png(wide, depth=16, colour=2), PICTURE))
        rgba = np.dstack([wide, wide_alpha])
        pixels = on_white(PICTURE, alpha / 255)
        cases.append(Case(f"png rgba @{depth}", png(rgba, depth=depth, colour=6), pixels))
        grey_alpha = np.dstack([wide[..., 0], wide_alpha])
        pixels = on_white(grey(PICTURE[..., 0]), alpha / 255)
        cases.append(Case(f"png la @{depth}", png(grey_alpha, depth=depth, colour=4), pixels))
        key = wide[3, 5]
        extra = chunk(b"tRNS", struct.pack(">3H", *key))
        pixels = np.where((wide == key).all(-1, keepdims=True), 255, PICTURE)
        data = png(wide, depth=depth, colour=2, extra=extra)
        cases.append(Case(f"png rgb with transparent key @{depth}", data, pixels))
    glyph = np.zeros((16, 24, 4), np.uint8)
    glyph[4:12, 6:10, 3] = 255
    cases.append(
        Case("png black glyph on nothing", saved(glyph, "PNG"), 255 - glyph[..., 3:].repeat(3, 2))
    )
    still = Image.fromarray(PICTURE)
    moved = saved(still, "PNG", save_all=True, append_images=[Image.fromarray(PICTURE[::-1])])
    cases.append(Case("png animated", moved, PICTURE))
    cases.append(Case("png with profile", saved(PICTURE, "PNG", icc_profile=b"x" * 500), PICTURE))
    comment = chunk(b"tEXt", b"Comment\0" + b"a" * 9000)
    levels = np.arange(256).reshape(16, 16)
    data = png(levels, depth=8, colour=0, extra=comment)
    return [*cases, Case("png with comment", data, grey(levels))]


def _jpeg_cases() -> list[Case]:
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, 8:] = (255, 0, 0)
    inks = np.kron([[0, 1, 2, 3, 4]], np.ones((8, 8))).astype(int)
    cmyk = np.vstack([np.zeros(4), np.eye(4) * 255]).astype(np.uint8)[inks]
    colours = np.array([[255, 255, 255], [0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0]])
    blocks = grey(GREY_BLOCKS)
    second = Image.fromarray(blocks[::-1].copy())
    flat = {"quality": 100, "subsampling": 0}
    return [
        Case("jpeg grey", saved(GREY_BLOCKS, "JPEG", quality=100), blocks),
        Case("jpeg rgb", saved(red, "JPEG", **flat), red),
        Case("jpeg progressive", saved(blocks, "JPEG", progressive=True, **flat), blocks),
        Case("jpeg kept as rgb", saved(red, "JPEG", keep_rgb=True, **flat), red),
        Case(
            "jpeg cmyk",
            saved(Image.fromarray(cmyk, "CMYK"), "JPEG", **flat),
            colours[inks].astype(np.uint8),
        ),
        Case("jpeg mpo", saved(blocks, "MPO", save_all=True, append_images=[second]), blocks),
        Case("jpeg with profile", saved(blocks, "JPEG", icc_profile=b"x" * 500, **flat), blocks),
        Case("jpeg with comment", saved(blocks, "JPEG", comment=b"hello", **flat), blocks),
        Case("jpeg garbage exif", saved(blocks, "JPEG", exif=b"Exif\0\0garb" * 9, **flat), blocks),
        Case("jpeg with tail", saved(blocks, "JPEG", **flat) + b"PK\3\4" * 50, blocks),
    ]


def _webp_and_gif_cases() -> list[Case]:
    alpha = (np.indices((16, 24)).sum(0) % 256).astype(np.uint8) * 5
    rgba = np.dstack([PICTURE, alpha])
    other = Image.fromarray(PICTURE[::-1].copy())
    palette = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8), "P")
    palette.putpalette(PICTURE.reshape(-1, 3)[:256].tobytes())
    shown = PICTURE.reshape(-1, 3)[np.arange(64).reshape(8, 8)]
    clear = np.where((np.arange(64) == 7).reshape(8, 8, 1), 255, shown)
    levels = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    return [
        Case("webp lossless", saved(PICTURE, "WEBP", lossless=True), PICTURE),
        Case(
            "webp rgba",
            saved(rgba, "WEBP", lossless=True, exact=True),
            on_white(PICTURE, alpha / 255),
        ),
        Case(
            "webp animated",
            saved(PICTURE, "WEBP", lossless=True, save_all=True, append_images=[other]),
            PICTURE,
        ),
        Case("webp with profile", saved(PICTURE, "WEBP", lossless=True, icc_profile=b"x"), PICTURE),
        Case("gif palette", saved(palette, "GIF"), shown),
        Case("gif interlaced", saved(palette, "GIF", interlace=1), shown),
        Case("gif grey", saved(levels, "GIF"), grey(levels)),
        Case("gif transparent", saved(palette, "GIF", transparency=7), clear),
        Case(
            "gif animated",
            saved(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]),
            shown,
        ),
        Case("gif with comment", saved(palette, "GIF", comment=b"hello"), shown),
    ]


def _bmp_and_ppm_cases() -> list[Case]:
    head = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 54, 40, 24, -16, 1, 24, *[0] * 6)
    upside_down = head + PICTURE[..., ::-1].tobytes()
    deep = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 54, 40, 4, -1, 1, 16, *[0] * 6)
    deep += struct.pack("<4H", 0, 31, 31 << 5, 31 << 10)
    is_dark = PICTURE[..., 0] > 100
    bits = np.packbits(is_dark, axis=1).tobytes()
    levels = np.array([[0, 100, 1023]])
    float_rows = np.array([[0.0, 0.25], [0.5, 1.0]], "<f4")
    plain = b"P2\n# a comment\n3 1\n# another\n15\n0 5 15\n"
    return [
        Case("bmp rgb", saved(PICTURE, "BMP"), PICTURE),
        Case("bmp grey", saved(PICTURE[..., 0], "BMP"), grey(PICTURE[..., 0])),
        Case("bmp bits", saved(Image.fromarray(is_dark), "BMP"), grey(is_dark * 255)),
        Case("bmp top down", upside_down, PICTURE),
        Case(
            "bmp 16 bits",
            deep,
            np.array([[[0, 0, 0], [0, 0, 255], [0, 255, 0], [255, 0, 0]]], np.uint8),
        ),
        Case("ppm rgb", saved(PICTURE, "PPM"), PICTURE),
        Case("ppm pgm", saved(PICTURE[..., 1], "PPM"), grey(PICTURE[..., 1])),
        Case("ppm pbm", b"P4 24 16 " + bits, grey(~is_dark * 255)),
        Case("ppm plain pbm", b"P1 2 1\n1 0", grey(np.array([[0, 255]]))),
        Case("ppm plain pgm", plain, grey(np.array([[0, 85, 255]]))),
        Case("ppm plain ppm", b"P3 1 1 255 7 8 9", np.array([[[7, 8, 9]]], np.uint8)),
        Case(
            "ppm 10 bits",
            b"P5 3 1 1023\n" + levels.astype(">u2").tobytes(),
            grey(levels * 255 / 1023),
        ),
        Case(
            "ppm 16 bits",
            b"P5 16 4 65535\n" + RAMP_16.astype(">u2").tobytes(),
            grey(RAMP_16 / 257),
        ),
        Case(
            "ppm 16 bits rgb",
            b"P6 1 1 65535\n" + struct.pack(">3H", 0, 32896, 65535),
            np.array([[[0, 128, 255]]], np.uint8),
        ),
        Case("ppm float", b"Pf 2 2 -1.0\n" + float_rows[::-1].tobytes(), grey(float_rows * 255)),
    ]


def _tiff_cases() -> list[Case]:
    levels, size = PICTURE[..., 0], (24, 16)
    is_dark = levels > 100
    deep, deep_size = grey(RAMP_16 / 257), (16, 4)
    alpha = np.linspace(0, 255, 384).round().reshape(16, 24)
    rgba = np.dstack([PICTURE, alpha]).astype(np.uint8)
    premultiplied = np.rint(rgba * np.dstack([alpha / 255] * 3 + [np.ones_like(alpha)]))
    floats = np.linspace(0, 1, 64, dtype=np.float32).reshape(4, 16)
    twelve = np.array([0, 2048, 4095, 1000])
    packed = b"".join(
        struct.pack(">I", (a << 12 | b) << 8)[:3] for a, b in twelve.reshape(-1, 2).tolist()
    )
    colour_map = PICTURE.reshape(-1, 3)[:256].astype(int) * 257
    signed = (RAMP_16 // 2).astype(np.int16)
    cases = [
        Case(
            "tiff bits",
            tiff(np.packbits(is_dark, axis=1).tobytes(), size, bits=(1,)),
            grey(is_dark * 255),
        ),
        Case(
            "tiff bits white is zero",
            tiff(np.packbits(is_dark, axis=1).tobytes(), size, bits=(1,), photometric=0),
            grey(~is_dark * 255),
        ),
        Case("tiff grey", tiff(levels.tobytes(), size), grey(levels)),
        Case(
            "tiff grey white is zero",
            tiff(levels.tobytes(), size, photometric=0),
            grey(255 - levels),
        ),
        Case(
            "tiff grey 16 @II", tiff(RAMP_16.astype("<u2").tobytes(), deep_size, bits=(16,)), deep
        ),
        Case(
            "tiff grey 16 @MM",
            tiff(RAMP_16.astype(">u2").tobytes(), deep_size, bits=(16,), order=">"),
            deep,
        ),
        Case(
            "tiff grey 16 white is zero",
            tiff(RAMP_16.astype("<u2").tobytes(), deep_size, bits=(16,), photometric=0),
            255 - deep,
        ),
        Case("tiff grey 12", tiff(packed, (4, 1), bits=(12,)), grey(twelve[None] * 255 / 4095)),
        Case(
            "tiff signed 16", tiff(signed.tobytes(), deep_size, bits=(16,), more={339: (2,)}), deep
        ),
        Case(
            "tiff 32 bits",
            tiff(RAMP_16.astype("<i4").tobytes(), deep_size, bits=(32,), more={339: (2,)}),
            deep,
        ),
        Case(
            "tiff unsigned 32 bits",
            tiff(RAMP_16.astype("<u4").tobytes(), deep_size, bits=(32,)),
            deep,
        ),
        Case(
            "tiff float",
            tiff(floats.tobytes(), deep_size, bits=(32,), more={339: (3,)}),
            grey(floats * 255),
        ),
        Case(
            "tiff float white is zero",
            tiff(floats.tobytes(), deep_size, bits=(32,), photometric=0, more={339: (3,)}),
            grey(255 - floats * 255),
        ),
        Case("tiff rgb", tiff(PICTURE.tobytes(), size, photometric=2, bits=(8,) * 3), PICTURE),
        Case(
            "tiff rgb 16",
            tiff((PICTURE.astype("<u2") * 257).tobytes(), size, photometric=2, bits=(16,) * 3),
            PICTURE,
        ),
        Case(
            "tiff rgba",
            tiff(rgba.tobytes(), size, photometric=2, bits=(8,) * 4, more={338: (2,)}),
            on_white(PICTURE, alpha / 255),
        ),
        Case(
            "tiff rgba premultiplied",
            tiff(
                premultiplied.astype(np.uint8).tobytes(),
                size,
                photometric=2,
                bits=(8,) * 4,
                more={338: (1,)},
            ),
            on_white(PICTURE, alpha / 255),
        ),
        Case(
            "tiff rgbx",
            tiff(rgba.tobytes(), size, photometric=2, bits=(8,) * 4, more={338: (0,)}),
            PICTURE,
        ),
        Case(
            "tiff palette",
            tiff(
                levels.tobytes(),
                size,
                photometric=3,
                more={320: tuple(colour_map.T.ravel().tolist())},
            ),
            PICTURE.reshape(-1, 3)[levels],
        ),
        Case(
            "tiff ink",
            tiff(
                np.full((1, 1, 4), (255, 0, 0, 0), np.uint8).tobytes(),
                (1, 1),
                photometric=5,
                bits=(8,) * 4,
            ),
            np.array([[[0, 255, 255]]], np.uint8),
        ),
        Case("tiff big", saved(PICTURE, "TIFF", big_tiff=True), PICTURE),
        Case(
            "tiff pages",
            saved(
                PICTURE,
                "TIFF",
                save_all=True,
                append_images=[Image.fromarray(PICTURE[::-1].copy())],
            ),
            PICTURE,
        ),
        Case(
            "tiff tiled",
            saved(PICTURE, "TIFF", compression="tiff_deflate", tiffinfo={278: 5}),
            PICTURE,
        ),
        Case(
            "tiff fax",
            saved(Image.fromarray(is_dark), "TIFF", compression="group4"),
            grey(is_dark * 255),
        ),
    ]
    return cases + [
        Case(f"tiff packed @{way}", saved(PICTURE, "TIFF", compression=way), PICTURE)
        for way in ("tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "zstd", "lzma")
    ]


def _pillow_modes() -> dict[str, tuple[Image.Image, np.ndarray]]:
    """Return an image in memory for every mode of Pillow, with the RGB pixels it means."""
    levels = PICTURE[..., 0]
    alpha = np.linspace(0, 255, 384).round().reshape(16, 24).astype(np.uint8)
    floats = levels.astype(np.float32) / 255
    rgba, grey_alpha = np.dstack([PICTURE, alpha]), np.dstack([levels, alpha])
    palette = Image.fromarray(levels, "P")
    palette.putpalette(bytes(range(256)) * 3)
    colours = np.frombuffer(bytes(range(256)) * 3, np.uint8).reshape(-1, 3)[levels]
    clear = palette.copy()
    clear.info["transparency"] = int(levels[2, 2])
    palette_alpha = Image.merge("LA", (Image.new("L", (24, 16)), Image.fromarray(alpha)))
    palette_alpha = palette_alpha.convert("RGBA").convert("PA")
    opaque = grey(levels)
    faded = on_white(opaque, alpha / 255)
    white = Image.new("RGB", (2, 1), "white")
    white_pixels = np.full((1, 2, 3), 255, np.uint8)
    deep = Image.frombytes("I;16", (16, 4), RAMP_16.astype("<u2").tobytes())
    deep_big = Image.frombytes("I;16B", (16, 4), RAMP_16.astype(">u2").tobytes())
    deep_pixels = grey(RAMP_16 / 257)
    return {
        "1": (Image.fromarray(levels > 100), grey((levels > 100) * 255)),
        "L": (Image.fromarray(levels), opaque),
        "P": (palette, colours),
        "P with a clear entry": (
            clear,
            np.where((levels == levels[2, 2])[..., None], 255, colours),
        ),
        "LA": (Image.fromarray(grey_alpha), faded),
        "La": (Image.fromarray(grey_alpha).convert("La"), faded),
        "PA": (palette_alpha, on_white(opaque * 0, alpha / 255)),
        "RGB": (Image.fromarray(PICTURE), PICTURE),
        "RGBX": (Image.fromarray(PICTURE).convert("RGBX"), PICTURE),
        "RGBA": (Image.fromarray(rgba), on_white(PICTURE, alpha / 255)),
        "RGBa": (Image.fromarray(rgba).convert("RGBa"), on_white(PICTURE, alpha / 255)),
        "CMYK": (Image.new("CMYK", (2, 1), (0, 0, 0, 0)), white_pixels),
        "YCbCr": (Image.new("YCbCr", (2, 1), (255, 128, 128)), white_pixels),
        "HSV": (Image.new("HSV", (2, 1), (0, 0, 255)), white_pixels),
        "LAB": (white.convert("LAB"), white_pixels),
        "I": (Image.fromarray(RAMP_16.astype(np.int32)), deep_pixels),
        "I;16": (deep, deep_pixels),
        "I;16B": (deep_big, deep_pixels),
        "F": (Image.fromarray(floats), opaque),
    }


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


VALID = [
    *_png_cases(),
    *_jpeg_cases(),
    *_webp_and_gif_cases(),
    *_bmp_and_ppm_cases(),
    *_tiff_cases(),
]
HOSTILE = [*_hostile_headers(), *_hostile_pixels(), *_foreign_files()]
CUT = _cut_files()
PILLOW_MODES = _pillow_modes()
