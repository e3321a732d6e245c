"""What memory, saves and long runs are measured on: random weights that learn mixed rows.

build_tiny_checkpoint ─► FOLDER/model ─┐
random_weights.yaml ───────────────────┴─ arguments of `train.py`, which writes FOLDER/out
"""

import json
from collections.abc import Mapping
from pathlib import Path

from jina.models.tiny_checkpoint import build_tiny_checkpoint

CONFIG = Path(__file__).with_suffix(".yaml")
DEMO = Path(__file__).parents[1] / "data/demo"


def demo_rows() -> list[dict]:
    """Return the demo's mixed training rows."""
    lines = (DEMO / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def build_model(folder: Path) -> Path:
    """Write the checkpoint into a folder and return where it lies."""
    build_tiny_checkpoint(folder / "model", [row["positive"] for row in demo_rows()], seed=0)
    return folder / "model"


def arguments(settings: Mapping[str, object], folder: Path) -> list[str]:
    """Return the arguments of `train.py` that train `build_model`'s checkpoint in its folder."""
    settings = {
        "model.base_model_path": folder / "model",
        "training.output_dir": folder / "out",
        **settings,
    }
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return ["--config", str(CONFIG), *sets]
