"""The laboratory of fault tests: a model of one layer, eight rows, folders in memory."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.faults.laboratory import MEMORY, Recipe, build_laboratory, row_order


@pytest.fixture
def space():
    """A new folder, in memory where there is one for files."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory):
    """Forks runs on the smallest model there can be."""
    return build_laboratory(tmp_path_factory.mktemp("laboratory"))


@pytest.fixture(scope="session")
def uninterrupted(laboratory, tmp_path_factory):
    """Return a function from a recipe to the digests and the rows of its undisturbed run."""

    found = {}

    def run(recipe: Recipe):
        if recipe not in found:
            folder = tmp_path_factory.mktemp("whole")
            found[recipe] = laboratory.finish(recipe, folder), row_order(folder)
        return found[recipe]

    return run
