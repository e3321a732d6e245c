"""The demo's rows in a new language: which things, which names, which artists."""

import io
import json

import pytest
from PIL import Image

from recipes import demo_language
from recipes.demo_language import names, things, write

EMOJI = {"1f34e": ("red apple", 4, "elma"), "1f438": ("frog", 3, "kurbağa"),
         "1f600": ("grinning face", 0, "sırıtan yüz"), "1f550": ("one o’clock", 5, "saat bir"),
         "2764": ("red heart", 8, "kırmızı kalp")}  # fmt: skip


def picture():
    buffer = io.BytesIO()
    Image.new("RGBA", (16, 16), "red").save(buffer, "webp")
    return buffer.getvalue()


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """Packages with five emoji, all drawn by three artists."""
    monkeypatch.setattr("recipes.tiny_sources.draw", lambda *_: Image.new("RGBA", (9, 9), "blue"))

    def put(name, content):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    labels = [
        {"hexcode": code.upper(), "label": label, "group": group}
        for code, (label, group, _) in EMOJI.items()
    ]
    put("emojibase-data/package/en/data.json", labels)
    turkish = {chr(int(code, 16)): {"tts": [name]} for code, (_, _, name) in EMOJI.items()}
    put("cldr-annotations-full/package/annotations/tr/annotations.json",
        {"annotations": {"annotations": turkish}})  # fmt: skip
    slugs = {code: label.replace(" ", "-") for code, (label, _, _) in EMOJI.items()}
    for origin in ("noto", "twemoji", "fluent-emoji-flat"):
        put(f"@iconify-json/{origin}/package/chars.json", slugs)
        icons = {"icons": {slug: {"body": ""} for slug in slugs.values()}}
        put(f"@iconify-json/{origin}/package/icons.json", icons)
    for code in EMOJI:
        put(f"@lobehub/fluent-emoji-3d/package/assets/{code}.webp", picture())
    return tmp_path


def test_faces_signs_and_clocks_are_no_things(unpacked):
    assert set(things(unpacked)) == {"1f34e", "1f438"}


def test_the_hash_decides_which_things_are_taken(unpacked, monkeypatch):
    both = things(unpacked)
    monkeypatch.setattr(demo_language, "NUM_THINGS", 1)
    assert things(unpacked) == both[:1]


def test_names_are_those_of_the_language(unpacked):
    assert names(unpacked, "tr")["1f438"] == "kurbağa"


def test_two_artists_are_taught_and_the_third_is_searched(unpacked, tmp_path):
    write(unpacked, tmp_path / "out", "tr")
    rows = {
        split: [
            json.loads(line)
            for line in (tmp_path / f"out/{split}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for split in ("train", "eval")
    }
    sources = {split: {row["source"] for row in found} for split, found in rows.items()}
    assert sources == {"train": {"noto", "twemoji"}, "eval": {"fluent-emoji-3d"}}
    for split, count in (("train", 2), ("eval", 1)):
        assert sorted(row["query"] for row in rows[split]) == ["elma"] * count + ["kurbağa"] * count
        for row in rows[split]:
            with Image.open(tmp_path / "out" / row["positive_image"]) as drawing:
                assert drawing.size == (128, 128)
