"""What the tiny Jina sees: pictures with captions, and texts, read from unpacked packages.

    emoji sets (npm) ─┐                      ┌─► Picture: RGBA, captions by language
    clip art (Debian) ┴─ read_pictures() ────┘
    emojibase (npm), WordNet (Debian) ─ read_texts() ─► English texts, (translation, English) pairs

Everything here may be passed on in trained form: MIT, Apache-2.0, CC-BY 4.0, public domain, Unicode
License V3 and WordNet's own. Things that the demo's evaluation rows name are left out, and all of
Tux Paint's pictures and captions, on which the result is measured.
"""

import io
import json
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from data.recipes.emoji import NAMES, PICTURES, VARIATION

ICON_SETS = ("fluent-emoji-flat", "noto", "noto-v1", "twemoji", "emojione", "fxemoji")
CLIP_ART = "usr/share/openclipart"
# Interface icons, playing cards and rows of like shapes say nothing of what pictures show.
NO_PICTURES = re.compile(
    r"shapes/(stars|arrows|jigsaw|flowchart|callouts)|computer/icons|computer/buttons|special/"
    r"|games/cards|signs_and_symbols/(led|flags/)|aiga|semaphore|duplicates"
)
# WordNet's lexicographer files of things that can be drawn.
THINGS = {"05": "animal", "06": "artifact", "08": "body", "13": "food", "17": "object",
          "18": "person", "19": "phenomenon", "20": "plant"}  # fmt: skip
SIDE = 128
LARGEST = 64_000_000  # pixels
SHARED_TITLE = 4


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        origin: the set it comes from.
        key: what pictures of the same thing share.
        captions: by language; the English one is there if any is.
        pixels: RGBA of SIDE x SIDE, the drawing in the middle, transparent around.
    """

    origin: str
    key: str
    captions: dict[str, str]
    pixels: Image.Image


def read_pictures(unpacked: Path, left_out: Set[str]) -> Iterator[Picture]:
    """Yield every picture but those of which the key or, by `plain`, a caption is in `left_out`."""
    names = emoji_names(unpacked)
    for found in (emoji_pictures(unpacked, names), clip_art(unpacked)):
        for origin, key, captions, picture in found:
            if left_out.isdisjoint({key, *map(plain, captions.values())}):
                framed = frame(picture)
                if framed is not None:
                    yield Picture(origin, key, captions, framed)


def plain(text: str) -> str:
    """Return a text without case, punctuation and outer spaces, to compare it by."""
    return " ".join(re.sub(r"[\W_]+", " ", text.casefold()).split())


def emoji_names(unpacked: Path) -> dict[str, dict[str, str]]:
    """Return the names of each emoji by language; skin tones aren't among them."""
    names: dict[str, dict[str, str]] = {}
    for file in sorted((unpacked / NAMES / "package").glob("*/data.json")):
        for emoji in json.loads(file.read_text(encoding="utf-8")):
            code = emoji["hexcode"].lower().replace(VARIATION, "")
            names.setdefault(code, {})[file.parent.name] = emoji["label"]
    return {code: found for code, found in names.items() if "en" in found}


def emoji_pictures(
    unpacked: Path, names: dict[str, dict[str, str]], icon_sets: Sequence[str] = ICON_SETS
) -> Iterator[tuple[str, str, dict[str, str], Image.Image]]:
    """Yield set, key, names and picture of every emoji that has names, set by set."""
    for file in sorted((unpacked / PICTURES / "package/assets").glob("*.webp")):
        code = file.stem.replace(VARIATION, "")
        if code in names:
            yield "fluent-emoji-3d", code, names[code], Image.open(file)
    codes = icon_codes(unpacked, names)
    for origin in icon_sets:
        icons = json.loads(_icons(unpacked, origin, "icons.json"))
        seen = set()
        for name, icon in icons["icons"].items():
            code = codes.get(name) or codes.get(name.replace("-", ""))
            if code and code not in seen and not icon.get("hidden"):
                seen.add(code)
                yield origin, code, names[code], draw(icon, icons)


def icon_codes(unpacked: Path, names: dict[str, dict[str, str]]) -> dict[str, str]:
    """Map what icon sets call an emoji, with and without hyphens, to its code."""
    codes = {plain(found["en"]).replace(" ", "-"): code for code, found in names.items()}
    for origin in ("fluent-emoji-flat", "noto", "twemoji"):
        for code, name in json.loads(_icons(unpacked, origin, "chars.json")).items():
            if code.replace(VARIATION, "") in names:
                codes.setdefault(name, code.replace(VARIATION, ""))
    return {name.replace("-", ""): code for name, code in codes.items()} | codes


def _icons(unpacked: Path, origin: str, file: str) -> str:
    return (unpacked / f"@iconify-json/{origin}/package" / file).read_text(encoding="utf-8")


def draw(icon: dict, defaults: dict) -> Image.Image:
    """Rasterize an icon of an Iconify set."""
    from resvg_py import svg_to_bytes  # only this recipe needs it

    left, top, width, height = (
        icon.get(name, defaults.get(name, fallback))
        for name, fallback in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )
    return Image.open(io.BytesIO(bytes(svg_to_bytes(svg_string=svg, width=192, height=192))))


def clip_art(unpacked: Path) -> Iterator[tuple[str, str, dict[str, str], Image.Image]]:
    """Yield set, key, caption and picture of clip art: its title, else the name of its file."""
    root = unpacked / CLIP_ART
    files = {
        file.relative_to(root / "png").with_suffix("").as_posix(): file
        for file in sorted((root / "png").rglob("*.png"))
    }
    titles = {
        name: title(root / "svg" / f"{name}.svg") for name in files if not NO_PICTURES.search(name)
    }
    counts = Counter(map(plain, titles.values()))
    for name, found in titles.items():
        # a title of many is that of a collection, not of what a picture shows
        is_own = found and counts[plain(found)] <= SHARED_TITLE
        caption = found if is_own else words(files[name].stem)
        try:
            with warnings.catch_warnings():  # what is that large is left out below
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                picture = Image.open(files[name])
        except (UnidentifiedImageError, Image.DecompressionBombError):
            continue  # a few are empty files, and one is a poster
        if picture.width * picture.height <= LARGEST and plain(caption):
            yield "openclipart", name, {"en": caption}, picture


def title(file: Path) -> str:
    """Return the title of a drawing, or nothing where it has none of its own."""
    if not file.is_file():
        return ""
    try:
        for _, element in ElementTree.iterparse(file):  # noqa: S314  a file of a Debian package
            if element.tag.endswith("}title") and (text := " ".join((element.text or "").split())):
                return text if 2 < len(text) < 100 and "." not in text[:-1] else ""
            if element.tag.endswith("}metadata"):
                return ""
    except ElementTree.ParseError:
        return ""
    return ""


def words(stem: str) -> str:
    """Turn a file's name such as `red_apple_john_01` into words; artists' initials stay in."""
    return " ".join(re.findall(r"[A-Za-z]{3,}", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem))).lower()


def frame(picture: Image.Image) -> Image.Image | None:
    """Cut a picture to what isn't transparent and fit it into a square; `None` if nothing is."""
    picture = picture.convert("RGBA")
    picture.thumbnail((512, 512))
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
    if box is None or min(box[2] - box[0], box[3] - box[1]) < 4:
        return None
    picture = picture.crop(box)
    scale = SIDE / max(picture.size)
    size = [max(1, round(length * scale)) for length in picture.size]
    framed = Image.new("RGBA", (SIDE, SIDE))
    framed.paste(picture.resize(size, Image.Resampling.BICUBIC),
                 ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))  # fmt: skip
    return framed


def read_texts(unpacked: Path) -> Iterator[str]:
    """Yield English texts on things that can be drawn: WordNet's nouns and what they mean."""
    file = unpacked / "usr/share/wordnet/data.noun"
    for line in file.read_text(encoding="latin-1").splitlines():
        if line.startswith(" ") or line.split(" ", 2)[1] not in THINGS:
            continue
        fields, _, gloss = line.partition(" | ")
        parts = fields.split(" ")
        lemmas = [parts[4 + 2 * i].replace("_", " ") for i in range(int(parts[3], 16))]
        meaning, *examples = [part.strip(' "') for part in gloss.strip().split('; "')]
        yield lemmas[0]
        yield f"{', '.join(lemmas[:2])}: {meaning.split(';')[0][:90]}"
        yield from (example for example in examples[:1] if 10 < len(example) < 90)
