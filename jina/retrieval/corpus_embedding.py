"""From corpus items to vectors under given settings, with pictures that can't be decoded told.

EmbeddingSettings ─ resolved ─► what is kept with vectors: fingerprint, task, sizes
CorpusItem, … ─ embed_items ─► VectorBatch, and the items that were left out
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jina.data.image_loading import ImageError, load_image
from jina.models.configuration_jina_embeddings_v4 import read_config
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.retrieval.corpus import CorpusItem
from jina.retrieval.errors import RetrievalError
from jina.retrieval.fingerprint import model_fingerprint
from jina.retrieval.item_embedding import (
    MAX_TEXT_TOKENS,
    Embedder,
    EmbeddingError,
    EmbeddingItem,
)
from jina.retrieval.processes import Processes
from jina.retrieval.vector_files import VectorBatch


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings:
    """What decides the vectors of an item, besides the item.

    Attributes:
        model: Folder of the checkpoint.
        task: The adapter.
        role: `query` or `passage`.
        vectors: `single`, `multi` or both.
        dim: Size of single vectors, None for the full one.
        max_text_tokens: Longer texts are cut.
        max_pixels: Larger images shrink to it; None for what the checkpoint says.
    """

    model: Path
    task: str = "retrieval"
    role: str = "passage"
    vectors: tuple[str, ...] = ("single",)
    dim: int | None = None
    max_text_tokens: int = MAX_TEXT_TOKENS
    max_pixels: int | None = None

    def resolved(self, cache: Path | None) -> dict[str, Any]:
        """Return the settings as they are kept with vectors: the model by its fingerprint.

        Args:
            cache: See `model_fingerprint`.

        Raises:
            RetrievalError: If the model has no such size or task.
            CheckpointError: If the model's folder is no checkpoint.
        """
        fingerprint = model_fingerprint(self.model, cache)
        config = read_config(self.model)
        full = config.text_config.hidden_size
        dim = full if self.dim is None else self.dim
        sizes = sorted({*config.matryoshka_dims, full})
        problems = []
        if dim not in sizes:
            problems.append(f"--dim: is no size of this model's vectors; got {dim}; use {sizes}")
        if self.task not in config.task_names:
            problems.append(f"--task: unknown; got {self.task}; use {list(config.task_names)}")
        for name, size in (
            ("max-text-tokens", self.max_text_tokens),
            ("max-pixels", self.max_pixels),
        ):
            if size is not None and size < 1:
                problems.append(f"--{name}: is too small; got {size}; give 1 or more")
        if problems:
            raise RetrievalError(*problems)
        values = asdict(self) | {"model": fingerprint, "dim": dim, "vectors": list(self.vectors)}
        has_multi = "multi" in self.vectors
        return values | {"multi_dim": config.multi_vector_projector_dim if has_multi else None}


class CorpusEmbedder:
    """A loaded model with its settings.

    Args:
        settings: Which model, and how it is used.
        processes: Who shares the work; nobody by default.
    """

    def __init__(self, settings: EmbeddingSettings, processes: Processes | None = None) -> None:
        self.settings = settings
        model = JinaEmbeddingsV4Model.from_pretrained(settings.model)
        self.dim = settings.dim or model.config.text_config.hidden_size
        self._embedder = Embedder(
            model,
            task=settings.task,
            multi="multi" in settings.vectors,
            max_text_tokens=settings.max_text_tokens,
            processes=processes or Processes(),
        )
        processor = model.processor.with_image_settings(max_pixels=settings.max_pixels)
        self._embedder.processor = processor

    def embed(
        self,
        items: Sequence[CorpusItem],
        root: Path | None,
        *,
        role: str | None = None,
        skips_bad_images: bool = False,
    ) -> tuple[VectorBatch, list[str]]:
        """Embed some items.

        Args:
            items: At least one.
            root: The folder that image paths start from and stay in; None trusts any.
            role: Instead of the one in the settings.
            skips_bad_images: Leave out items whose picture can't be decoded.

        Returns:
            The vectors, and what is wrong with each item that was left out.

        Raises:
            RetrievalError: If an item can't be embedded and isn't to be left out.
        """
        bad: dict[str, str] = {}
        role = role or self.settings.role
        try:
            vectors = self._vectors(items, root, role)
        except EmbeddingError as error:
            bad = _bad_images(items, root)
            if not bad or not skips_bad_images:
                raise RetrievalError(*(bad.values() or [str(error)])) from error
            items = [item for item in items if item.id not in bad]
            vectors = self._vectors(items, root, role)
        single, multi = vectors
        batch = VectorBatch(
            ids=[item.id for item in items],
            texts=[item.item.text for item in items],
            images=[item.item.image for item in items],
            metadata=[item.metadata for item in items],
            single=single if "single" in self.settings.vectors else None,
            multi=multi if "multi" in self.settings.vectors else None,
        )
        return batch, list(bad.values())

    def _vectors(
        self, items: Sequence[CorpusItem], root: Path | None, role: str
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return single vectors (N, D) and multi vectors, none unless they are wanted."""
        parts = self._embedder.embed(
            [EmbeddingItem(i.item.text, i.item.image, root, i.id) for i in items],
            role,
        )
        single, multi = [np.empty((0, self.dim), np.float32)], []
        for part in parts:
            single.append(shortened(part.single, self.dim))
            multi += part.multi or []
        return np.concatenate(single), multi


def absolute_images(batch: VectorBatch, root: Path | str) -> VectorBatch:
    """Return a batch whose image paths are absolute."""
    images = [None if image is None else str(Path(root, image)) for image in batch.images]
    return replace(batch, images=images)


def shortened(single: np.ndarray, dim: int) -> np.ndarray:
    """Return the first `dim` numbers of single vectors (N, D), brought to length 1 again."""
    if dim == single.shape[1]:
        return single
    cut = single[:, :dim]
    return cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)


def _bad_images(items: Sequence[CorpusItem], root: Path | None) -> dict[str, str]:
    """Return what is wrong with each item whose picture can't be decoded, by id."""
    bad = {}
    for item in items:
        if item.item.image is not None:
            try:
                load_image(item.item.image, root=root)
            except ImageError as error:
                bad[item.id] = f"{item.id}: {error}"
    return bad
