"""The shape of the project: imports point one way, and nothing dangerous is used."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = {
    **{"jina.data": 0, "jina.models": 1},
    **dict.fromkeys(("jina.training", "jina.retrieval", "jina.export"), 2),
    **dict.fromkeys(("jina.commands", "train"), 3),
    "jina.__main__": 4,
}
LEAVES = ["jina/data/records.py", "jina/data/image_loading.py", "jina/models/losses.py"]
MODULES = sorted([ROOT / "train.py", *ROOT.glob("jina/**/*.py")])


def imports_of(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def level_of(module):
    return next((level for name, level in LEVELS.items() if module.startswith(name)), None)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_from_training_to_models_to_data(file):
    own = level_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
    upward = [name for name in imports_of(file) if (level_of(name) or 0) > (own or 0)]
    assert own is None or not upward


def test_the_walk_sees_an_upward_import():
    assert level_of("jina.training.jina_trainer") > level_of("jina.models.packing")
    assert "jina.models.packing" in imports_of(ROOT / "jina/training/jina_trainer.py")


@pytest.mark.parametrize("file", LEAVES)
def test_leaves_import_no_project_module(file):
    assert not [name for name in imports_of(ROOT / file) if name.startswith("jina")]


# An export made `--exact`: reloaded to be checked, and explained in its card.
ALLOWED = [
    (ROOT / "jina/export/exporting.py", "trust_remote_code"),
    (ROOT / "jina/export/reload_worker.py", "trust_remote_code"),
]


def test_neither_pickle_nor_remote_code_nor_a_hub_is_ever_asked_for():
    forbidden = (
        "import pickle",
        "torch.load",
        "trust_remote_code",
        "snapshot_download",
        "requests",
    )
    found = [
        (file, word) for file in MODULES for word in forbidden if word in file.read_text("utf-8")
    ]
    assert sorted(found) == ALLOWED
