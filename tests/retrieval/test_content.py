"""The same thing under another name is the same thing."""

from pathlib import Path

import pytest
from PIL import Image

from jina.data.records import Item
from jina.retrieval.content import Content, ContentIndex, identify_images, item_content
from jina.retrieval.errors import RetrievalError

CAT, DOG = b"pixels of a cat", b"pixels of a dog"
DOCUMENTS = [
    Content("a cat", None, b""),  # 0
    Content("A  Cat", None, b""),  # 1
    Content(None, "/cat.png", CAT),  # 2
    Content(None, "/copy.png", CAT),  # 3
    Content("a cat", "/cat.png", CAT),  # 4
    Content("in red", "/cat.png", CAT),  # 5
    Content("a cat", "/dog.png", DOG),  # 6
    Content("a dog", "/dog.png", DOG),  # 7
]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (Content("a cat", None, b""), {0, 1, 4, 6}),
        (Content(None, "/x.png", CAT), {2, 3, 4, 5}),
        (Content("a cat", "/x.png", CAT), {0, 1, 2, 3, 4}),
        (Content("in red", "/x.png", CAT), {2, 3, 5}),
        (Content("a bird", None, b""), set()),
    ],
)
def test_what_shares_a_part_and_contradicts_in_none_is_the_same(content, expected):
    assert ContentIndex(DOCUMENTS).same_as(content) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (Content("a cat", None, b""), {0, 1}),
        (Content(None, "/x.png", CAT), {2, 3}),
        (Content("a cat", "/x.png", CAT), {4}),
        (Content("a dog", None, b""), set()),
    ],
)
def test_equal_is_what_agrees_in_all_parts(content, expected):
    assert ContentIndex(DOCUMENTS).equal_to(content) == expected


def test_images_are_told_by_their_pixels_under_any_name_and_format(tmp_path):
    picture = Image.effect_noise((40, 30), 50).convert("RGB")
    for name in ("a.png", "b.bmp", "c.webp"):
        picture.save(tmp_path / name, **({"lossless": True} if name == "c.webp" else {}))
    picture.putpixel((0, 0), (1, 2, 3))
    picture.save(tmp_path / "d.png")
    images = [(tmp_path, name, name) for name in ("a.png", "b.bmp", "c.webp", "d.png", "a.png")]
    pixels = identify_images(images)
    assert len({pixels[tmp_path, name] for name in ("a.png", "b.bmp", "c.webp")}) == 1
    assert pixels[tmp_path, "d.png"] != pixels[tmp_path, "a.png"]
    content = item_content(Item("t", "a.png"), tmp_path, pixels)
    assert content == Content("t", str(tmp_path / "a.png"), pixels[tmp_path, "a.png"])


def test_all_bad_images_are_told_at_once_with_where_they_are_named(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    images = [(tmp_path, "bad.png", "rows:1"), (Path(tmp_path), "gone.png", "rows:2")]
    with pytest.raises(RetrievalError) as caught:
        identify_images(images)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == ["rows:1", "rows:2"]
