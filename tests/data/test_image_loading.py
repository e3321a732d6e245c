"""`load_image`: right pixels from every odd file, a reason for every bad one, and no way around."""

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile

from jina.data import image_loading
from jina.data.image_loading import (
    MAX_IMAGE_BYTES,
    MAX_IMAGE_PIXELS,
    ImageError,
    image_size,
    load_image,
    pixel_identity,
)
from tests.data.hostile_images import CUT, HOSTILE
from tests.data.image_files import (
    GREY_BLOCKS,
    PICTURE,
    Case,
    assert_same_pixels,
    empty_png,
    grey,
    saved,
    tiff,
    written,
)
from tests.data.odd_images import PILLOW_MODES, VALID

# Pillow warns of damaged metadata before it, or we, refuse the file.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

# How numpy turns a picture as stored into the upright one, by EXIF orientation.
TO_UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}
UNDONE_BY = {6: 8, 8: 6}


def name_of(case: Case) -> str:
    return case.name


class TestOddFiles:
    def test_the_corpus_is_large_and_varied(self) -> None:
        cases = [*VALID, *HOSTILE, *CUT]
        assert len(cases) >= 120
        assert len({case.kind for case in cases}) >= 30
        assert len({case.name for case in cases}) == len(cases)

    @pytest.mark.parametrize("case", VALID, ids=name_of)
    def test_a_sound_file_gives_the_pixels_it_means(self, case: Case, tmp_path: Path) -> None:
        path = written(tmp_path, case.data)
        image = load_image(path)
        assert_same_pixels(image, case.pixels)
        assert image_size(path) == image.size
        assert pixel_identity(load_image(Image.open(path))) == pixel_identity(image)
        assert image_size(Image.open(path)) == image.size

    @pytest.mark.parametrize("mode", PILLOW_MODES)
    def test_an_image_in_memory_of_any_mode_gives_the_pixels_it_means(self, mode: str) -> None:
        image, expected = PILLOW_MODES[mode]
        before = image.tobytes(), image.mode, dict(image.info)
        assert_same_pixels(load_image(image), expected)
        assert (image.tobytes(), image.mode, dict(image.info)) == before

    def test_a_loaded_image_is_a_copy_that_loads_to_itself(self) -> None:
        first = load_image(Image.fromarray(PICTURE))
        again = load_image(first)
        again.putpixel((0, 0), (1, 2, 3))
        assert_same_pixels(first, PICTURE)
        assert pixel_identity(load_image(first)) == pixel_identity(first)

    def test_a_loaded_image_survives_pickling_and_the_loss_of_its_file(
        self, tmp_path: Path
    ) -> None:
        path = written(tmp_path, saved(PICTURE, "BMP"))
        image = load_image(path)
        path.write_bytes(b"")
        assert_same_pixels(pickle.loads(pickle.dumps(image)), PICTURE)  # noqa: S301

    def test_the_suffix_of_a_file_does_not_matter(self, tmp_path: Path) -> None:
        path = written(tmp_path, saved(PICTURE, "PNG"), "picture.eps")
        assert_same_pixels(load_image(path), PICTURE)

    def test_control_pillow_alone_clips_deep_greys(self, tmp_path: Path) -> None:
        case = next(case for case in VALID if case.name == "ppm 16 bits")
        clipped = Image.open(written(tmp_path, case.data)).convert("RGB")
        assert len(np.unique(np.asarray(clipped))) <= 2
        assert len(np.unique(case.pixels)) == 64

    def test_control_pillow_alone_loses_a_black_glyph_on_nothing(self, tmp_path: Path) -> None:
        case = next(case for case in VALID if "glyph" in case.name)
        path = written(tmp_path, case.data)
        assert not np.asarray(Image.open(path).convert("RGB")).any()
        assert np.asarray(load_image(path)).any()


class TestOrientation:
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", TO_UPRIGHT)
    def test_a_path_and_its_pillow_image_come_out_upright(
        self, orientation: int, file_format: str, tmp_path: Path
    ) -> None:
        upright = grey(GREY_BLOCKS)
        stored = TO_UPRIGHT[UNDONE_BY.get(orientation, orientation)](upright)
        exif = Image.Exif()
        exif[274] = orientation
        options = {"quality": 100} if file_format == "JPEG" else {}
        options |= {"lossless": True} if file_format == "WEBP" else {}
        stored = Image.fromarray(np.ascontiguousarray(stored))
        path = written(tmp_path, saved(stored, file_format, exif=exif, **options))
        decoded = Image.open(path)
        decoded.load()
        for source in (path, Image.open(path), decoded):
            assert_same_pixels(load_image(source), upright)
            assert image_size(source) == (24, 16)

    def test_control_the_stored_pictures_do_differ(self) -> None:
        turned = [np.ascontiguousarray(turn(PICTURE)).tobytes() for turn in TO_UPRIGHT.values()]
        assert len(set(turned)) == 8

    def test_an_orientation_in_xmp_counts(self, tmp_path: Path) -> None:
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
        path = written(tmp_path, saved(np.rot90(PICTURE).copy(), "WEBP", lossless=True, xmp=xmp))
        assert_same_pixels(load_image(path), PICTURE)
        assert image_size(path) == (24, 16)

    @pytest.mark.parametrize("orientation", [0, 9, 262, 65535])
    def test_an_impossible_orientation_turns_nothing(
        self, orientation: int, tmp_path: Path
    ) -> None:
        exif = Image.Exif()
        exif[274] = orientation
        path = written(tmp_path, saved(PICTURE, "PNG", exif=exif))
        assert_same_pixels(load_image(path), PICTURE)
        assert image_size(path) == (24, 16)

    @pytest.mark.parametrize("exif", [b"", b"II", b"garbage", b"II*\0\xff\xff\xff\xff", b"\0" * 99])
    def test_unreadable_exif_turns_nothing(self, exif: bytes, tmp_path: Path) -> None:
        path = written(tmp_path, saved(PICTURE, "PNG", exif=b"Exif\0\0" + exif))
        assert_same_pixels(load_image(path), PICTURE)
        assert image_size(path) == (24, 16)


class TestBadFiles:
    @pytest.mark.parametrize("case", HOSTILE, ids=name_of)
    def test_a_hostile_file_is_refused_with_its_reason(self, case: Case, tmp_path: Path) -> None:
        path = written(tmp_path, case.data)
        with pytest.raises(ImageError) as refusal:
            load_image(path)
        assert str(refusal.value).startswith(f"{path}: ")
        assert case.reason in str(refusal.value)
        assert "; got " in str(refusal.value)
        assert len(str(refusal.value)) < 1000

    @pytest.mark.parametrize("case", CUT, ids=name_of)
    def test_a_cut_file_is_refused_or_whole_but_never_grey(
        self, case: Case, tmp_path: Path
    ) -> None:
        path = written(tmp_path, case.data)
        try:
            image = load_image(path)
        except ImageError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert_same_pixels(image, case.pixels)

    def test_most_cut_files_are_refused(self, tmp_path: Path) -> None:
        refused = 0
        for case in CUT:
            try:
                load_image(written(tmp_path, case.data))
            except ImageError:
                refused += 1
        assert refused >= 0.9 * len(CUT)

    def test_pillows_switches_and_warnings_stay_as_they_were(self, tmp_path: Path) -> None:
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        large = written(tmp_path, empty_png(9500, 9500))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(ImageError, match="too many pixels"):
                load_image(large)
        assert caught == []
        assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
        with pytest.warns(Image.DecompressionBombWarning):
            Image.open(large)

    @pytest.mark.parametrize("error", image_loading._DECODING_ERRORS)
    def test_whatever_a_decoder_raises_becomes_an_image_error(
        self, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(self: PngImageFile) -> None:
            raise error("boom")

        monkeypatch.setattr(PngImageFile, "load", fail)
        path = written(tmp_path, saved(PICTURE, "PNG"))
        with pytest.raises(ImageError, match=f"cannot be read as an image; got {error.__name__}"):
            load_image(path)

    def test_a_thousand_damaged_files_raise_nothing_else(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        small = [case for case in VALID if len(case.data) < 1200 and "fax" not in case.name]
        path = tmp_path / "image"
        for _ in range(1500):
            data = bytearray(small[generator.integers(len(small))].data)
            for _ in range(generator.integers(1, 5)):
                data[generator.integers(len(data))] = generator.integers(256)
            path.write_bytes(data)
            try:
                image = load_image(path)
            except ImageError:
                continue
            assert image_size(path) == image.size

    def test_an_empty_and_a_closed_pillow_image_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="PIL image: has no pixels"):
            load_image(Image.new("RGB", (0, 4)))
        with Image.open(written(tmp_path, saved(PICTURE, "PNG"))) as closed:
            pass
        with pytest.raises(ImageError, match="PIL image: cannot be read"):
            load_image(closed)

    def test_limits_hold_for_pillow_images_and_for_sizes(self, tmp_path: Path) -> None:
        strip = Image.new("L", (402, 2))
        with pytest.raises(ImageError, match="too long a strip; got 402 x 2; crop it"):
            load_image(strip)
        with pytest.raises(ImageError, match="too long a strip"):
            image_size(strip)
        assert image_size(Image.new("L", (400, 2))) == (400, 2)
        with pytest.raises(ImageError, match="too many pixels"):
            image_size(written(tmp_path, empty_png(8945, 8944)))
        assert image_size(written(tmp_path, empty_png(8944, 8944))) == (8944, 8944)
        assert 8944 * 8944 <= MAX_IMAGE_PIXELS < 8945 * 8944

    def test_a_file_of_too_many_bytes_is_not_even_opened(self, tmp_path: Path) -> None:
        path = written(tmp_path, saved(PICTURE, "PNG"))
        os.truncate(path, MAX_IMAGE_BYTES + 1)
        with pytest.raises(ImageError, match="is too large a file; got 268,435,457 bytes"):
            load_image(path)

    @pytest.mark.parametrize("source", [5, None, b"image.png", np.zeros((4, 4, 3), np.uint8)])
    def test_what_is_neither_path_nor_image_is_refused(self, source: object) -> None:
        with pytest.raises(ImageError, match="cannot be read as an image; got TypeError"):
            load_image(source)


class TestPixelIdentity:
    def test_equal_pixels_from_different_files_share_an_identity(self, tmp_path: Path) -> None:
        files = [
            written(tmp_path, saved(PICTURE, "PNG"), "a.png"),
            written(tmp_path, saved(PICTURE, "PNG", compress_level=1), "b.png"),
            written(tmp_path, saved(PICTURE, "WEBP", lossless=True), "c.webp"),
            written(tmp_path, tiff(PICTURE.tobytes(), (24, 16), photometric=2, bits=(8,) * 3), "d"),
        ]
        identities = {pixel_identity(load_image(path)) for path in files}
        assert len(identities) == 1
        assert len(identities.pop()) == 16

    def test_control_other_pixels_and_other_shapes_differ(self) -> None:
        changed = PICTURE.copy()
        changed[7, 7, 1] ^= 1
        flat = np.zeros((4, 6, 3), np.uint8)
        images = [PICTURE, changed, flat, flat.reshape(6, 4, 3), flat.reshape(2, 12, 3)]
        assert len({pixel_identity(load_image(Image.fromarray(array))) for array in images}) == 5
