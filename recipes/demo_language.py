"""Build the demo's rows: things with names in Turkish, which the tiny Jina has never read.

    pip install 'resvg-py>=0.5,<0.6'
    python -m recipes.demo_language --output data/demo/turkish

    200 things ─┬─ drawn by Noto and Twemoji ─► train.jsonl
                └─ drawn by Fluent Emoji 3D ──► eval.jsonl

Things are animals, food, places, pastimes and objects; the hash of an emoji's code draws them, so
no one can choose. Pretraining leaves them out, whoever drew them. Names are CLDR's. What is taught
are words; what is searched are pictures that neither pretraining nor training has seen.
"""

import argparse
import hashlib
import json
import logging
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from data.recipes.common import BAD_INPUT, FetchError, fetch_npm
from data.recipes.emoji import NAMES, PICTURES, VARIATION
from data.recipes.emoji import PACKAGES as EMOJI
from recipes.tiny_packages import NPM
from recipes.tiny_sources import emoji_names, emoji_pictures

ANNOTATIONS = "cldr-annotations-full"
TAUGHT = ("noto", "twemoji")
DRAWN = tuple(f"@iconify-json/{name}@" for name in (*TAUGHT, "fluent-emoji-flat"))  # has codes
PACKAGES = (
    *EMOJI,
    *(package for package in NPM if package.startswith(DRAWN)),
    f"{ANNOTATIONS}@48.2.0",
)
LICENCES = {"fluent-emoji-3d": "MIT", "noto": "Apache-2.0", "twemoji": "CC-BY-4.0"}
KINDS = range(3, 8)  # emojibase's groups: animals, food, places, pastimes, objects
NUM_THINGS = 200
SIDE = 128  # pixels of a picture

logger = logging.getLogger("smartembed")


def things(unpacked: Path) -> list[str]:
    """Return the codes of the things, in the order of their hashes."""
    text = (unpacked / NAMES / "package/en/data.json").read_text(encoding="utf-8")
    drawn = (unpacked / PICTURES / "package/assets").glob("*.webp")
    codes = {file.stem.replace(VARIATION, "") for file in drawn} & {
        emoji["hexcode"].lower().replace(VARIATION, "")
        for emoji in json.loads(text)
        # where a clock's hands stand is no word to learn
        if emoji.get("group") in KINDS and not re.search("o’clock|thirty", emoji["label"])
    }
    order = sorted(codes, key=lambda code: hashlib.blake2b(code.encode()).digest())
    return order[:NUM_THINGS]


def names(unpacked: Path, language: str) -> dict[str, str]:
    """Return the name of each emoji in a language by its code."""
    folder = unpacked / ANNOTATIONS / "package/annotations" / language
    found = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    return {
        "-".join(f"{ord(sign):x}" for sign in emoji).replace(VARIATION, ""): values["tts"][0]
        for emoji, values in found["annotations"]["annotations"].items()
        if "tts" in values
    }


def rows(unpacked: Path, output: Path, language: str) -> Iterator[dict]:
    """Write the picture of each row and yield the row, artist by artist."""
    english, named = emoji_names(unpacked), names(unpacked, language)
    chosen = {code: english[code] for code in sorted(things(unpacked)) if code in named}
    for origin, code, _, picture in emoji_pictures(unpacked, chosen, TAUGHT):
        file = f"images/{origin}_{code}.webp"
        drawing = picture.convert("RGBA").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        drawing.save(output / file, quality=80)
        yield {
            "query": named[code],
            "positive_image": file,
            "source": origin,
            "metadata": {"lang": language, "license": LICENCES[origin]},
        }


def write(unpacked: Path, output: Path, language: str) -> None:
    """Write both files and the pictures that they name."""
    (output / "images").mkdir(parents=True, exist_ok=True)
    found = list(rows(unpacked, output, language))
    for split, is_taught in (("train", True), ("eval", False)):
        chosen = [row for row in found if (row["source"] in TAUGHT) == is_taught]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in chosen]
        (output / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        logger.info("%s: %d rows", split, len(chosen))


def main() -> None:
    """Fetch the packages and write train.jsonl, eval.jsonl and the pictures."""
    parser = argparse.ArgumentParser(prog="python -m recipes.demo_language")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--language", default="tr", metavar="CODE")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s", stream=sys.stdout, level=logging.INFO)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for package in PACKAGES:
                logger.info("Fetching %s …", package)
                fetch_npm(package, Path(folder))
            write(Path(folder), options.output, options.language)
    except FetchError as error:
        logger.error("%s", error)
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
