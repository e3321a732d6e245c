"""Tux Paint's stamps: 784 drawings and photographs, each described in up to 78 languages.

    python -m data.recipes.tuxpaint [--languages en de …]

From Debian's `tuxpaint-stamps-default` (161 MB; GPL-2, Bill Kendrick and others), which a machine
with Debian or Ubuntu can fetch. Built on your machine, not to be passed on without that licence.

A row is one picture and its caption in one language: the language stays known, and a row costs
the same however many translations there are. Nothing is lost by it, since rows with the same
picture are never negatives of each other and go to the same split.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

from data.recipes.common import Row, copy_new, fetch_debian, run_recipe

STAMPS = "usr/share/tuxpaint/stamps"


def build(unpacked: Path, output: Path, languages: Collection[str]) -> Iterator[Row]:
    """Copy the stamps that have a caption, and yield their rows."""
    seen: set[bytes] = set()
    for text in sorted((unpacked / STAMPS).rglob("*.txt")):
        picture = text.with_suffix(".png")
        name = Path("images", picture.relative_to(unpacked / STAMPS))
        # The others are SVG drawings, which nobody rasterizes here.
        if not picture.is_file() or not copy_new(picture, output / name, seen):
            continue
        for caption, language in captions(text.read_text(encoding="utf-8")).items():
            if not languages or language in languages:
                yield {
                    "query_image": name.as_posix(),
                    "positive": caption,
                    "source": "tuxpaint",
                    "metadata": {"lang": language, "license": "GPL-2"},
                }


def captions(text: str) -> dict[str, str]:
    """Map each caption to its language; of equal ones, such as names, the first counts.

    The first line is English; those below look like `de.utf8=Ein Zebra.`
    """
    english, *others = text.splitlines()
    found = {english.strip(): "en"}
    for line in others:
        language, _, caption = line.partition(".utf8=")
        found.setdefault(caption.strip(), language)
    return {caption: language for caption, language in found.items() if caption}


if __name__ == "__main__":
    run_recipe("tuxpaint", build, packages=["tuxpaint-stamps-default"], fetch=fetch_debian)
