"""Exported folders, and the fresh processes that load them with the real libraries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jina.export.export_settings import Export
from jina.export.exporting import export
from jina.export.merging import MergedWeights
from jina.export.source import Source

collect_ignore = [] if sys.version_info >= (3, 11) else ["test_mteb_encoder.py"]  # mteb needs it
ROOT = Path(__file__).parents[2]
OPERATORS = Path(__file__).parent / "operators"
ASIDE = Path(sys.prefix) / "torchvision"  # put there by the Makefile, see requirements-dev.txt
ROWS = ROOT / "data/demo/eval.jsonl"


@pytest.fixture(scope="session")
def settings(fixture_folder):
    """Return a function that makes export settings of the conformance checkpoint."""

    def make(output, format_, **changes):
        return Export(
            **{
                "model": fixture_folder,
                "format": format_,
                "output": output,
                "task": "retrieval",
                "dtype": "auto",
                "exact": False,
                "new_names": False,
                "rows": ROWS,
                "image_base_dir": None,
                "limit": 6,
                "minimum": None,
                "allow_loss": False,
                **changes,
            }
        )

    return make


@pytest.fixture(scope="session")
def source(fixture_folder):
    """The conformance checkpoint, opened."""
    return Source.open(fixture_folder)


@pytest.fixture(scope="session")
def weights(source):
    """Its retrieval adapter, merged in float32."""
    return MergedWeights(source.checkpoint, "retrieval", torch.float32)


@pytest.fixture(scope="session")
def fresh_environment():
    """Variables of a fresh process in which torchvision can be imported."""
    for places in ([], [ASIDE], [ASIDE, OPERATORS]):
        path = os.pathsep.join(map(str, [*places, ROOT]))
        if runs("import torchvision", PYTHONPATH=path):
            return {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    pytest.skip(f"torchvision can't be imported, nor from {ASIDE}; `make lint` puts it there")


def runs(code, **variables):
    """Tell whether code runs in a fresh process."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True)
    return done.returncode == 0


@pytest.fixture(scope="session")
def fresh_process(fresh_environment):
    """Return a function that runs Python code in a fresh process and returns what it printed."""

    def run(code, *arguments):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, **fresh_environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def exported(tmp_path_factory, settings, fresh_environment):
    """Return a function that exports in a format, once, and returns folder and parity report."""
    made = {}

    def make(format_, **changes):
        key = (format_, *sorted(changes.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("exports") / "model"
            with pytest.MonkeyPatch.context() as patch:
                for name, value in fresh_environment.items():
                    patch.setenv(name, value)
                made[key] = folder, export(settings(folder, format_, **changes))
        return made[key]

    return make
