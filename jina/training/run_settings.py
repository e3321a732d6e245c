"""The settings of a run as they are told: in its folder, on its model card, to its trackers."""

from typing import Any

import yaml

from jina.training.config_sections import OUR_TRAINING_DEFAULTS, OUR_TRAINING_FIELDS
from jina.training.training_config import JinaTrainingConfig
from jina.training.yaml_loading import looks_secret


def resolved_settings(config: JinaTrainingConfig) -> dict[str, dict[str, Any]]:
    """Return every setting that isn't left to transformers, by section.

    Secrets are refused before a run starts; a key that could hold one is left out here, too.
    """
    sections = {
        name: {key: value for key, value in section.items() if not looks_secret(key, value)}
        for name, section in config.model_dump(mode="json").items()
    }
    named = {*OUR_TRAINING_DEFAULTS, *OUR_TRAINING_FIELDS}
    changed = {change.key for change in config.changed_settings()}
    sections["training"] = {
        key: value
        for key, value in sections["training"].items()
        if key in named or f"training.{key}" in changed
    }
    return sections


def resolved_yaml(config: JinaTrainingConfig) -> str:
    """Return the settings as YAML that `train.py` takes."""
    return yaml.safe_dump(resolved_settings(config), sort_keys=False, allow_unicode=True)
