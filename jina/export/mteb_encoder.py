"""A local checkpoint as a model of mteb 2: texts, images and both, single and multi vectors.

    mteb's batches ─ EmbeddingItem, … ─ Embedder ─► (N, H), or N times (L, D) ─► mteb's own metrics

Nothing is exported or downloaded for it. mteb keeps results by name and revision, so the revision
is a hash of the adapters and of the settings: another training never gets the results of this one.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.types import PromptType
from torch import Tensor

from jina.export.maxsim import maxsim_scores
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.retrieval.item_embedding import Embedder, EmbeddingItem

VECTORS = {"single": ("cosine", "dense"), "multi": ("MaxSim", "late-interaction")}


class JinaMtebModel(AbsEncoder):
    """A checkpoint behind mteb's encoder interface.

    Args:
        folder: a checkpoint in the official layout.
        vectors: `single`, compared by cosine, or `multi`, compared by MaxSim.
        task: the adapter that embeds everything.
        truncate_dim: length of a single vector, one of the Matryoshka dimensions.
        max_pixels: shrink larger images to this area; the checkpoint's own limit if `None`.
        max_text_tokens: longer texts are cut.
        tokens_per_batch: of one forward pass; it takes the place of mteb's batch size; `None`
            for what suits the device.
        dtype: of the base weights.
        device: the GPU if there is one.

    Raises:
        CheckpointError: the folder isn't a sound checkpoint.
        ValueError: an unknown task, kind of vectors or dimension.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        vectors: str = "single",
        task: str = "retrieval",
        truncate_dim: int | None = None,
        max_pixels: int | None = None,
        max_text_tokens: int = 8192,
        tokens_per_batch: int | None = None,
        dtype: str = "auto",
        device: str | None = None,
    ) -> None:
        if vectors not in VECTORS:
            raise ValueError(f"vectors: unknown; got {vectors!r}; use {' or '.join(VECTORS)}")
        self.model = JinaEmbeddingsV4Model.from_pretrained(folder, dtype=dtype, device=device)
        dims = list(self.model.config.matryoshka_dims)
        if truncate_dim is not None and (truncate_dim not in dims or vectors == "multi"):
            raise ValueError(
                f"truncate_dim: can't cut {vectors} vectors so; got {truncate_dim}; "
                f"cut single vectors to one of {dims}"
            )
        self.model.processor = self.model.processor.with_image_settings(max_pixels=max_pixels)
        self.is_multi = vectors == "multi"
        self.truncate_dim = truncate_dim
        self.embedder = Embedder(
            self.model,
            task=task,
            multi=self.is_multi,
            max_text_tokens=max_text_tokens,
            tokens_per_batch=tokens_per_batch,
        )
        settings = {
            "vectors": vectors,
            "task": task,
            "truncate_dim": truncate_dim,
            "max_pixels": max_pixels,
            "max_text_tokens": max_text_tokens,
        }
        self.mteb_model_meta = self._meta(settings)

    def encode(
        self, inputs: Iterable[dict[str, Any]], *, prompt_type: PromptType | None = None, **_: Any
    ) -> np.ndarray | list[Tensor]:
        """Embed what mteb hands over.

        Args:
            inputs: mteb's batches, with `text`, `image` or both.
            prompt_type: `document` is a passage, everything else a query.

        Returns:
            (N, H) of length 1, or N tensors (L, D) with rows of length 1; all float32.
        """
        role = "passage" if prompt_type == PromptType.document else "query"
        shards = list(self.embedder.embed(_items(inputs), role))
        if self.is_multi:
            return [torch.from_numpy(vectors) for shard in shards for vectors in shard.multi]
        single = np.concatenate([shard.single for shard in shards])[:, : self.truncate_dim]
        return single / np.linalg.norm(single, axis=1, keepdims=True)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Score queries against documents: (Q, P) float32, computed in float64."""
        if self.is_multi:
            return maxsim_scores(self._tokens(embeddings1), self._tokens(embeddings2)).cpu()
        queries, documents = (
            torch.as_tensor(vectors).to(self.model.device, torch.float64)
            for vectors in (embeddings1, embeddings2)
        )
        return (queries @ documents.T).float().cpu()

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Score each query against the document at its place: (Q,) float32."""
        pairs = zip(embeddings1, embeddings2, strict=True)
        return torch.stack(
            [
                self.similarity(torch.as_tensor(a)[None], torch.as_tensor(b)[None])[0, 0]
                for a, b in pairs
            ]
        )

    def _tokens(self, vectors: Any) -> list[Tensor]:
        return [torch.as_tensor(tokens).to(self.model.device) for tokens in vectors]

    def _meta(self, settings: dict[str, Any]) -> ModelMeta:
        checkpoint = self.model.checkpoint
        digest = hashlib.sha256(repr(settings).encode())
        with checkpoint.adapter_file.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        similarity, kind = VECTORS[settings["vectors"]]
        return ModelMeta.create_empty(
            {
                "name": f"smartembed/{checkpoint.path.resolve().name}",
                "revision": digest.hexdigest()[:16],
                "max_tokens": settings["max_text_tokens"],
                "embed_dim": settings["truncate_dim"],
                "framework": ["PyTorch"],
                "similarity_fn_name": similarity,
                "model_type": [kind],
                "modalities": ["text", "image"],
                "use_instructions": True,
                "adapted_from": "jinaai/jina-embeddings-v4",
                "experiment_kwargs": settings,
            }
        )


def _items(batches: Iterable[dict[str, Sequence[Any]]]) -> Iterator[EmbeddingItem]:
    """Yield the items of mteb's batches; beside an image, an empty text is none."""
    number = 0
    for batch in batches:
        size = len(next(iter(batch.values())))
        texts, images = (batch.get(name, [None] * size) for name in ("text", "image"))
        for text, image in zip(texts, images, strict=True):
            shown = text if image is None or text else None
            yield EmbeddingItem(text=shown, image=image, where=f"mteb's item {number}")
            number += 1
