"""How the checkpoint itself embeds the items of a parity check: the adapter beside the base."""

from collections.abc import Sequence

import torch

from jina.export.parity_items import PASSAGE, QUERY, ParityItem, Vectors
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.packing import pack


@torch.no_grad()
def embed_items(
    model: JinaEmbeddingsV4Model, items: Sequence[ParityItem], task: str
) -> list[Vectors]:
    """Embed items with the checkpoint's own model, adapter unmerged, float32 vectors."""
    found = []
    for item in items:
        prompt = item.kind if item.kind in (QUERY, PASSAGE) else PASSAGE
        sequence = model.processor.sequence(item.text, item.image, task=task, prompt_name=prompt)
        batch = pack([sequence]).to(model.device)
        states = model.hidden_states(batch, task)
        single, multi = model.single_vectors(states, batch)[0], model.multi_vectors(states)
        found.append(Vectors(single.float().cpu(), multi.float().cpu()))
    return found
