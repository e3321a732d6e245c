"""Vectors of contents: from the cache where it has them, from the model where it hasn't."""

from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from jina.data.records import Item
from jina.models.processing_jina_embeddings_v4 import prompt_for
from jina.retrieval.content import Content
from jina.retrieval.corpus import CorpusItem
from jina.retrieval.corpus_embedding import CorpusEmbedder, EmbeddingSettings
from jina.retrieval.embedding_cache import EmbeddingCache
from jina.retrieval.progress import Progress

ITEMS_AT_A_TIME = 512


class ContentEmbedder:
    """Embeds contents with one model, which is loaded when something is missing.

    Args:
        settings: Which model, and how it is used.
        cache: The folder for vectors and digests.

    Attributes:
        embedded: How many contents the model embedded.
        provenance: What tells with which model and adapter vectors were made.
    """

    def __init__(self, settings: EmbeddingSettings, cache: Path) -> None:
        self._settings, self._folder = settings, cache
        self._values = settings.resolved(cache)
        self.provenance: dict[str, Any] = {n: self._values[n] for n in ("model", "task", "dim")}
        self.embedded = 0

    def embed(self, contents: Sequence[Content], role: str) -> np.ndarray:
        """Return the vectors (N, D) of contents, in their order."""
        prompt = prompt_for(self._settings.task, role)
        made_by = {**self._values, "role": prompt}
        cache = EmbeddingCache(self._folder / "vectors", made_by, self._values["dim"])
        missing = {c.key: c for c in contents if c.key not in cache}
        if missing:
            progress, left = Progress(len(missing), f"{role} items"), iter(missing.items())
            while part := list(islice(left, ITEMS_AT_A_TIME)):
                items = [CorpusItem(_name(c), Item(c.text, c.image)) for _, c in part]
                batch, _ = self._embedder.embed(items, None, role=role)
                cache.add([key for key, _ in part], batch.single)
                progress.advance(len(part))
            self.embedded += len(missing)
        return cache.get([content.key for content in contents])

    @cached_property
    def _embedder(self) -> CorpusEmbedder:
        return CorpusEmbedder(self._settings)


def _name(content: Content) -> str:
    """Return what to call a content in messages."""
    return content.image or repr((content.text or "")[:40])
