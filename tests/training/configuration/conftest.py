"""A project with the demo's files, and its configuration, given as text."""

from pathlib import Path

import pytest

from jina.training.training_config import ConfigError, load_config

DEMO_FILES = ("data/demo/train.jsonl", "data/demo/eval.jsonl")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with the demo files, which is also the working directory."""
    for file in DEMO_FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def load(project):
    """Load a configuration given as text, in the project."""

    def load_text(text="", overrides=()):
        Path("project_config.yaml").write_text(text, encoding="utf-8")
        return load_config("project_config.yaml", overrides)

    return load_text


@pytest.fixture
def problems(load):
    """The problems of a configuration that must be refused."""

    def problems_of(text="", overrides=()):
        with pytest.raises(ConfigError) as caught:
            load(text, overrides)
        return caught.value.problems

    return problems_of
