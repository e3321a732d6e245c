"""What a run reads, checked in one go before the model is loaded: base model, rows, images."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import is_flash_attn_2_available

from jina.data.multimodal_dataset import DataError, MultimodalDataset
from jina.models.checkpoint import Checkpoint, CheckpointError
from jina.training.training_config import ConfigError, JinaTrainingConfig


@dataclass(frozen=True)
class RunInputs:
    """Inputs that passed all checks.

    Attributes:
        base_model_path: a folder in the official layout.
        train_set: rows to learn from.
        eval_set: held-out rows, `None` without evaluation.
    """

    base_model_path: Path
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
    base_model_path, train_set, eval_set = Path(), None, None
    with _collect(problems):
        base_model_path = Checkpoint.open(config.require_base_model_path()).path
    with _collect(problems):
        train_set = _dataset(config, config.data.train_files)
    with _collect(problems):
        eval_set = _dataset(config, config.data.eval_files) if config.data.eval_files else None
    args = config.training_arguments(bf16=False)
    problems += _too_few_rows(args, train_set, eval_set)
    problems += _cannot_run(args, resume)
    attention = config.model.attn_implementation
    if attention == "flash_attention_2" and not is_flash_attn_2_available():
        problems.append(
            f"model.attn_implementation: flash-attn is not usable here; got {attention}; "
            "write auto, or install requirements-gpu.txt on a machine with a GPU"
        )
    if problems or train_set is None:
        raise ConfigError(problems)
    return RunInputs(base_model_path, train_set, eval_set)


@contextmanager
def _collect(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except (ConfigError, DataError) as error:
        problems += error.problems
    except CheckpointError as error:
        problems.append(str(error))


def _dataset(config: JinaTrainingConfig, files: list[Path]) -> MultimodalDataset:
    base_dir = config.data.image_base_dir
    return MultimodalDataset(files, image_base_dir=base_dir, task=config.lora.task)


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
