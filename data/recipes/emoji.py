"""Emoji: 1,851 pictures, each named in 28 languages.

    python -m data.recipes.emoji [--languages en de …]

Pictures from npm's `@lobehub/fluent-emoji-3d` (MIT, Microsoft's Fluent Emoji), names from npm's
`emojibase-data` (MIT, Miles Johnson; the names come from CLDR, Unicode License V3).

A row is one emoji and its name in one language; where two languages have the same name, the first
counts. Skin tones are left out, since their names differ in nothing else.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from data.recipes.common import Row, copy_new, fetch_npm, run_recipe

PICTURES = "@lobehub/fluent-emoji-3d"
NAMES = "emojibase-data"
PACKAGES = (f"{PICTURES}@1.1.0", f"{NAMES}@17.0.0")
# Asks for the picture in colour, and is left out of some file names.
VARIATION = "-fe0f"


def build(unpacked: Path, output: Path, languages: Collection[str]) -> Iterator[Row]:
    """Copy the pictures that have a name, and yield their rows."""
    assets = sorted((unpacked / PICTURES / "package/assets").glob("*.webp"))
    pictures = {file.stem.replace(VARIATION, ""): file for file in assets}
    files = sorted((unpacked / NAMES / "package").glob("*/data.json"))
    # English first, because of equal names the first counts.
    files.sort(key=lambda file: file.parent.name != "en")
    named: dict[str, dict[str, str]] = {}
    for file in files:
        if not languages or file.parent.name in languages:
            for code, name in names(file.read_text(encoding="utf-8")):
                named.setdefault(code, {}).setdefault(name, file.parent.name)
    seen: set[bytes] = set()
    for code in sorted(named.keys() & pictures.keys()):
        # One emoji was published with the picture of another.
        if not copy_new(pictures[code], output / f"images/{code}.webp", seen):
            continue
        for name, language in named[code].items():
            yield {
                "query_image": f"images/{code}.webp",
                "positive": name,
                "source": "emoji",
                "metadata": {"lang": language, "license": "MIT"},
            }


def names(text: str) -> Iterator[tuple[str, str]]:
    """Yield the code of each emoji, without variation, and its name."""
    for emoji in json.loads(text):
        yield emoji["hexcode"].lower().replace(VARIATION, ""), emoji["label"]


if __name__ == "__main__":
    run_recipe(
        "emoji",
        build,
        packages=PACKAGES,
        fetch=fetch_npm,
    )
