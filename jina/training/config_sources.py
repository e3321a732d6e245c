"""Gather settings from files and `--set` flags, each with the place it came from.

    project_config.yaml ─┐
    local_paths.yaml     ├─► SettingSources ─► settings {"section.key": Setting}, problems
    --set section.key=v ─┘

Names that are no setting are refused here, with the nearest name; values are checked later.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jina.training.yaml_loading import (
    ConfigError,
    describe_problem,
    nearest_name,
    parse_yaml,
    show_value,
)

# local_paths.yaml is flat: these are the settings its keys stand for.
LOCAL_PATH_SETTINGS = {
    "base_model_path": "model.base_model_path",
    "image_base_dir": "data.image_base_dir",
    "output_dir": "training.output_dir",
}


@dataclass(frozen=True)
class Setting:
    """A value as the user gave it, the place to point at, and the layer it came from."""

    value: Any
    where: str
    origin: str


@dataclass
class SettingSources:
    """The layers of settings, read in order of precedence; a later one replaces an earlier one.

    Args:
        known: the names of the settings of each section.
    """

    known: Mapping[str, Collection[str]]
    settings: dict[str, Setting] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def read_project_file(self, path: Path) -> None:
        """Read the file with the sections.

        Raises:
            ConfigError: the file can't be read or parsed, so that its settings are unknown.
        """
        values, lines = self._read_mapping(path)
        for section, content in values.items():
            where = f"{path}:{lines[(section,)]}"
            if section not in self.known:
                self._refuse_section(where, section, content)
            elif isinstance(content, dict):
                for key, value in content.items():
                    where = f"{path}:{lines[(section, key)]}"
                    self._add(section, key, Setting(value, where, path.name))
            elif content is not None:  # null: all keys of the section are commented out
                self._refuse(where, section, "not a group of settings", content, "indent its keys")

    def read_local_paths(self, path: Path) -> None:
        """Read this machine's paths, a flat file that may be missing.

        Raises:
            ConfigError: the file is there but can't be read or parsed.
        """
        values, lines = self._read_mapping(path) if path.exists() else ({}, {})
        for key, value in values.items():
            where = f"{path}:{lines[(key,)]}"
            if key in LOCAL_PATH_SETTINGS:
                self.settings[LOCAL_PATH_SETTINGS[key]] = Setting(value, where, path.name)
            else:
                advice = self._advice(key, LOCAL_PATH_SETTINGS)
                self._refuse(where, key, "unknown key", value, advice)

    def read_overrides(self, overrides: Sequence[str]) -> None:
        """Read `section.key=value` flags, the value by the rules of the files."""
        for override in overrides:
            name, equals, text = override.partition("=")
            name = name.strip()
            section, _, key = name.partition(".")
            try:
                document = parse_yaml(text, source=f"--set {name}")
            except ConfigError as error:
                self.problems += error.problems
                continue
            self.problems += document.problems
            if not (equals and section and key):
                home = self._section_of(name)
                advice = f"write --set {f'{home}.{name}' if home else 'section.key'}=value"
                self._refuse("--set", name, "not section.key=value", document.value, advice)
            elif section in self.known:
                self._add(section, key, Setting(document.value, "--set", "--set"))
            else:
                self._refuse_section("--set", section, document.value)

    def _read_mapping(self, path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
        try:
            document = parse_yaml(path.read_text(encoding="utf-8"), source=str(path))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "bytes that are not UTF-8"
            advice = "give the path of a YAML file"
            problem = describe_problem(str(path), "can't be read", got=reason, advice=advice)
            raise ConfigError([problem]) from error
        self.problems += document.problems
        if isinstance(document.value, dict | None):
            return document.value or {}, document.lines
        got = show_value(document.value)
        advice = "write lines of key: value"
        raise ConfigError([describe_problem(str(path), "not a mapping", got=got, advice=advice)])

    def _add(self, section: str, key: str, setting: Setting) -> None:
        if key in self.known[section]:
            self.settings[f"{section}.{key}"] = setting
        else:
            advice = self._advice(key, self.known[section])
            self._refuse(setting.where, f"{section}.{key}", "unknown key", setting.value, advice)

    def _refuse_section(self, where: str, section: str, content: object) -> None:
        advice = self._advice(section, self.known)
        self._refuse(where, section, "unknown section", content, advice)

    def _advice(self, name: str, names: Collection[str]) -> str:
        """Say which of these names was meant, or where else the name belongs."""
        if home := self._section_of(name):
            return f"{name} belongs to {home}:"
        if near := nearest_name(name, names):
            return f"did you mean {near}?"
        if near := nearest_name(name, [key for keys in self.known.values() for key in keys]):
            return f"did you mean {near} in {self._section_of(near)}:?"
        return f"the names are {', '.join(names)}" if len(names) < 20 else "see project_config.yaml"

    def _section_of(self, key: str) -> str | None:
        return next((section for section, keys in self.known.items() if key in keys), None)

    def _refuse(self, where: str, name: str, wrong: str, value: object, advice: str) -> None:
        # A misspelt credential is still one: the advice names `hub_token` and so hides its value.
        got = show_value(value, about=f"{name} {advice}")
        self.problems.append(describe_problem(where, f"{name}: {wrong}", got=got, advice=advice))
