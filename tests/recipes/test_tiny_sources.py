"""What the tiny Jina sees: which names and pictures come out of unpacked packages."""

import json

import numpy as np
from PIL import Image

from recipes.tiny_sources import (
    SIDE,
    clip_art,
    emoji_names,
    frame,
    plain,
    read_pictures,
    read_texts,
    words,
)

SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:dc="http://purl.org/dc/elements/1.1/">
<metadata><dc:title>{title}</dc:title></metadata></svg>"""


def save(folder, name, size=(40, 20), box=(10, 5, 20, 15), title=""):
    """Write a drawing: a red box on nothing."""
    picture = Image.new("RGBA", size)
    picture.paste((255, 0, 0, 255), box)
    file = folder / f"usr/share/openclipart/png/{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)
    file = folder / f"usr/share/openclipart/svg/{name}.svg"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SVG.format(title=title), encoding="utf-8")


def test_texts_are_compared_without_case_and_punctuation():
    assert plain(" A “Fuji”  apple.") == plain("a fuji Apple")
    assert plain("a pear") != plain("an apple")


def test_a_drawing_is_cut_out_and_fills_the_square():
    picture = Image.new("RGBA", (40, 20))
    picture.paste((255, 0, 0, 255), (10, 5, 30, 15))
    alpha = np.array(frame(picture))[..., 3]
    assert alpha.shape == (SIDE, SIDE)
    assert (alpha[SIDE // 2] == 255).all()
    assert alpha[: SIDE // 4 - 4].max() == 0
    assert frame(Image.new("RGBA", (40, 20))) is None


def test_clip_art_is_named_by_its_title_and_else_by_its_file(tmp_path):
    save(tmp_path, "food/redApple_01", title="A red apple")
    save(tmp_path, "food/greenPear_01")
    save(tmp_path, "shapes/stars/star", title="A star")
    for number in range(9):
        save(tmp_path, f"food/plum{'abcdefghi'[number]}", title="Various Cliparts")
    captions = [found["en"] for _, _, found, _ in clip_art(tmp_path)]
    assert "A red apple" in captions
    assert "green pear" in captions
    assert "pluma" in captions
    assert not {"A star", "Various Cliparts"} & set(captions)


def test_what_the_demo_is_evaluated_on_is_left_out(tmp_path):
    save(tmp_path, "food/apple", title="Red Apple!")
    save(tmp_path, "food/pear", title="A pear")
    for name in ("fluent-emoji-flat", "noto", "noto-v1", "twemoji", "emojione", "fxemoji"):
        package = tmp_path / f"@iconify-json/{name}/package"
        package.mkdir(parents=True)
        (package / "icons.json").write_text('{"icons": {}}')
        (package / "chars.json").write_text("{}")
    save(tmp_path, "food/plum", title="A plum")
    found = read_pictures(tmp_path, {"red apple", "food/plum"})
    assert [picture.captions["en"] for picture in found] == ["A pear"]


def test_emoji_have_names_in_every_language(tmp_path):
    for language, label in (("en", "dog"), ("de", "Hund")):
        file = tmp_path / f"emojibase-data/package/{language}/data.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps([{"hexcode": "1F415-FE0F", "label": label}]))
    assert emoji_names(tmp_path) == {"1f415": {"en": "dog", "de": "Hund"}}


def test_only_nouns_of_things_are_read_of_wordnet(tmp_path):
    file = tmp_path / "usr/share/wordnet/data.noun"
    file.parent.mkdir(parents=True)
    file.write_text(
        "  1 a licence\n"
        '02084071 05 n 02 dog 0 domestic_dog 0 000 | a tame animal; "the dog barked all night"\n'
        "00001740 03 n 01 entity 0 000 | that which is\n"
    )
    assert list(read_texts(tmp_path)) == [
        "dog",
        "dog, domestic dog: a tame animal",
        "the dog barked all night",
    ]


def test_file_names_become_words():
    assert words("redApple_john_01") == "red apple john"
