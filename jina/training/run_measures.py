"""How a run measures its items: the base model's tokenizer and image sizes, the run's limits."""

from dataclasses import replace
from pathlib import Path

from jina.data.item_lengths import Measures
from jina.data.records import Item
from jina.models.checkpoint import CheckpointError
from jina.models.processing_jina_embeddings_v4 import (
    MAX_TEXT_TOKENS,
    ImageSettings,
    JinaEmbeddingsV4Processor,
)
from jina.training.config_sections import DataSection

# What the official checkpoint's preprocessor_config.json says; colours don't matter for lengths.
OFFICIAL_IMAGES = ImageSettings(3136, 602_112, image_mean=(0, 0, 0), image_std=(1, 1, 1))


def processor_of(data: DataSection, base_model_path: Path) -> JinaEmbeddingsV4Processor:
    """Return a checkpoint's processor with the image settings of a run.

    Raises:
        CheckpointError: If it has none that is sound.
    """
    try:
        processor = JinaEmbeddingsV4Processor.from_pretrained(base_model_path)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return processor.with_image_settings(**_image_changes(data))


def measures_of(data: DataSection, processor: JinaEmbeddingsV4Processor, origin: str) -> Measures:
    """Return what a run measures with.

    Args:
        data: The limits.
        processor: With the image settings of the run.
        origin: Whose processor it is, for a report.
    """

    def count(item: Item, task: str, prompt_name: str) -> int:
        """Return the tokens of an item's text, with the prompt of one that has no image."""
        text = item.text or ""
        if item.image is not None:
            return len(processor.text_sequence(text))
        return len(processor.sequence(text, None, task=task, prompt_name=prompt_name))

    return replace(
        _measures(data, processor.image_settings, origin),
        text_tokens=count,
        image_prompt_tokens=processor.image_prompt_tokens,
    )


def official_measures(data: DataSection) -> Measures:
    """Return what a run on the official checkpoint measures with, but for its tokenizer."""
    changes = {name: value for name, value in _image_changes(data).items() if value is not None}
    images = replace(OFFICIAL_IMAGES, **changes)
    return _measures(data, images, "the official checkpoint's image sizes")


def _image_changes(data: DataSection) -> dict[str, int | None]:
    """Return the image settings of a run; None for what the checkpoint says."""
    changes = {"min_pixels": data.min_pixels, "max_pixels": data.max_pixels}
    return changes | {"square": data.image_size}


def _measures(data: DataSection, images: ImageSettings, origin: str) -> Measures:
    """Return the limits, without a tokenizer."""
    most = images.max_pixels if images.square is None else images.square**2
    return Measures(
        vision_tokens=images.token_count,
        max_vision_tokens=most // (images.patch_size * images.merge_size) ** 2,
        min_pixels=None if images.square else images.min_pixels,
        max_pixels=None if images.square else images.max_pixels,
        max_text_tokens=data.max_text_tokens,
        text_tokens=None,
        origin=origin,
        max_tokens=MAX_TEXT_TOKENS,
    )
