"""`read_header`: the size that decoding gives, the same refusals, and no pixel decoded."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from jina.data.checking import image_headers
from jina.data.checking.image_headers import END_BYTES, read_header
from jina.data.image_loading import ImageError, load_image
from tests.data.hostile_images import HOSTILE
from tests.data.image_files import PICTURE, chunk, saved
from tests.data.odd_images import VALID

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
END = chunk(b"IEND", b"")


@pytest.fixture
def written(tmp_path):
    """Return a function that writes bytes as an image file."""

    def write(data, name="image.png"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def no_decoding(monkeypatch):
    """Fail a test that decodes pixels."""

    def refuse(*_):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)


def exif(orientation):
    """Return EXIF data that say how a picture lies."""
    data = Image.Exif()
    data[274] = orientation
    return data.tobytes()


def turned_behind_pixels(orientation):
    """Return a PNG whose orientation stands behind its pixels."""
    png = saved(PICTURE, "PNG")
    tail = chunk(b"eXIf", exif(orientation).removeprefix(b"Exif\0\0"))
    return png.removesuffix(END) + tail + END


def xmp_behind_pixels():
    """Return a PNG whose XMP data, behind its pixels, turn it."""
    xmp = b'<x xmlns:tiff="t" tiff:Orientation="6"/>'
    return (
        saved(PICTURE, "PNG").removesuffix(END)
        + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        + END
    )


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.name)
def test_a_sound_file_has_the_size_that_decoding_gives(case, written):
    path = written(case.data)
    header = read_header(path)
    assert (header.width, header.height) == load_image(path).size
    assert len(header.identity) == 16


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_a_header_is_refused_for_the_reason_that_decoding_has_or_passes(case, written):
    path = written(case.data)
    try:
        read_header(path)
    except ImageError as error:
        assert case.reason in str(error)


def test_most_hostile_files_are_found_by_their_header(written):
    def is_refused(case):
        try:
            read_header(written(case.data))
        except ImageError:
            return True
        return False

    assert sum(map(is_refused, HOSTILE)) > len(HOSTILE) / 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP"])
def test_no_pixel_is_decoded_for_the_upright_size(kind, orientation, written, no_decoding):
    path = written(saved(PICTURE, kind, exif=exif(orientation)))
    height, width = PICTURE.shape[:2]
    expected = (height, width) if orientation >= 5 else (width, height)
    assert read_header(path)[:2] == expected


def test_no_pixel_of_a_plain_png_is_decoded(written, no_decoding):
    info = PngInfo()
    info.add_text("Title", "a picture")
    for data in (saved(PICTURE, "PNG"), saved(PICTURE, "PNG", pnginfo=info)):
        assert read_header(written(data))[:2] == (24, 16)


def test_control_pillow_itself_decodes_a_plain_png_for_its_orientation(written, no_decoding):
    with Image.open(written(saved(PICTURE, "PNG"))) as image, pytest.raises(AssertionError):
        image.getexif()


@pytest.mark.parametrize("data", [turned_behind_pixels(6), xmp_behind_pixels()])
def test_an_orientation_behind_the_pixels_of_a_png_counts(data, written):
    path = written(data)
    assert read_header(path)[:2] == load_image(path).size == (16, 24)


def test_an_orientation_counts_in_a_png_of_too_many_chunks_to_walk(written, monkeypatch):
    monkeypatch.setattr(image_headers, "MAX_PNG_CHUNKS", 2)
    path = written(turned_behind_pixels(8))
    assert read_header(path)[:2] == (16, 24)


def test_equal_files_share_an_identity_and_others_do_not(written):
    data = saved(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8), "BMP")
    assert len(data) > 3 * END_BYTES
    first = read_header(written(data, "a.bmp")).identity
    assert read_header(written(data, "b.png")).identity == first
    for place in (60, END_BYTES - 1, len(data) - END_BYTES, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        assert read_header(written(changed, "c.bmp")).identity != first
    assert read_header(written(data + b"\0", "d.bmp")).identity != first


@pytest.mark.parametrize("extra", [0, 1, END_BYTES // 2, END_BYTES])
def test_every_byte_of_a_file_of_at_most_two_ends_counts(extra, written):
    data = saved(PICTURE, "BMP")
    data += bytes(END_BYTES + extra - len(data))
    first = read_header(written(data)).identity
    for place in (END_BYTES - 1, len(data) - 1, (len(data) + END_BYTES) // 2):
        changed = bytearray(data)
        changed[min(place, len(data) - 1)] ^= 1
        assert read_header(written(changed)).identity != first


def test_a_change_in_the_middle_of_a_long_file_is_what_a_header_cannot_see(written):
    data = bytearray(saved(np.zeros((200, 200, 3), np.uint8), "BMP"))
    first = read_header(written(data)).identity
    data[len(data) // 2] ^= 1
    path = written(data)
    assert read_header(path).identity == first
    assert np.asarray(load_image(path)).any()


def test_a_large_png_takes_no_longer_than_a_small_one(written):
    pixels = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    path = written(buffer.getvalue())
    reads = []
    really_read = io.BufferedReader.read

    class Counting(io.BufferedReader):
        def read(self, size=-1):
            data = really_read(self, size)
            reads.append(len(data))
            return data

    with Counting(path.open("rb", buffering=0)) as stream:
        assert image_headers._ends_with_pixels(stream)
    assert sum(reads) < path.stat().st_size / 100
