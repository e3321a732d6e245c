"""`language_hint`: what a row says of itself, else the script of its text."""

import json

import pytest

from jina.data.checking.language_hint import _STARTS, language_hint, script_of
from jina.data.records import parse_line


def sample(**row):
    row = {"query": "q", "positive": "a cat", **row}
    return parse_line(json.dumps(row).encode(), file="a", line=1)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("a cat on a sofa", "Latin"),
        ("Übergröße, naïve, Łódź", "Latin"),
        ("Tiếng Việt có dấu", "Latin"),
        ("кошка на диване", "Cyrillic"),
        ("γάτα", "Greek"),
        ("חתול", "Hebrew"),
        ("قطة على الأريكة", "Arabic"),
        ("सोफे पर बिल्ली", "Devanagari"),
        ("แมวบนโซฟา", "Thai"),
        ("고양이", "Hangul"),
        ("沙发上的一只猫", "Han"),
        ("ソファの上の猫", "Japanese"),
        ("猫がいる", "Japanese"),
        ("კატა", "Georgian"),
        ("ድመት", "another"),
        ("OLED 电视机的说明书和保修卡", "Han"),
    ],
)
def test_a_text_is_named_by_its_script(text, script):
    assert script_of(text) == f"{script} script"


def test_texts_without_letters_and_rows_without_text_say_so():
    assert script_of("1 + 1 = 2") == "no letters"
    assert script_of("١٢٣ 🙂") == "no letters"
    assert language_hint(sample(query=None, query_image="a.png", positive=None,
                                positive_image="b.png")) == "no text"  # fmt: skip


def test_a_row_that_names_its_language_is_believed():
    assert language_hint(sample(metadata={"lang": "de"})) == "de"
    assert language_hint(sample(metadata={"lang": "x" * 99})) == "x" * 16
    assert language_hint(sample(metadata={"lang": "PT-br"})) == "pt-br"


@pytest.mark.parametrize("lang", [None, "", 7, ["de"], "a\nb", "\x1b[2J"])
def test_a_name_that_is_none_is_not_believed(lang):
    assert language_hint(sample(metadata={"lang": lang})) == "Latin script"


def test_the_blocks_are_in_order():
    assert sorted(set(_STARTS)) == _STARTS
