"""Emoji and their names in a language that the tiny Jina has not seen, for the demo.

    python -m data.recipes.new_language --output data/demo/language [--language ca]

Pictures from npm's `@lobehub/fluent-emoji-3d` (MIT, Microsoft's Fluent Emoji), kinds of emoji from
npm's `emojibase-data` (MIT, Miles Johnson), names from npm's `cldr-annotations-full` (Unicode
License V3). Animals, food, places, pastimes and things; no faces, people, signs or flags.

The hash of an emoji's code decides where it goes, so no one can choose. The tiny Jina's pretraining
leaves out every emoji of eval.jsonl, whoever drew it.
"""

import argparse
import hashlib
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from data.recipes.common import BAD_INPUT, FetchError, fetch_npm
from data.recipes.emoji import NAMES, PICTURES, VARIATION

ANNOTATIONS = "cldr-annotations-full"
PACKAGES = (f"{PICTURES}@1.1.0", f"{NAMES}@17.0.0", f"{ANNOTATIONS}@48.2.0")
KINDS = {3: "animals", 4: "food", 5: "places", 6: "pastimes", 7: "things"}
NUM_EVAL = 200
SIDE = 128  # pixels of a picture

logger = logging.getLogger("smartembed")


def codes(unpacked: Path) -> tuple[list[str], list[str]]:
    """Return the codes of the emoji to train on and of those to evaluate on."""
    text = (unpacked / NAMES / "package/en/data.json").read_text(encoding="utf-8")
    kinds = {
        emoji["hexcode"].lower().replace(VARIATION, ""): emoji.get("group")
        for emoji in json.loads(text)
        # a clock's hands are no word to learn
        if "o’clock" not in emoji["label"] and "thirty" not in emoji["label"]
    }
    found = [code for code in pictures(unpacked) if kinds.get(code) in KINDS]
    found.sort(key=lambda code: hashlib.blake2b(code.encode()).digest())
    return sorted(found[NUM_EVAL:]), sorted(found[:NUM_EVAL])


def pictures(unpacked: Path) -> dict[str, Path]:
    """Return the file of each emoji by its code."""
    assets = sorted((unpacked / PICTURES / "package/assets").glob("*.webp"))
    return {file.stem.replace(VARIATION, ""): file for file in assets}


def names(unpacked: Path, language: str) -> dict[str, str]:
    """Return the name of each emoji in a language by its code."""
    folder = unpacked / ANNOTATIONS / "package/annotations" / language
    found = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    return {
        "-".join(f"{ord(sign):x}" for sign in emoji).replace(VARIATION, ""): values["tts"][0]
        for emoji, values in found["annotations"]["annotations"].items()
        if "tts" in values
    }


def rows(chosen: list[str], named: dict[str, str], language: str) -> Iterator[dict]:
    """Yield the row of each emoji that has a name."""
    for code in chosen:
        if code in named:
            yield {
                "query": named[code],
                "positive_image": f"images/{code}.webp",
                "source": "fluent-emoji-3d",
                "metadata": {"lang": language, "license": "MIT"},
            }


def main() -> None:
    """Write train.jsonl, eval.jsonl and the pictures."""
    parser = argparse.ArgumentParser(prog="python -m data.recipes.new_language")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--language", default="ca", metavar="CODE")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s", stream=sys.stdout, level=logging.INFO)
    try:
        with tempfile.TemporaryDirectory() as folder:
            unpacked = Path(folder)
            for package in PACKAGES:
                logger.info("Fetching %s …", package)
                fetch_npm(package, unpacked)
            write(unpacked, options.output, options.language)
    except FetchError as error:
        logger.error("%s", error)
        sys.exit(BAD_INPUT)


def write(unpacked: Path, output: Path, language: str) -> None:
    """Write both files and the pictures that they name."""
    (output / "images").mkdir(parents=True, exist_ok=True)
    files, named = pictures(unpacked), names(unpacked, language)
    for split, chosen in zip(("train", "eval"), codes(unpacked), strict=True):
        found = list(rows(chosen, named, language))
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in found]
        (output / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        for row in found:
            target = output / row["positive_image"]
            picture = Image.open(files[target.stem]).convert("RGBA")
            picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(target, quality=80)
        logger.info("%s: %d rows", split, len(found))


if __name__ == "__main__":
    main()
