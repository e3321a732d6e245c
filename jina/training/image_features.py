"""What the vision tower makes of a batch's images, each of which it sees once at most.

images with patches ─ known? ─► cache; else ─► tower ─► cache
images without ─ the same picture elsewhere in the batch, the cache, or decoded after all
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from jina.data.multimodal_dataset import DataError, MultimodalDataset
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.packing import PackedBatch, TokenSequence, pack
from jina.models.processing_jina_embeddings_v4 import JinaEmbeddingsV4Processor
from jina.training.vision_cache import VisionCache

Key = bytes | int  # identity of an image; of one without, the number of its sequence


def image_features(
    model: JinaEmbeddingsV4Model,
    batch: PackedBatch,
    *,
    max_tokens: int | None = None,
    cache: VisionCache | None = None,
    reload: Callable[[bytes], TokenSequence],
) -> tuple[dict[int, Tensor], int]:
    """Find the features of each sequence's image, those of equal images once.

    Args:
        model: whose frozen tower encodes what isn't known.
        batch: with patches of each distinct image, but for those that the cache knew.
        max_tokens: vision tokens of one pass through the tower, but for a single larger image.
        cache: what is known, and learns what is new.
        reload: makes a sequence, with patches, of an image that neither batch nor cache has.

    Returns:
        (vision tokens, H) by the number of the sequence, equal images with the same tensor; and how
        many vision tokens the tower has made.
    """
    keys: dict[int, Key] = {
        item: batch.image_identities[item] or item
        for item, tokens in enumerate(batch.vision_tokens)
        if tokens
    }
    found = _known(keys, batch, cache)
    sources = {keys[i]: i for i, count in enumerate(batch.patch_counts) if count}
    missing = dict.fromkeys(key for key in keys.values() if key not in found)
    here = [sources[key] for key in missing if key in sources]
    device = batch.input_ids.device
    made: dict[Key, Tensor] = {}
    for part in (
        _with_patches_of(batch, sorted(here)),
        *(pack([reload(key)]).to(device) for key in missing if key not in sources),
    ):
        made |= _encode(model, part, max_tokens, cache)
    found |= made
    return {item: found[key] for item, key in keys.items()}, sum(map(len, made.values()))


def reload_image(
    identity: bytes, datasets: Iterable[MultimodalDataset], processor: JinaEmbeddingsV4Processor
) -> TokenSequence:
    """Decode an image of some data set again.

    Raises:
        DataError: if its file has changed.
    """
    for dataset in datasets:
        image = dataset.reload_image(identity)
        if image is not None:
            return processor.image_sequence(image, identity=identity)
    raise DataError(f"image {identity.hex()}: is of no row; leave the rows alone during a run")


def _known(
    keys: dict[int, Key], batch: PackedBatch, cache: VisionCache | None
) -> dict[Key, Tensor]:
    """Look images up in the cache; what it knows goes to the device in one piece."""
    on_host: dict[Key, Tensor] = {}
    for item, key in keys.items():
        if cache is not None and isinstance(key, bytes) and key not in on_host:
            features = cache.get(key, batch.vision_tokens[item])
            if features is not None:
                on_host[key] = features
    if not on_host:
        return {}
    moved = torch.cat([*on_host.values()]).to(batch.input_ids.device)
    return dict(zip(on_host, moved.split([len(f) for f in on_host.values()]), strict=True))


def _with_patches_of(batch: PackedBatch, items: list[int]) -> PackedBatch:
    """Return a batch with the patches of some of its sequences only."""
    if not items:
        return replace(batch, patches=None)
    having = [item for item, count in enumerate(batch.patch_counts) if count]
    counts = [batch.patch_counts[item] for item in having]
    patches = dict(zip(having, batch.patches.split(counts), strict=True))
    grids = dict(zip(having, batch.image_grid_thw, strict=True))
    is_all = items == having
    return replace(
        batch,
        patches=batch.patches if is_all else torch.cat([patches[item] for item in items]),
        image_grid_thw=torch.stack([grids[item] for item in items]),
        patch_counts=[c if i in items else 0 for i, c in enumerate(batch.patch_counts)],
    )


def _encode(
    model: JinaEmbeddingsV4Model,
    batch: PackedBatch,
    max_tokens: int | None,
    cache: VisionCache | None,
) -> dict[Key, Tensor]:
    """Run the images that have patches through the tower."""
    if batch.patches is None:
        return {}
    items = [item for item, count in enumerate(batch.patch_counts) if count]
    features = model.with_vision_features(batch, max_tokens=max_tokens).vision_features
    found: dict[Key, Tensor] = {}
    counts = [batch.vision_tokens[item] for item in items]
    for item, own in zip(items, features.split(counts), strict=True):
        identity = batch.image_identities[item]
        found[identity or item] = cache.put(identity, own) if cache and identity else own
    return found
