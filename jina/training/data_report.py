"""`python -m jina validate`: the check that training makes, and all there is to say about the data.

files, or those of a configuration ─ scan ─ figures, step estimate ─► JSON and a report
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jina.data.reporting.length_figures import Measures, texts_without_room, tokens_per_row
from jina.data.reporting.validation_figures import Figures, validation_figures
from jina.data.reporting.validation_report import render
from jina.data.row_index import SIDES
from jina.data.validation import Scan, scan
from jina.models.checkpoint import Checkpoint
from jina.models.processing_jina_embeddings_v4 import ImageSettings, JinaEmbeddingsV4Processor
from jina.training.step_estimate import ModelSize, estimate_step
from jina.training.training_config import ConfigError, JinaTrainingConfig

# What the official checkpoint's preprocessor_config.json says; colours don't matter for lengths.
OFFICIAL_IMAGES = ImageSettings(3136, 602_112, image_mean=(0, 0, 0), image_std=(1, 1, 1))


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
            problem = f"--json: cannot be written; got {error}; give another path"
            raise ConfigError([problem]) from error


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
    numbers = iter(range(len(paths)))
    figures = validation_figures(
        found, measures, {name: [next(numbers) for _ in group] for name, group in groups.items()}
    )
    if config is not None:
        _add_crowded(found, figures, measures)
    figures["step"] = _step(found, figures, measures, settings, size)
    return DataReport(figures, render(figures, [str(problem) for problem in found.problems]))


def _add_crowded(found: Scan, figures: Figures, measures: Measures) -> None:
    """Refuse rows whose images leave the text beside them no room under the run's limits."""
    crowded = list(texts_without_room(found.files, found.index, measures))
    rows = len({(problem.file, problem.line) for problem in crowded})
    order = {str(file): place for place, file in enumerate(found.files)}
    found.problems += crowded
    found.problems.sort(key=lambda problem: (order[problem.file], problem.line))
    figures["problems"] = [problem.as_dict() for problem in found.problems]
    figures["accepted"] -= rows
    figures["refused"] += rows


def _model(config: JinaTrainingConfig) -> tuple[ModelSize | None, Measures]:
    """Return the configured checkpoint's size and measures; without one, the official measures."""
    path, changes = config.model.base_model_path, _image_changes(config)
    if path is None or not Path(path).is_dir():
        images = replace(OFFICIAL_IMAGES, **changes)
        return None, measures_of(config, images, origin="the official checkpoint's image sizes")
    try:
        size = ModelSize.of(Checkpoint.open(path))
        processor = JinaEmbeddingsV4Processor.from_pretrained(path).with_image_settings(**changes)
    except ValueError as error:
        raise ConfigError([f"model.base_model_path: {error}"]) from error

    def count(text: str) -> int:
        """Return the tokens of a text behind its prompt."""
        return len(processor.text_sequence(text, prompt="Query"))

    measures = measures_of(config, processor.image_settings, origin=str(path))
    prompt = processor.image_prompt_tokens
    return size, replace(measures, text_tokens=count, image_prompt_tokens=prompt)


def _image_changes(config: JinaTrainingConfig) -> dict[str, int]:
    """Return the image settings that differ from the checkpoint's."""
    data = config.data
    changes = {"min_pixels": data.min_pixels, "max_pixels": data.max_pixels}
    changes["square"] = data.image_size
    return {name: value for name, value in changes.items() if value is not None}


def measures_of(config: JinaTrainingConfig, images: ImageSettings, *, origin: str) -> Measures:
    """Return the limits of a run, without a tokenizer."""
    most = images.max_pixels if images.square is None else images.square**2
    return Measures(
        vision_tokens=images.token_count,
        max_vision_tokens=most // (images.patch_size * images.merge_size) ** 2,
        min_pixels=None if images.square else images.min_pixels,
        max_pixels=None if images.square else images.max_pixels,
        max_text_tokens=config.data.max_text_tokens,
        text_tokens=None,
        origin=origin,
    )


def _step(
    found: Scan,
    figures: Figures,
    measures: Measures,
    config: JinaTrainingConfig,
    size: ModelSize | None,
) -> Figures:
    """Return the estimate of a step, and what it takes for granted."""
    rate = figures["texts"]["tokens_per_byte"]
    rows = max(1, len(found.index))
    step = estimate_step(
        config,
        size or ModelSize(),
        tokens=tokens_per_row(found, measures, tokens_per_byte=rate),
        items={side: len(getattr(found.index, side)) / rows for side in SIDES},
    )
    assumptions = ["rows of average length"]
    if size is None:
        dtype = "bfloat16" if config.model.dtype == "auto" else config.model.dtype
        assumptions.append(f"the official model in {dtype}, 4 bytes of text a token")
    return {**step, "assumptions": assumptions}
