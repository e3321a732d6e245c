"""What a run reads, checked in one go before the model is loaded: base model, rows, images."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import is_flash_attn_2_available

from jina.data.multimodal_dataset import DataError, DataPolicy, MultimodalDataset
from jina.data.reporting.length_figures import vision_tokens
from jina.models.checkpoint import Checkpoint, CheckpointError
from jina.models.processing_jina_embeddings_v4 import JinaEmbeddingsV4Processor
from jina.training.training_config import ConfigError, JinaTrainingConfig

# Beside the output folder: what the check of the rows found, so that the next start need not.
CHECKS_FOLDER = "cache/checks"


@dataclass(frozen=True)
class RunInputs:
    """Inputs that passed all checks.

    Attributes:
        base_model_path: a folder in the official layout.
        train_set: rows to learn from.
        eval_set: held-out rows, `None` without evaluation.
        processor: the base model's, with the image settings of the configuration.
    """

    base_model_path: Path
    processor: JinaEmbeddingsV4Processor
    train_set: MultimodalDataset
    eval_set: MultimodalDataset | None


def check_inputs(config: JinaTrainingConfig, *, resume: bool) -> RunInputs:
    """Open everything the configuration names.

    Args:
        config: of the run.
        resume: whether the run goes on from a checkpoint.

    Raises:
        ConfigError: with every problem of settings, base model, rows and images.
    """
    problems: list[str] = []
    base_model_path, processor, train_set, eval_set = Path(), None, None, None
    with _collect(problems):
        base_model_path = Checkpoint.open(config.require_base_model_path()).path
        processor = _processor(config, base_model_path)
    with _collect(problems):
        train_set = _dataset(config, config.data.train_files)
    with _collect(problems):
        eval_set = _dataset(config, config.data.eval_files) if config.data.eval_files else None
    args = config.training_arguments(bf16=False)
    for dataset in (train_set, eval_set):
        if dataset is not None and processor is not None:
            problems += _texts_without_room(dataset, processor, config.data.max_text_tokens)
    problems += _too_few_rows(args, train_set, eval_set)
    problems += _cannot_run(args, resume)
    attention = config.model.attn_implementation
    if attention == "flash_attention_2" and not is_flash_attn_2_available():
        problems.append(
            f"model.attn_implementation: flash-attn is not usable here; got {attention}; "
            "write auto, or install requirements-gpu.txt on a machine with a GPU"
        )
    if problems or train_set is None or processor is None:
        raise ConfigError(problems)
    return RunInputs(base_model_path, processor, train_set, eval_set)


@contextmanager
def _collect(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except (ConfigError, DataError) as error:
        problems += error.problems
    except CheckpointError as error:
        problems.append(str(error))


def _processor(config: JinaTrainingConfig, base_model_path: Path) -> JinaEmbeddingsV4Processor:
    try:
        processor = JinaEmbeddingsV4Processor.from_pretrained(base_model_path)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    data = config.data
    return processor.with_image_settings(
        min_pixels=data.min_pixels, max_pixels=data.max_pixels, square=data.image_size
    )


def _texts_without_room(
    dataset: MultimodalDataset, processor: JinaEmbeddingsV4Processor, limit: int
) -> Iterator[str]:
    """Find items of image and text whose image alone fills the limit: it is never cut."""
    index, room = dataset.index, limit - processor.image_prompt_tokens
    for name in ("queries", "positives", "negatives"):
        side = getattr(index, name)
        tokens = vision_tokens(side.widths, side.heights, processor.image_settings.token_count)
        has_both = (side.text_bytes > 0) & (side.widths > 0)
        for item in np.flatnonzero(has_both & (tokens >= room)):
            row = side.rows[item]
            where = f"{dataset.files[index.files[row]]}:{index.lines[row]}"
            yield (
                f"{where}: an image leaves the text beside it no room; got {tokens[item]} vision "
                f"tokens for data.max_text_tokens {limit}; raise that or lower data.max_pixels"
            )


def _dataset(config: JinaTrainingConfig, files: list[Path]) -> MultimodalDataset:
    data = config.data
    policy = DataPolicy(
        is_deep=data.check_images == "pixels",
        skips_bad_rows=data.on_bad_sample == "skip",
        max_bad_fraction=data.max_bad_fraction,
        cache_folder=Path(config.training.output_dir).parent / CHECKS_FOLDER,
    )
    base_dir, task = data.image_base_dir, config.lora.task
    return MultimodalDataset(files, image_base_dir=base_dir, task=task, policy=policy)


def _too_few_rows(
    args: TrainingArguments,
    train_set: MultimodalDataset | None,
    eval_set: MultimodalDataset | None,
) -> Iterator[str]:
    """Find sets that don't fill one batch: only full batches are used."""
    for key, dataset, name, size in (
        ("train", train_set, "per_device_train_batch_size", args.train_batch_size),
        ("eval", eval_set, "per_device_eval_batch_size", args.eval_batch_size),
    ):
        if dataset is not None and len(dataset) < size:
            yield (
                f"data.{key}: fewer rows than training.{name}; got {len(dataset)} for {size}; "
                f"lower {name}"
            )


def _cannot_run(args: TrainingArguments, resume: bool) -> Iterator[str]:
    output_dir = Path(args.output_dir)
    if resume and not (output_dir.is_dir() and get_last_checkpoint(str(output_dir))):
        yield f"--resume: no checkpoint to go on from; got {output_dir}; leave --resume out"
    if args.world_size > 1:
        yield (
            f"launch: this release trains in one process; got {args.world_size}; "
            "use `python train.py`"
        )
