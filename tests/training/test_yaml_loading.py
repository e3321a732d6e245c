"""YAML text becomes plain values, or a ConfigError that names the line."""

import math
from pathlib import Path

import pytest

from jina.training.yaml_loading import (
    ConfigError,
    looks_secret,
    nearest_name,
    parse_yaml,
    show_value,
)

SCALARS = [
    ("1e-5", 1e-5),
    ("1E-5", 1e-5),
    ("-1e5", -1e5),
    ("1.5e+3", 1500.0),
    ("2.", 2.0),
    (".5", 0.5),
    ("+.5", 0.5),
    ("-0.25", -0.25),
    ("1e999", math.inf),
    (".inf", math.inf),
    ("-.Inf", -math.inf),
    ("0", 0),
    ("7", 7),
    ("-3", -3),
    ("+4", 4),
    ("123456789012345678901234567890", 123456789012345678901234567890),
    ("true", True),
    ("False", False),
    ("TRUE", True),
    ("null", None),
    ("~", None),
    ("", None),
    ("no", "no"),
    ("Yes", "Yes"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("010", "010"),
    ("-07", "-07"),
    ("0x1F", "0x1F"),
    ("0o17", "0o17"),
    ("0b11", "0b11"),
    ("1_000", "1_000"),
    ("2:30", "2:30"),
    ("2:30:15", "2:30:15"),
    ("2026-11-22", "2026-11-22"),
    ("1.2.3", "1.2.3"),
    ("e5", "e5"),
    ("1e", "1e"),
    (".", "."),
    ("inf", "inf"),
    ("nan", "nan"),
    ("=", "="),
    ("<<", "<<"),
    ("'1e-5'", "1e-5"),
    ('"5"', "5"),
    ("'true'", "true"),
    ("'null'", "null"),
    ("C:\\models", "C:\\models"),
    ("9" * 5000, "9" * 5000),  # int() would refuse so many digits
]

PYTHON_TAGS = [
    "!!python/object/apply:{call} ['{marker}']",
    "!!python/object/new:{call} ['{marker}']",
    "!!python/object/apply:os.system ['touch {marker}']",
    "!!python/object/apply:os.mkdir ['{marker}']",
    "!!python/object/apply:subprocess.check_call [['touch', '{marker}']]",
    '!!python/object/apply:builtins.eval [\'open("{marker}", "w")\']',
    '!!python/object/apply:builtins.exec [\'open("{marker}", "w")\']',
    "!!python/object/new:type {{args: [x, !!python/tuple [], {{}}], state: 1}}",
    "!!python/object:pathlib.Path {{}}",
    "!!python/name:os.system",
    "!!python/module:antigravity",
    "!!python/tuple [1, 2]",
    "!!python/bytes abc",
    "!!python/complex 1+2j",
    "!!python/int 5",
    "!!python/none",
    "!<tag:yaml.org,2002:python/object/apply:os.mkdir> ['{marker}']",
    "!!int '5'",
    "!!float abc",
    "!!bool maybe",
    "!!binary aGk=",
    "!!timestamp 2026-11-22",
    "!!set {{a, b}}",
    "!!omap [a: 1]",
    "!custom 5",
    "!include other.yaml",
    "!env HOME",
    "! 5",
]


@pytest.mark.parametrize(("text", "expected"), SCALARS)
def test_a_scalar_means_what_it_looks_like(text, expected):
    value = parse_yaml(f"key: {text}", source="x").value["key"]
    assert value == expected
    assert type(value) is type(expected)


def test_not_a_number_is_read_as_such():
    assert math.isnan(parse_yaml("key: .nan", source="x").value["key"])


@pytest.mark.parametrize("template", PYTHON_TAGS)
def test_a_tag_is_refused_and_runs_nothing(template, tmp_path):
    marker = tmp_path / "marker"
    text = template.format(marker=marker, call="pathlib.Path.touch")
    with pytest.raises(ConfigError, match=r"file.yaml:2: not YAML; got .*tags and aliases"):
        parse_yaml(f"first: 1\nkey: {text}", source="file.yaml")
    assert not marker.exists()


def test_each_key_remembers_its_line():
    document = parse_yaml("a:\n  b: 1\n\n  c:\n    d: 2\ne: 3\n", source="x")
    assert document.value == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    expected = {("a",): 1, ("a", "b"): 2, ("a", "c"): 4, ("a", "c", "d"): 5, ("e",): 6}
    assert document.lines == expected


def test_a_duplicate_key_is_named_with_both_lines_and_the_first_value_stays():
    document = parse_yaml("a:\n  b: 1\n  c: 2\n  b: 3\na: 4\n", source="f.yaml")
    first, second = document.problems
    assert first.startswith("f.yaml:4: a.b: given twice") and "line 2" in first
    assert second.startswith("f.yaml:5: a: given twice") and "line 1" in second
    assert document.value == {"a": {"b": 1, "c": 2}}


def test_one_name_in_two_sections_is_no_duplicate():
    assert parse_yaml("a: {x: 1}\nb: {x: 2}", source="x").problems == []


def test_lists_and_nested_groups_are_plain_values():
    text = "a: [1e-5, no, [x]]\nb:\n- 1\n- {c: null}\n"
    assert parse_yaml(text, source="x").value == {"a": [1e-5, "no", ["x"]], "b": [1, {"c": None}]}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_document_is_null(text):
    assert parse_yaml(text, source="x").value is None


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    assert parse_yaml("\ufeffkey: 1", source="x").value == {"key": 1}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1, 2", 1),
        ("a: 1\nb: }", 2),
        ("a: 1\n\tb: 2", 2),
        ("a: 1\n  b: 2", 2),
        ("a: 'text", 1),
        ("a: 1\n---\nb: 2", 2),
        ("a: &x 1\nb: *x", 2),
        ("a: *x", 1),
        ("a: &x [*x]", 1),
        ("%TAG ! foo\na: 1", 2),
    ],
)
def test_a_fault_is_reported_with_its_line(text, line):
    with pytest.raises(ConfigError, match=f"^f.yaml:{line}: not YAML"):
        parse_yaml(text, source="f.yaml")


@pytest.mark.parametrize("text", ["a: \x00", "[" * 100_000, "a: \x07"])
def test_a_hostile_text_is_refused_without_another_error(text):
    with pytest.raises(ConfigError, match="^f.yaml.*: not YAML"):
        parse_yaml(text, source="f.yaml")


def test_a_fault_does_not_show_the_line_that_may_hold_a_secret():
    with pytest.raises(ConfigError) as caught:
        parse_yaml("hub_token: 'canary", source="f.yaml")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("text", ["[a, b]: 1", "? {a: 1}\n: 2"])
def test_a_key_that_is_no_word_is_a_problem(text):
    assert "a key must be one word" in parse_yaml(text, source="x").problems[0]


def test_a_config_error_lists_its_problems_one_a_line():
    error = ConfigError(["first", "second"])
    assert error.problems == ["first", "second"]
    assert str(error) == "first\nsecond"
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hub_token", "x"),
        ("api_key", 5),
        ("wandb_apikey", "x"),
        ("password", "x"),
        ("client_secret", "x"),
        ("train", "https://user:pw@host/a.jsonl"),
        ("train", ["a.jsonl", "s3://key:value@bucket/b"]),
        ("run_name", "hf_abcdefghijklmnop"),
    ],
)
def test_a_credential_is_recognized_and_hidden(key, value):
    assert looks_secret(key, value)
    assert show_value(value, about=key) == "a hidden value"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_text_tokens", 8192),
        ("average_tokens_across_devices", True),
        ("include_num_input_tokens_seen", "all"),
        ("hub_token", None),
        ("train", "https://host:8080/a@b.jsonl"),
        ("run_name", "shelf_life"),
    ],
)
def test_an_ordinary_setting_is_no_credential(key, value):
    assert not looks_secret(key, value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (None, "null"),
        ("a", '"a"'),
        (1e-5, "1e-05"),
        ({"a": 1}, "a group of settings"),
    ],
)
def test_a_value_is_shown_as_yaml_writes_it(value, shown):
    assert show_value(value) == shown


def test_a_long_value_is_shortened():
    assert len(show_value("x" * 1000)) == 80


def test_the_nearest_name_is_found_in_any_case_or_not_at_all():
    assert nearest_name("Learning_Rat", ["learning_rate", "seed"]) == "learning_rate"
    assert nearest_name("xyzzy", ["learning_rate", "seed"]) is None


def test_this_module_never_constructs_python_objects_from_yaml():
    source = (Path(__file__).parents[2] / "jina/training/yaml_loading.py").read_text("utf-8")
    assert "yaml.compose(" in source
    assert "yaml.load(" not in source
