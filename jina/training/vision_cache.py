"""What the frozen vision tower makes of an image, kept: from then on its file isn't opened.

    pixels, image settings, weights of the tower, type of computation ─► key of a store
    image ─ known? ─► its features from the store; else tower ─► rounded to float16 ─► the store

With the cache on, features are the rounded ones from the first time on: a run takes the same course
whatever was in the cache when it began. An image whose features float16 can't hold is never kept.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments

from jina.data.item_lengths import vision_tokens
from jina.data.known_images import KnownImages
from jina.data.multimodal_dataset import MultimodalDataset
from jina.data.row_index import SIDES
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.processing_jina_embeddings_v4 import ImageSettings
from jina.training.feature_store import NUMBER_BYTES, DiskStore, FeatureStore, MemoryStore
from jina.training.run_inputs import RunInputs
from jina.training.training_config import JinaTrainingConfig

logger = logging.getLogger("smartembed")

# Beside the output folder, like the checks of the rows.
VISION_FOLDER = "cache/vision"
GIB = 2**30
FORMAT = 1  # of the files; raised when they or the way to the features change


class VisionCache:
    """Features of the images of some data sets, up to a limit.

    Args:
        store: where they are.
        limit: bytes that aren't exceeded.
        datasets: whose loaders are told which images are known.
    """

    def __init__(
        self, store: FeatureStore, *, limit: float, datasets: Sequence[MultimodalDataset]
    ) -> None:
        self.store, self.limit, self.datasets = store, limit, datasets
        self._tables = [KnownImages(dataset.index) for dataset in datasets]
        for dataset, table in zip(datasets, self._tables, strict=True):
            dataset.known = table
        self._is_closed = self._has_warned = False
        self.refresh()

    def refresh(self) -> None:
        """Learn what other processes have added."""
        try:
            found = list(self.store.refresh())
        except OSError as error:
            logger.warning("vision cache: can't be read; got %s; images are encoded", error)
            found = []
        for table in self._tables:
            table.mark(found)

    def get(self, identity: bytes, tokens: int) -> Tensor | None:
        """Return an image's features as (tokens, H) float16 on the CPU, if they are known."""
        features = self.store.get(identity, tokens)
        if features is None:
            for table in self._tables:
                table.mark([identity], known=False)
        return features

    def put(self, identity: bytes, features: Tensor) -> Tensor:
        """Keep an image's features.

        Args:
            identity: of the pixels.
            features: (tokens, H) as the tower gave them.

        Returns:
            What is to be used: float16 on their device, or unchanged where float16 can't hold them.
        """
        rounded = features.to(torch.float16)
        if not torch.isfinite(rounded).all():
            if not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "vision cache: features beyond float16; got %s; such an image is never kept "
                    "but encoded each time (said once)",
                    features.abs().max().item(),
                )
            return features
        if not self._is_closed:
            self._keep(identity, rounded.cpu())
        return rounded

    def _keep(self, identity: bytes, features: Tensor) -> None:
        size = features.numel() * NUMBER_BYTES
        if self.store.nbytes + size > self.limit:
            self._close(
                f"is full; got {self.store.nbytes / GIB:.3g} of {self.limit / GIB:.3g} GiB",
                "raise data.vision_cache_gib",
            )
            return
        try:
            self.store.put(identity, features)
        except OSError as error:
            self._close(f"can't be written; got {error}", "free some space")
            return
        for table in self._tables:
            table.mark([identity])

    def _close(self, what: str, remedy: str) -> None:
        self._is_closed = True
        logger.warning("vision cache: %s; the other images are encoded each time; %s", what, remedy)


class RefreshEachEpoch(TrainerCallback):
    """Lets each process know what the others have encoded in the epoch before."""

    def __init__(self, cache: VisionCache) -> None:
        self.cache = cache

    def on_epoch_begin(self, *_: object, **__: object) -> None:
        """Look for news before loaders start."""
        self.cache.refresh()


def open_vision_cache(
    config: JinaTrainingConfig,
    model: JinaEmbeddingsV4Model,
    inputs: RunInputs,
    args: TrainingArguments,
) -> VisionCache | None:
    """Open the cache that a run's settings ask for; say so if there can't be one.

    Args:
        config: of the run.
        model: whose tower computes.
        inputs: rows, and how their images become patches.
        args: made of the settings; they decide on mixed precision.
    """
    data, tower = config.data, model.model.visual
    datasets = [each for each in (inputs.train_set, inputs.eval_set) if each is not None]
    if data.vision_cache == "off":
        return None
    if obstacle := _obstacle(tower, datasets):
        logger.warning("data.vision_cache: off for this run: %s", obstacle)
        return None
    width = model.config.text_config.hidden_size
    store: FeatureStore = MemoryStore(width)
    if data.vision_cache == "disk":
        key = cache_key(tower, inputs.processor.image_settings, is_mixed=args.bf16)
        store = DiskStore(Path(config.training.output_dir).parent / VISION_FOLDER / key, width)
    return VisionCache(store, limit=data.vision_cache_gib * GIB, datasets=datasets)


def _obstacle(tower: nn.Module, datasets: Sequence[MultimodalDataset]) -> str:
    """Return what would make cached features wrong, or the cache useless."""
    trained = [name for name, p in tower.named_parameters() if p.requires_grad]
    if trained:
        return f"the vision tower is trained; got {len(trained)} trainable tensors; freeze them"
    if not all(dataset.is_deep for dataset in datasets):
        return (
            "images are known by their pixels only; got data.check_images: headers; "
            "set it to pixels"
        )
    if not any(dataset.summary.distinct_images for dataset in datasets):
        return "there is nothing to keep; got rows without images; set it to off"
    return ""


def cache_key(tower: nn.Module, settings: ImageSettings, *, is_mixed: bool) -> str:
    """Return a name that features share only if they were made in the same way.

    Args:
        tower: the vision tower with its merger.
        settings: how images become patches.
        is_mixed: whether it computes in bfloat16 though its weights are of another type.
    """
    way = {
        "format": FORMAT,
        "versions": [torch.__version__, transformers.__version__],
        "settings": asdict(settings),
        "tower": tower.config.to_dict(),
        "is_mixed": is_mixed,
    }
    digest = hashlib.blake2b(json.dumps(way, sort_keys=True, default=str).encode(), digest_size=16)
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def describe_cache(cache: VisionCache | None, settings: ImageSettings) -> Iterator[tuple[str, str]]:
    """Say where features are kept, how many are there, and how much room all would take."""
    if cache is None:
        yield "vision cache", "off"
        return
    tokens: dict[int, int] = {}
    known: set[int] = set()
    for dataset in cache.datasets:
        for items in (getattr(dataset.index, side) for side in SIDES):
            counts = vision_tokens(items, settings.token_count)
            tokens |= zip(items.images.tolist(), counts.tolist(), strict=True)
        known.update(dataset.known.images().tolist())
    where = getattr(cache.store, "folder", "in memory")
    needed = sum(tokens.values()) * cache.store.width * NUMBER_BYTES / GIB
    images = sum(count > 0 for count in tokens.values())
    yield (
        "vision cache",
        f"{where}: {len(known):,} of {images:,} images known; "
        f"all take {needed:.3g} of {cache.limit / GIB:g} GiB",
    )
