"""The configuration of a run: `load_config("project_config.yaml", overrides)`.

    settings by key ─► values checked ─► conflicts ─► files there? ─► accepted by transformers?
                       └──────── each check sees what the earlier ones left ────────┘

Precedence: defaults < project_config.yaml < local_paths.yaml beside it < `--set section.key=value`.
All problems are raised together in one `ConfigError`, each with its file and line.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from transformers.integrations import get_available_reporting_integrations

from jina.data.validation import repeated
from jina.retrieval.correlations import CORRELATIONS
from jina.retrieval.ranking_metrics import METRICS
from jina.training.config_sections import (
    OUR_TRAINING_FIELDS,
    DataSection,
    EvaluationSection,
    LoraSection,
    LossSection,
    ModelSection,
    Section,
    TrainingSection,
    explain_errors,
)
from jina.training.config_sources import Setting, SettingSources
from jina.training.distributed import join
from jina.training.tracked_arguments import TrackedArguments, chosen_trackers
from jina.training.yaml_loading import (
    ConfigError,
    describe_problem,
    looks_secret,
    nearest_name,
    show_value,
)

__all__ = ["ChangedSetting", "ConfigError", "JinaTrainingConfig", "load_config"]

LOCAL_PATHS_FILE = "local_paths.yaml"


class ChangedSetting(NamedTuple):
    """A setting that differs from its default, and the layer that set it."""

    key: str
    value: Any
    origin: str


class JinaTrainingConfig(Section):
    """All settings of a run, by section; made by `load_config`."""

    model: ModelSection = ModelSection()
    lora: LoraSection = LoraSection()
    data: DataSection = DataSection()
    loss: LossSection = LossSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()

    _settings: dict[str, Setting] = PrivateAttr(default_factory=dict)

    def training_arguments(self, *, bf16: bool) -> TrackedArguments:
        """Build transformers' arguments; nothing is written. Joins the other processes, if any.

        Args:
            bf16: mixed precision, where `training:` doesn't say itself.

        Raises:
            ConfigError: transformers refuses the values, for instance bf16 without hardware for it.
        """
        # pushed by `jina.training.hub`: the Trainer would push step checkpoints and its own card
        values = self.training.model_dump(exclude={*OUR_TRAINING_FIELDS, "push_to_hub"})
        values["report_to"] = chosen_trackers(values["report_to"])
        if "bf16" not in self.training.model_fields_set:
            values["bf16"] = bf16
        if "eval_on_start" not in self.training.model_fields_set:
            values["eval_on_start"] = self.data.eval is not None  # the figures to compare with
        if self.evaluation.every_steps is not None:
            values |= {"eval_strategy": "steps", "eval_steps": self.evaluation.every_steps}
        join(self.training)  # before transformers does
        try:
            return TrackedArguments(**values)
        except (ValueError, ImportError, TypeError, OSError) as error:
            advice = "correct the setting it names"
            wrong = "TrainingArguments refuses the values"
            problem = describe_problem("training", wrong, got=str(error), advice=advice)
            raise ConfigError([problem]) from error

    def require_base_model_path(self) -> Path:
        """Return the folder of the base checkpoint.

        Raises:
            ConfigError: it isn't set, or there is no such folder.
        """
        path = self.model.base_model_path
        if path is not None and Path(path).is_dir():
            return Path(path)
        key = "model.base_model_path"
        where = f"{self._settings[key].where}: {key}" if key in self._settings else key
        advice = (
            "copy local_paths.example.yaml to local_paths.yaml and set base_model_path there, "
            "or run `make demo`, which needs no download"
        )
        wrong = "not set" if path is None else "no such folder"
        raise ConfigError([describe_problem(where, wrong, got=show_value(path), advice=advice)])

    def changed_settings(self) -> list[ChangedSetting]:
        """Return the settings whose value isn't the default, in the order of the sections."""
        changed = []
        for key, field in FIELDS.items():
            section, _, name = key.partition(".")
            value = getattr(getattr(self, section), name)
            if value != field.get_default(call_default_factory=True):
                origin = self._settings[key].origin if key in self._settings else "code"
                changed.append(ChangedSetting(key, value, origin))
        return changed


SECTIONS = {name: field.annotation for name, field in JinaTrainingConfig.model_fields.items()}
FIELDS: dict[str, FieldInfo] = {
    f"{section}.{name}": field
    for section, fields in SECTIONS.items()
    for name, field in fields.model_fields.items()
}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> JinaTrainingConfig:
    """Read and check the settings of a run.

    Args:
        path: the project's configuration; `local_paths.yaml` is looked up in its folder.
        overrides: `section.key=value` texts, the last word.

    Raises:
        ConfigError: with every problem found.
    """
    path = Path(path)
    sources = SettingSources(
        {name: list(section.model_fields) for name, section in SECTIONS.items()}
    )
    sources.read_project_file(path)
    sources.read_local_paths(path.with_name(LOCAL_PATHS_FILE))
    sources.read_overrides(overrides)
    settings, problems = sources.settings, sources.problems
    refused: set[str] = set()
    for check in (_secrets, _wrong_values, _conflicts, _missing_files, _refused_arguments):
        findings = [finding for finding in check(settings) if refused.isdisjoint(finding.keys)]
        for finding in findings:
            setting = settings.get(finding.keys[0])
            where = f"{setting.where if setting else path}: {finding.keys[0]}"
            problems.append(
                describe_problem(where, finding.wrong, got=finding.got, advice=finding.advice)
            )
        refused |= {finding.keys[0] for finding in findings}
        settings = {key: setting for key, setting in settings.items() if key not in refused}
    if problems:
        raise ConfigError(problems)
    return _build(settings)


class Finding(NamedTuple):
    """Something wrong: the keys it is about (the first is pointed at) and what to say."""

    keys: tuple[str, ...]
    wrong: str
    got: str
    advice: str


def _build(settings: Mapping[str, Setting]) -> JinaTrainingConfig:
    tree: dict[str, dict[str, Any]] = {}
    for key, setting in settings.items():
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = setting.value
    config = JinaTrainingConfig.model_validate(tree)
    config._settings.update(settings)
    return config


def _secrets(settings: Mapping[str, Setting]) -> Iterator[Finding]:
    """Find credentials: settings are logged and copied into checkpoints."""
    advice = "put it in the environment (HF_TOKEN, WANDB_API_KEY) and remove it here"
    for key, setting in settings.items():
        if looks_secret(key, setting.value):
            got = show_value(setting.value, about=key)
            yield Finding((key,), "a secret does not belong here", got, advice)


def _wrong_values(settings: Mapping[str, Setting]) -> Iterator[Finding]:
    """Find values of the wrong type, outside their range or not among the choices."""
    try:
        _build(settings)
    except ValidationError as error:
        by_place = groupby(error.errors(), key=lambda detail: detail["loc"][:2])
        for (section, name), details in by_place:
            key = f"{section}.{name}"
            wrong, advice = explain_errors(name, FIELDS[key], list(details))
            yield Finding((key,), wrong, show_value(settings[key].value), advice)


def _conflicts(settings: Mapping[str, Setting]) -> Iterator[Finding]:
    """Find settings that don't go together."""
    config = _build(settings)
    yield from _lora_conflicts(config.lora)
    yield from _loss_conflicts(config.loss)
    yield from _micro_batch_conflicts(config.training)
    yield from _unnamed_held_out_rows(config.data, settings)
    yield from _source_conflicts(config.data)
    yield from _image_conflicts(config.data)
    yield from _evaluation_conflicts(config, settings)
    yield from _unknown_metric(config)
    yield from _two_names(settings)
    yield from _missing_trackers(config.training.report_to)
    yield from _unnamed_repository(config.training)


def _lora_conflicts(lora: LoraSection) -> Iterator[Finding]:
    for name in ("r", "alpha"):
        value = getattr(lora, name)
        if value is not None and lora.init == "continue":
            wrong = "only a new adapter can be given a shape, and lora.init is continue"
            advice = f"set lora.init: new or lora.{name}: null"
            yield Finding((f"lora.{name}", "lora.init"), wrong, show_value(value), advice)


def _loss_conflicts(loss: LossSection) -> Iterator[Finding]:
    weights = loss.weights
    if not weights.single and not weights.multi:
        wrong = "neither single nor multi vectors would be ranked"
        got = show_value(weights.model_dump())
        yield Finding(("loss.weights",), wrong, got, "give single or multi a weight above 0")
    dims = loss.matryoshka_dims or []
    if dims and not weights.single:
        keys = ("loss.matryoshka_dims", "loss.weights")
        wrong = "only single vectors have Matryoshka sizes, and loss.weights leaves them out"
        yield Finding(keys, wrong, show_value(dims), "set it to null or weights.single above 0")
    if len(set(dims)) < len(dims):
        yield Finding(("loss.matryoshka_dims",), "a size twice", show_value(dims), "name each once")


def _micro_batch_conflicts(training: Any) -> Iterator[Finding]:
    micro, graph = training.tokens_per_micro_batch, training.tokens_with_graph
    if graph is not None and (micro is None or graph < micro):
        keys = ("training.tokens_with_graph", "training.tokens_per_micro_batch")
        wrong = "less than training.tokens_per_micro_batch, whose graph is kept in any case"
        yield Finding(keys, wrong, show_value(graph), "raise it, or set it to null")


def _unnamed_held_out_rows(data: DataSection, settings: Mapping[str, Setting]) -> Iterator[Finding]:
    """Find rows of one's own whose run would be measured on the demo's."""
    if data.train != FIELDS["data.train"].default and "data.eval" not in settings:
        wrong = "left out beside rows of your own, which the demo's say nothing about"
        advice = "name your held-out rows, or write eval: null"
        got = f"data.train={show_value(data.train)}"
        yield Finding(("data.eval", "data.train"), wrong, got, advice)


def _source_conflicts(data: DataSection) -> Iterator[Finding]:
    if data.source_temperature != 1 and not data.one_source_per_batch:
        wrong = "sources are only weighed when batches have one each"
        keys = ("data.source_temperature", "data.one_source_per_batch")
        advice = "set data.one_source_per_batch: true or data.source_temperature: 1.0"
        yield Finding(keys, wrong, show_value(data.source_temperature), advice)


def _image_conflicts(data: DataSection) -> Iterator[Finding]:
    low, high, side = data.min_pixels, data.max_pixels, data.image_size
    if side is not None and (low is not None or high is not None):
        keys = ("data.image_size", "data.min_pixels", "data.max_pixels")
        wrong = "a fixed size leaves nothing to data.min_pixels and data.max_pixels"
        yield Finding(keys, wrong, show_value(side), "set one or the others to null")
    elif low is not None and high is not None and low > high:
        keys = ("data.min_pixels", "data.max_pixels")
        wrong = f"more than data.max_pixels, which is {high}"
        yield Finding(keys, wrong, show_value(low), "exchange the two")


def _evaluation_conflicts(
    config: JinaTrainingConfig, settings: Mapping[str, Setting]
) -> Iterator[Finding]:
    every_steps, strategy = config.evaluation.every_steps, config.training.eval_strategy
    for key in ("training.eval_strategy", "training.eval_steps"):
        if every_steps is not None and key in settings:
            wrong = "evaluation.every_steps sets it already"
            got = show_value(settings[key].value)
            yield Finding((key, "evaluation.every_steps"), wrong, got, "remove one of the two")
    if config.data.eval is None:
        asked = {
            "evaluation.every_steps": (every_steps, None),
            "training.eval_strategy": (strategy, "no"),
            "training.eval_on_start": (config.training.eval_on_start, False),
        }
        for key, (value, off) in asked.items():
            if value != off:
                wrong = "there is nothing to evaluate: data.eval is null"
                advice = f"name a file in data.eval or set {key} to {show_value(off)}"
                yield Finding((key, "data.eval"), wrong, show_value(value), advice)


def _unknown_metric(config: JinaTrainingConfig) -> Iterator[Finding]:
    """Find a metric that no evaluation has: transformers would only miss it at the first one."""
    named = config.training.metric_for_best_model
    if named is None:
        return
    kinds = ["", "multi_"] if config.loss.weights.multi else [""]
    known = ["loss", *(f"{kind}{name}" for kind in kinds for name in (*METRICS, *CORRELATIONS))]
    # of a smaller size, too; which there are is the checkpoint's to say
    asked = re.sub(r"^dim\d+_(?!multi_|loss$)", "", named.removeprefix("eval_"))
    if asked not in known:
        near = nearest_name(asked, known)
        advice = f"did you mean eval_{near}?" if near else f"use eval_{', eval_'.join(known)}"
        key = "training.metric_for_best_model"
        yield Finding((key,), "no figure of an evaluation", show_value(named), advice)


def _two_names(settings: Mapping[str, Setting]) -> Iterator[Finding]:
    """Find what transformers would settle in silence: an old name beside the new one."""
    for suffix in ("", "_kwargs"):
        old, new = (f"training.{kind}_checkpointing{suffix}" for kind in ("gradient", "activation"))
        if old in settings and new in settings:
            wrong = f"the old name of {new}, which is set too"
            yield Finding(
                (old, new), wrong, show_value(settings[old].value), "remove one of the two"
            )


def _missing_trackers(report_to: str | list[str] | None) -> Iterator[Finding]:
    for tracker in chosen_trackers(report_to):
        if tracker not in get_available_reporting_integrations():
            wrong = "the tracker is not installed"
            yield Finding(
                ("training.report_to",), wrong, tracker, f"install {tracker} or write none"
            )


def _unnamed_repository(training: Any) -> Iterator[Finding]:
    """Find a push without a name: transformers would take that of the output folder."""
    if training.push_to_hub and training.hub_model_id is None:
        keys = ("training.hub_model_id", "training.push_to_hub")
        yield Finding(keys, "not set", "null", "name the repository, such as me/my-model")


def _missing_files(settings: Mapping[str, Setting]) -> Iterator[Finding]:
    """Find data files and folders that don't exist."""
    data = _build(settings).data
    advice = f"relative paths start at the working directory, {Path.cwd()}"
    for key, files in (("data.train", data.train_files), ("data.eval", data.eval_files)):
        for file in files:
            if not file.is_file():
                yield Finding((key,), "no such file", str(file), advice)
        for file in repeated(files):
            yield Finding((key,), "a file twice", str(file), "name each once")
    if data.image_base_dir is not None and not Path(data.image_base_dir).is_dir():
        yield Finding(("data.image_base_dir",), "no such folder", data.image_base_dir, advice)


def _refused_arguments(settings: Mapping[str, Setting]) -> Iterator[Finding]:
    """Find what only transformers itself knows, by building its arguments once."""
    try:
        _build(settings).training_arguments(bf16=False)
    except ConfigError as error:
        wrong = "TrainingArguments refuses the values"
        cause = str(error.__cause__)
        yield Finding(("training",), wrong, cause, "correct the setting it names")
