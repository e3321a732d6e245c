"""What a run reads, checked in one go before the model is loaded: base model, rows, images."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transformers import TrainingArguments
from transformers.utils import is_flash_attn_2_available

from jina.data.item_lengths import Measures
from jina.data.multimodal_dataset import DataError, DataPolicy, MultimodalDataset
from jina.models.checkpoint import Checkpoint, CheckpointError
from jina.models.configuration_jina_embeddings_v4 import read_config
from jina.models.processing_jina_embeddings_v4 import JinaEmbeddingsV4Processor
from jina.training.hub import HubPush
from jina.training.output_folder import StartOptions, start_refusals
from jina.training.run_measures import measures_of, processor_of
from jina.training.training_config import ConfigError, JinaTrainingConfig

# Beside the output folder: what the check of the rows found, so that the next start need not.
CHECKS_FOLDER = "cache/checks"


@dataclass(frozen=True)
class RunInputs:
    """Inputs that passed all checks.

    Attributes:
        base_model_path: a folder in the official layout.
        processor: the base model's, with the image settings of the configuration.
        train_set: rows to learn from.
        eval_set: held-out rows, `None` without evaluation.
        push: where the finished model goes beside the output folder, `None` for nowhere.
    """

    base_model_path: Path
    processor: JinaEmbeddingsV4Processor
    train_set: MultimodalDataset
    eval_set: MultimodalDataset | None
    push: HubPush | None = None

    @property
    def datasets(self) -> dict[str, MultimodalDataset | None]:
        """The rows under the key that names their files."""
        return {"data.train": self.train_set, "data.eval": self.eval_set}


def check_inputs(config: JinaTrainingConfig, start: StartOptions | None) -> RunInputs:
    """Open everything the configuration names.

    Args:
        config: of the run.
        start: what may happen to what is in the output folder; None leaves it alone.

    Raises:
        ConfigError: with every problem of settings, base model, rows and images.
    """
    problems: list[str] = []
    base_model_path, processor, measures, push = Path(), None, None, None
    train_set, eval_set = None, None
    with _collect(problems):
        base_model_path = Checkpoint.open(config.require_base_model_path()).path
        processor = processor_of(config.data, base_model_path)
        measures = measures_of(config.data, processor, str(base_model_path))
    with _collect(problems):
        push = HubPush.of(config)
    args = config.training_arguments(bf16=False)
    with args.main_process_first(desc="check of the rows"):  # the others find its result
        with _collect(problems):
            train_set = _dataset(config, config.data.train_files, measures)
        with _collect(problems):
            if config.data.eval_files:
                eval_set = _dataset(config, config.data.eval_files, measures)
    if processor is not None:
        problems += _vector_sizes(config, base_model_path)
    problems += _too_few_rows(args, train_set, eval_set)
    if start is not None:
        problems += start_refusals(Path(args.output_dir), start)
    attention = config.model.attn_implementation
    if attention == "flash_attention_2" and not is_flash_attn_2_available():
        problems.append(
            f"model.attn_implementation: flash-attn is not usable here; got {attention}; "
            "write auto, or install requirements-gpu.txt on a machine with a GPU"
        )
    if problems or train_set is None or processor is None:
        raise ConfigError(problems)
    return RunInputs(base_model_path, processor, train_set, eval_set, push)


@contextmanager
def _collect(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except (ConfigError, DataError) as error:
        problems += error.problems
    except CheckpointError as error:
        problems.append(str(error))


def _vector_sizes(config: JinaTrainingConfig, base_model_path: Path) -> Iterator[str]:
    """Find Matryoshka sizes that no vector of the model has."""
    whole = read_config(base_model_path).text_config.hidden_size
    too_long = [size for size in config.loss.matryoshka_dims or [] if size > whole]
    if too_long:
        yield (
            f"loss.matryoshka_dims: longer than the model's vectors, which have {whole} numbers; "
            f"got {too_long}; leave them out"
        )


def data_policy(config: JinaTrainingConfig) -> DataPolicy:
    """Return how the rows of a run are checked."""
    data = config.data
    return DataPolicy(
        is_deep=data.check_images == "pixels",
        skips_bad_rows=data.on_bad_sample == "skip",
        max_bad_fraction=data.max_bad_fraction,
        cache_folder=Path(config.training.output_dir).parent / CHECKS_FOLDER,
    )


def _dataset(
    config: JinaTrainingConfig, files: list[Path], measures: Measures | None
) -> MultimodalDataset:
    return MultimodalDataset(
        files,
        image_base_dir=config.data.image_base_dir,
        tasks=config.lora.tasks,
        policy=data_policy(config),
        measures=measures,
    )


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
        size *= args.world_size
        processes = f" times {args.world_size} processes" if args.world_size > 1 else ""
        if dataset is not None and len(dataset) < size:
            yield (
                f"data.{key}: fewer rows than training.{name}{processes}; "
                f"got {len(dataset)} for {size}; lower {name}"
            )
