"""Sound image files of every odd kind, each with the RGB pixels it means.

The pixels are worked out here by hand and never by the code under test.
"""

import struct

import numpy as np
from PIL import Image

from tests.data.image_files import (
    GREY_BLOCKS,
    PICTURE,
    RAMP_16,
    Case,
    chunk,
    grey,
    on_white,
    png,
    saved,
    tiff,
)


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


VALID = [
    *_png_cases(),
    *_jpeg_cases(),
    *_webp_and_gif_cases(),
    *_bmp_and_ppm_cases(),
    *_tiff_cases(),
]
PILLOW_MODES = _pillow_modes()
