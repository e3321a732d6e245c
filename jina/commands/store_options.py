"""Options that `index` and `search` share: which index, and where it is."""

import argparse
import os
from functools import cached_property
from pathlib import Path

from jina.retrieval.errors import RetrievalError
from jina.retrieval.index_folder import MANIFEST
from jina.retrieval.qdrant_store import QdrantStore, connect
from jina.retrieval.stores import IndexSettings, Store
from jina.retrieval.vector_index import VectorIndex


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """Add what names an index."""
    parser.add_argument("index", metavar="INDEX", help="a folder, or a collection's name")
    parser.add_argument(
        "--backend",
        choices=("folder", "qdrant"),
        default="folder",
        help="what holds the index (default: folder)",
    )
    parser.add_argument(
        "--url", metavar="URL", help="of the Qdrant server; its key is taken from QDRANT_API_KEY"
    )


class Place:
    """Where an index is or will be, as the options say.

    Raises:
        RetrievalError: If the options contradict each other.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._name, self._url = options.index, options.url
        self._is_folder = options.backend == "folder"
        if self._is_folder and self._url is not None:
            advice = "add --backend qdrant, or leave it out"
            raise RetrievalError(f"--url: a folder has none; got {self._url}; {advice}")
        if not self._is_folder and self._url is None:
            advice = "give such as http://localhost:6333"
            raise RetrievalError(f"--url: is missing; got none for --backend qdrant; {advice}")

    def exists(self) -> bool:
        """Tell whether the index is there."""
        if self._is_folder:
            return (Path(self._name) / MANIFEST).is_file()
        return QdrantStore.exists(self._client, self._name)

    def open(self) -> Store:
        """Open the index that is there."""
        if self._is_folder:
            return VectorIndex(Path(self._name))
        return QdrantStore(self._client, self._name)

    def make(self, settings: IndexSettings) -> Store:
        """Make the index, or open it if it has the given settings."""
        if self._is_folder:
            return VectorIndex.create(Path(self._name), settings)
        return QdrantStore.create(self._client, self._name, settings)

    @cached_property
    def _client(self) -> object:
        """The connection; there is one, since a local folder can't be opened twice."""
        return connect(self._url, os.environ.get("QDRANT_API_KEY"))


def chosen_model(options: argparse.Namespace, settings: IndexSettings) -> Path:
    """Return the model that was named, or else the one that the index remembers."""
    return options.model if options.model is not None else Path(settings.model_folder)
