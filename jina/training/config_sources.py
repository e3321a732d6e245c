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

from .yaml_loading import describe_problem, nearest_name, parse_yaml, show_value

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
        """Read the file with the sections; it must exist."""
        values, lines = self._read_mapping(path)
        for section, content in values.items():
            where = f"{path}:{lines[(section,)]}"
            if section not in self.known:
                self._refuse_section(section, content, where)
            elif isinstance(content, dict):
                for key, value in content.items():
                    place = f"{path}:{lines[(section, key)]}"
                    self._add(section, key, Setting(value, place, path.name))
            elif content is not None:  # a section whose keys are all commented out is null
                self._refuse(where, section, "not a group of settings", content, "indent its keys")

    def read_local_paths(self, path: Path) -> None:
        """Read this machine's paths, a flat file that may be missing."""
        values, lines = self._read_mapping(path) if path.exists() else ({}, {})
        for key, value in values.items():
            setting = Setting(value, f"{path}:{lines[(key,)]}", path.name)
            if key in LOCAL_PATH_SETTINGS:
                self._add(*LOCAL_PATH_SETTINGS[key].split("."), setting)
            else:
                self._refuse_key(key, setting, LOCAL_PATH_SETTINGS)

    def read_overrides(self, overrides: Sequence[str]) -> None:
        """Read `section.key=value` flags, the value by the rules of the files."""
        for override in overrides:
            name, equals, text = override.partition("=")
            section, dot, key = name.strip().partition(".")
            document = parse_yaml(text, source=f"--set {name}")
            setting = Setting(document.value, "--set", "--set")
            self.problems += document.problems
            if document.problems:
                continue
            if not (equals and dot and section and key):
                advice = "write --set section.key=value"
                self._refuse("--set", name.strip(), "not an assignment", document.value, advice)
            elif section not in self.known:
                self._refuse_section(section, {key: setting.value}, "--set")
            else:
                self._add(section, key, setting)

    def _read_mapping(self, path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "bytes that are not UTF-8"
            advice = "give the path of a text file such as project_config.yaml"
            problem = describe_problem(str(path), "can't be read", got=reason, advice=advice)
            self.problems.append(problem)
            return {}, {}
        document = parse_yaml(text, source=str(path))
        self.problems += document.problems
        if document.value is None or isinstance(document.value, dict):
            return document.value or {}, document.lines
        self._refuse(str(path), "file", "not a mapping", document.value, "write key: value lines")
        return {}, {}

    def _add(self, section: str, key: str, setting: Setting) -> None:
        if key in self.known[section]:
            self.settings[f"{section}.{key}"] = setting
        else:
            self._refuse_key(key, setting, self.known[section], section)

    def _refuse_key(
        self, key: str, setting: Setting, names: Collection[str], section: str = ""
    ) -> None:
        home = self._section_of(key)
        near = nearest_name(key, names)
        if home is not None:
            advice = f"{key} belongs to {home}:"
        elif near is not None:
            advice = f"did you mean {near}?"
        else:
            advice = f"the keys are {', '.join(sorted(names))}"
        full_name = f"{section}.{key}" if section else key
        self._refuse(setting.where, full_name, "unknown key", setting.value, advice, near or "")

    def _refuse_section(self, section: str, content: object, where: str) -> None:
        home, near = self._section_of(section), nearest_name(section, self.known)
        if home is not None:
            advice = f"{section} belongs to {home}:"
        elif near is not None:
            advice = f"did you mean {near}?"
        else:
            advice = f"the sections are {', '.join(self.known)}"
        self._refuse(where, section, "unknown section", content, advice)

    def _section_of(self, key: str) -> str | None:
        return next((section for section, keys in self.known.items() if key in keys), None)

    def _refuse(
        self, where: str, name: str, wrong: str, value: object, advice: str, near: str = ""
    ) -> None:
        # A misspelt credential is still a credential: `near` hides the value of `hub_tokn`.
        got = show_value(value, key=f"{name} {near}")
        self.problems.append(describe_problem(where, f"{name}: {wrong}", got=got, advice=advice))
