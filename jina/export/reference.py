"""How the checkpoint itself embeds the items of a parity check: the adapter beside the base."""

from collections.abc import Sequence

import torch

from jina.export.parity_items import QUERY, ParityItem, Vectors
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.processing_jina_embeddings_v4 import MAX_TEXT_TOKENS
from jina.retrieval.item_embedding import Embedder, EmbeddingItem


def embed_items(
    model: JinaEmbeddingsV4Model, items: Sequence[ParityItem], task: str
) -> list[Vectors]:
    """Embed items, queries as queries and all others as passages; float32 vectors."""
    embedder = Embedder(model, task=task, multi=True, max_text_tokens=MAX_TEXT_TOKENS)
    found: dict[int, Vectors] = {}
    for role in ("query", "passage"):
        chosen = [i for i, item in enumerate(items) if (item.kind == QUERY) == (role == "query")]
        asked = [EmbeddingItem(text=items[i].text, image=items[i].image) for i in chosen]
        for batch in embedder.embed(asked, role):
            places = chosen[batch.start : batch.start + len(batch)]
            pairs = zip(
                map(torch.from_numpy, batch.single), map(torch.from_numpy, batch.multi), strict=True
            )
            found |= zip(places, (Vectors(*pair) for pair in pairs), strict=True)
    return [found[i] for i in range(len(items))]
