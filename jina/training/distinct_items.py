"""Equal items of a batch as one: the decoder runs once for each content, not for each item.

    contents of N items ─► the M distinct ones ─ embed ─► M vectors ─ take(places) ─► N vectors

Two items are one if the model sees no difference: the same tokens, prompt included, pooled the same
way, and the same pixels. So a text is shared by both sides only where they have the same prompt, an
image always. Gradients of repeats add up in `Embeddings.take`. With dropout, repeats share a mask;
without, nothing changes.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from jina.models.packing import PackedBatch


def distinct_items(contents: Sequence[bytes]) -> tuple[list[int], list[int]]:
    """Find equal items.

    Args:
        contents: of N items; one without a content is equal to none.

    Returns:
        The M items that come first with their content, and for each of the N its place among them.
    """
    kept: list[int] = []
    place_of: dict[bytes | int, int] = {}
    places = []
    for item, content in enumerate(contents):
        place = place_of.setdefault(content or item, len(kept))
        if place == len(kept):
            kept.append(item)
        places.append(place)
    return kept, places


def select(batch: PackedBatch, items: Sequence[int], features: Mapping[int, Tensor]) -> PackedBatch:
    """Return some sequences of a batch, with vision features in the place of patches.

    Args:
        batch: of N sequences.
        items: numbers of the sequences.
        features: (vision tokens, H) of each of them that has an image.
    """
    input_ids = batch.input_ids.split(batch.lengths)
    position_ids = batch.position_ids.split(batch.lengths, dim=1)
    own = [features[item] for item in items if item in features]
    return PackedBatch(
        input_ids=torch.cat([input_ids[item] for item in items]),
        position_ids=torch.cat([position_ids[item] for item in items], dim=1),
        lengths=[batch.lengths[item] for item in items],
        pooled=[batch.pooled[item] for item in items],
        vision_tokens=[batch.vision_tokens[item] for item in items],
        patch_counts=[0] * len(items),
        image_identities=[batch.image_identities[item] for item in items],
        contents=[batch.contents[item] for item in items],
        vision_features=torch.cat(own) if own else None,
    )
