"""What can go wrong around vectors, and the libraries that only some commands need."""

import importlib
from types import ModuleType

from jina.data.validation import DataError

REQUIREMENTS = {
    "faiss": "faiss-cpu>=1.12,<2",
    "pyarrow": "pyarrow>=18,<26",
    "qdrant_client": "qdrant-client>=1.16,<2",
}


class RetrievalError(DataError):
    """A corpus, a folder of vectors, an index or a server that can't be used as asked."""


def library(name: str, needed_for: str) -> ModuleType:
    """Import a library that is not among the requirements of training.

    Args:
        name: The module, such as `pyarrow.parquet`.
        needed_for: What the user wants it for, to start the message with.

    Raises:
        RetrievalError: If it isn't installed, with the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise RetrievalError(
            f"{needed_for}: needs {package}, which is not here; got {error}; "
            f"run pip install '{REQUIREMENTS[package]}'"
        ) from error
