"""Parse YAML into plain values with the line of each key, and word what is wrong with a setting.

Scalars mean what they look like (YAML 1.2): `1e-5` is a number; `no`, `2:30` and `010` are text.
Refused: duplicate keys, tags such as `!!python/name:os.system`, and aliases.
"""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

_CONSTANTS = {"true": True, "false": False, "null": None, "~": None, "": None}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,99})")  # a leading zero is text: octal or decimal?
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)

# `max_text_tokens` is no secret, `hub_token` is.
_SECRET_KEY = re.compile(r"token(?!s|ize)|secret|passw|credential|(api|access)_?key", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"://[^/\s:@]*:[^/\s@]+@|\b(hf_|sk-)\w{8}")


class ConfigError(ValueError):
    """The settings can't be used; `problems` holds one line for each thing to correct."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def describe_problem(where: str, wrong: str, *, got: str, advice: str) -> str:
    """Return one line in the form shared by all configuration errors."""
    return f"{where}: {wrong}; got {got}; {advice}"


def looks_secret(key: str, value: object) -> bool:
    """Whether the key names a credential or the value carries one, `user:password@` included."""
    named_so = bool(_SECRET_KEY.search(key)) and value is not None
    return named_so or bool(_SECRET_VALUE.search(str(value)))


def show_value(value: object, *, about: str = "") -> str:
    """Return the value as YAML would write it, shortened; hidden if `about` names a secret."""
    if looks_secret(about, value):
        return "a hidden value"
    if isinstance(value, dict):
        return "a group of settings"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def nearest_name(name: str, names: Iterable[str]) -> str | None:
    """Return the known name most like this one, or None when nothing is close."""
    return next(iter(difflib.get_close_matches(name.lower(), list(names), n=1)), None)


@dataclass(frozen=True)
class YamlDocument:
    """Plain values of a YAML text, the line of each key (by its path), and what was left out."""

    value: Any
    lines: dict[tuple[str, ...], int]
    problems: list[str]


def parse_yaml(text: str, *, source: str) -> YamlDocument:
    """Parse one YAML document.

    Args:
        source: a file name or the like, with which each problem begins.

    Raises:
        ConfigError: the text isn't YAML, or has a tag or an alias.
    """
    reader = _NodeReader(source)
    try:
        node = yaml.compose(text, Loader=_UntaggedLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        reason = getattr(error, "problem", None) or type(error).__name__
        advice = "correct the line or put the text in quotes"
        raise ConfigError(
            [describe_problem(where, "not YAML", got=reason, advice=advice)]
        ) from None
    value = None if node is None else reader.read(node, ())
    return YamlDocument(value, reader.lines, reader.problems)


class _UntaggedLoader(yaml.SafeLoader):
    """Composes nodes and refuses tags and aliases; Python objects are never constructed."""

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        """Refuse the next node if it is tagged or an alias, else compose it."""
        event = self.peek_event()
        refused = "alias" if isinstance(event, yaml.AliasEvent) else getattr(event, "tag", None)
        if refused is not None:
            message = f"{refused} (tags and aliases are not used here)"
            raise yaml.MarkedYAMLError(problem=message, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


class _NodeReader:
    """Turn nodes into plain values, noting each key's line and each key given twice."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[tuple[str, ...], int] = {}
        self.problems: list[str] = []

    def read(self, node: yaml.Node, path: tuple[str, ...]) -> Any:
        """Return the plain value of a node found at `path`."""
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, path) for item in node.value]
        return _scalar(node.value) if node.style is None else node.value

    def _mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(line, "a key must be one word", "a group or list", "write key: value")
                continue
            key = key_node.value
            key_path = (*path, key)
            if key in values:
                name = ".".join(key_path)
                first = f"the first one is in line {self.lines[key_path]}"
                self._refuse(line, f"{name}: given twice", "a second value", f"keep one; {first}")
                continue
            self.lines[key_path] = line
            values[key] = self.read(value_node, key_path)
        return values

    def _refuse(self, line: int, wrong: str, got: str, advice: str) -> None:
        where = f"{self.source}:{line}"
        self.problems.append(describe_problem(where, wrong, got=got, advice=advice))


def _scalar(text: str) -> str | int | float | bool | None:
    """Return what an unquoted scalar means."""
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else text
