"""A folder of images, each with its captions in a text file of the same name, one a line."""

import codecs
import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from jina.data.conversion.sources import Source, SourceRow, bad_row, describe
from jina.data.records import RecordError

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
)
SIDECAR_SUFFIX = ".txt"


def read_folder(path: Path) -> Source:
    """Read all images below a folder in the order of their paths; hidden files are left alone."""
    images, sidecars, others = _files_below(path)

    def read(_: Collection[str]) -> Iterator[SourceRow | RecordError]:
        """Yield the images with their captions, then the sidecars without an image."""
        return _rows(path, images, sidecars)

    names = ", ".join(sorted({file.suffix or file.name for file in others}))
    note = f"{path}: {len(others)} other files were left out ({names})."
    defaults = {"query_image": "image", "positive": "captions"}
    return Source(
        ("image", "captions"), read, path, defaults=defaults, notes=(note,) if others else ()
    )


def _files_below(path: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Return the images, the sidecars and the other files below a folder, sorted."""
    images, sidecars, others = [], [], []
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for file in (Path(folder, name) for name in names if not name.startswith(".")):
            suffix = file.suffix.lower()
            is_image, is_sidecar = suffix in IMAGE_SUFFIXES, suffix == SIDECAR_SUFFIX
            (images if is_image else sidecars if is_sidecar else others).append(file)
    return sorted(images), sorted(sidecars), sorted(others)


def _rows(
    path: Path, images: list[Path], sidecars: list[Path]
) -> Iterator[SourceRow | RecordError]:
    """Bring sidecars to their images."""
    by_stem = {file.with_suffix(""): file for file in sidecars}
    uses = Counter(file.with_suffix("") for file in images)
    for image in images:
        stem = image.with_suffix("")
        where, got = f"{image}:1: sidecar", f"{image.stem}{SIDECAR_SUFFIX}"
        if stem not in by_stem:
            yield bad_row(where, "is missing", got, "write the captions there, one a line")
        elif uses[stem] > 1:
            what = f"would belong to {uses[stem]} images of one name"
            yield bad_row(where, what, got, "rename all but one, with their sidecars")
        else:
            yield _row(image, by_stem[stem], path)
    for stem, sidecar in by_stem.items():
        if stem not in uses:
            where, remedy = f"{sidecar}:1: file", "add the image or delete the file"
            yield bad_row(where, "has no image of the same name", sidecar.name, remedy)


def _row(image: Path, sidecar: Path, folder: Path) -> SourceRow | RecordError:
    """Read the captions of one image."""
    # A link could show a file from anywhere, a pipe would never end.
    if not sidecar.is_file() or not sidecar.resolve().is_relative_to(folder.resolve()):
        remedy = f"put a text file below {folder}"
        return bad_row(f"{sidecar}:1: file", "is not a file of this folder", sidecar.name, remedy)
    raw = sidecar.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        lines = [line.removesuffix("\r") for line in raw.decode("utf-8").split("\n")]
    except UnicodeDecodeError as error:
        got, remedy = raw[max(error.start - 10, 0) : error.end + 10], "save the file as UTF-8"
        return bad_row(f"{sidecar}:1: file", "is not UTF-8", got, remedy)
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    blank = [number for number, line in enumerate(lines, start=1) if not line.strip()]
    if blank:
        return RecordError(
            *(
                describe(
                    f"{sidecar}:{number}: caption",
                    "is blank",
                    lines[number - 1],
                    "write one caption a line",
                )
                for number in blank
            )
        )
    values = {"image": image.relative_to(folder).as_posix(), "captions": lines}
    return SourceRow(str(sidecar), 1, values)
