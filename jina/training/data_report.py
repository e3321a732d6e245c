"""`python -m jina validate`: the check that training makes, and all there is to say about the data.

files, or those of a configuration ─ scan ─ figures, step estimate ─► JSON and a report
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jina.data.item_lengths import Measures, images_without_room
from jina.data.reporting.length_figures import tokens_per_row
from jina.data.reporting.validation_figures import Figures, validation_figures
from jina.data.reporting.validation_report import render
from jina.data.row_index import SIDES, RowIndex
from jina.data.validation import repeated, scan
from jina.models.checkpoint import Checkpoint
from jina.training.run_measures import measures_of, official_measures, processor_of
from jina.training.step_estimate import ModelSize, estimate_step
from jina.training.training_config import ConfigError, JinaTrainingConfig


@dataclass(frozen=True)
class DataReport:
    """What a check found.

    Attributes:
        figures: Plain JSON.
        text: The same for a reader.
    """

    figures: Figures
    text: str

    @property
    def is_clean(self) -> bool:
        """Whether there is no problem."""
        return not self.figures["problems"]

    def write_json(self, file: Path) -> None:
        """Write the figures to a file.

        Raises:
            ConfigError: If it cannot be written.
        """
        try:
            file.write_text(json.dumps(self.figures, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise _unwritable(file, error) from error


def require_writable(file: Path) -> None:
    """Raise `ConfigError` if `DataReport.write_json` could not write a file; it stays as it is."""
    is_new = not os.path.lexists(file)
    try:
        file.open("ab").close()
    except OSError as error:
        raise _unwritable(file, error) from error
    if is_new:
        file.unlink()


def _unwritable(file: Path, error: OSError) -> ConfigError:
    problem = f"--json: cannot be written; got {error}; give another path than {file}"
    return ConfigError([problem])


def check_data(
    files: Sequence[Path],
    *,
    config: JinaTrainingConfig | None = None,
    image_base_dir: Path | None = None,
    deep: bool = False,
) -> DataReport:
    """Check files and describe what they hold.

    Args:
        files: What to check; none for the train and eval files of the configuration.
        config: Of a run whose rules and limits count; without one, the format alone is checked
            and the limits are the defaults.
        image_base_dir: The folder image paths start from, instead of the configuration's.
        deep: Decode every image.

    Raises:
        ConfigError: If there is nothing to check, or the base checkpoint is unusable.
        DataError: If a file cannot be read.
    """
    settings = config or JinaTrainingConfig()
    if twice := repeated(files):
        raise ConfigError([f"validate: a file twice; got {file}; name each once" for file in twice])
    groups: Mapping[str, Sequence[Path]] = {str(file): [file] for file in files}
    if not files and config is not None:
        groups = {"train": config.data.train_files}
        if config.data.eval is not None:
            groups["eval"] = config.data.eval_files
    paths = [file for group in groups.values() for file in group]
    if not paths:
        raise ConfigError(["validate: nothing to check; got no FILE; name one, or --config FILE"])
    size, measures = _model(settings)
    found = scan(
        paths,
        image_base_dir=image_base_dir or settings.data.image_base_dir,
        deep=deep,
        tasks=config.lora.tasks if config else (),
    )
    if config is not None:
        found = found.refusing(images_without_room(found.files, found.index, measures))
    numbers = iter(range(len(paths)))
    numbered = {name: [next(numbers) for _ in group] for name, group in groups.items()}
    figures = validation_figures(found, measures, numbered)
    trained = numbered.get("train", range(len(paths)))
    figures["step"] = _step(
        found.index.only(np.isin(found.index.files, trained)),
        measures,
        settings,
        size,
        tokens_per_byte=figures["texts"]["tokens_per_byte"],
    )
    return DataReport(figures, render(figures, [str(problem) for problem in found.problems]))


def _model(config: JinaTrainingConfig) -> tuple[ModelSize | None, Measures]:
    """Return the configured checkpoint's size and measures; without one, the official measures."""
    path = config.model.base_model_path
    if path is None or not Path(path).is_dir():
        return None, official_measures(config.data)
    try:
        size = ModelSize.of(Checkpoint.open(path))
        processor = processor_of(config.data, Path(path))
    except ValueError as error:
        raise ConfigError([f"model.base_model_path: {error}"]) from error
    return size, measures_of(config.data, processor, str(path))


def _step(
    index: RowIndex,
    measures: Measures,
    config: JinaTrainingConfig,
    size: ModelSize | None,
    *,
    tokens_per_byte: float,
) -> Figures:
    """Return the estimate of a step on some rows, and what it takes for granted."""
    step = estimate_step(
        config,
        size or ModelSize(),
        rows=len(index),
        tokens=tokens_per_row(index, measures, tokens_per_byte=tokens_per_byte),
        items={side: len(getattr(index, side)) / max(1, len(index)) for side in SIDES},
    )
    assumptions = ["rows of average length", "one process: the batches of several add up"]
    wanted = config.training.per_device_train_batch_size
    if step["batch_size"] < wanted:
        assumptions.append(f"all there are, for a batch of {wanted:,}")
    if size is None:
        dtype = "bfloat16" if config.model.dtype == "auto" else config.model.dtype
        assumptions.append(f"the official model in {dtype}, 4 bytes of text a token")
    return {**step, "assumptions": assumptions}
