"""The sections of `project_config.yaml`: each setting's type, range, default and meaning.

A field's description is both its documentation and the advice in its error message. `training:` has
the fields of `transformers.TrainingArguments`, with the defaults, limits and fixed values in the
tables below, and a few of ours.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from transformers import TrainingArguments

from jina.training.yaml_loading import nearest_name, show_value

TASKS = ("retrieval", "text-matching", "code")
MIN_TEMPERATURE = 0.001  # below it float32 has too few digits for the scores
IMAGE_PATCH = 28  # pixels: an image token is a square of 28 x 28, so sides are multiples of it


def _expand_home(path: str) -> str:
    return str(Path(path).expanduser()) if path.startswith("~") else path


PathText = Annotated[str, Field(min_length=1), AfterValidator(_expand_home)]
PathList = Annotated[list[PathText], Field(min_length=1)]


class Section(BaseModel):
    """Strict and frozen: no unknown key, no conversion between types, no infinite number."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSection(Section):
    """Which checkpoint is trained, and how it computes."""

    base_model_path: PathText | None = Field(None, description="the folder of the base checkpoint")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="the type of the frozen weights; auto is the checkpoint's own"
    )
    attn_implementation: Literal["auto", "packed_sdpa", "flash_attention_2"] = Field(
        "auto", description="auto is flash attention where a GPU has it, packed_sdpa elsewhere"
    )


class LoraSection(Section):
    """Which adapters are trained, and their shape."""

    tasks: Annotated[list[Literal[TASKS]], Field(min_length=1)] = Field(
        ["retrieval"], description="the adapters that are trained, each on the rows of its task"
    )
    init: Literal["continue", "new", "shared"] = Field(
        "continue",
        description="train the checkpoint's adapters further, start new ones, or a single new one "
        "for all tasks",
    )
    r: int | None = Field(
        None, ge=1, description="rank of a new adapter; null for the checkpoint's"
    )
    alpha: float | None = Field(
        None, gt=0, description="scaling times rank of a new adapter; null for the checkpoint's"
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="a probability; null for the checkpoint's"
    )


class DataSection(Section):
    """Which rows are read, and how images and texts are bounded."""

    train: PathText | PathList = Field(
        "data/demo/train.jsonl", description="one JSONL file or a list"
    )
    eval: PathText | PathList | None = Field(
        "data/demo/eval.jsonl", description="one JSONL file or a list; null for no evaluation"
    )
    image_base_dir: PathText | None = Field(
        None, description="where relative image paths start; null for the JSONL file's folder"
    )
    min_pixels: int | None = Field(
        None,
        ge=IMAGE_PATCH**2,
        description="smaller images are enlarged; null for the checkpoint's",
    )
    max_pixels: int | None = Field(
        None, ge=IMAGE_PATCH**2, description="larger images are shrunk; null for the checkpoint's"
    )
    image_size: int | None = Field(
        None, ge=IMAGE_PATCH, multiple_of=IMAGE_PATCH, description="the side of a square, in pixels"
    )
    max_text_tokens: int = Field(8192, ge=16, le=32768, description="longer texts are cut")
    one_source_per_batch: bool = Field(
        False, description="true draws each batch from rows of one source"
    )
    source_temperature: float = Field(
        1.0, ge=1, description="1 draws sources by their size, more evens them out"
    )
    check_images: Literal["pixels", "headers"] = Field(
        "pixels", description="decode every image before training, or read its header only"
    )
    on_bad_sample: Literal["refuse", "skip"] = Field(
        "refuse", description="list all bad rows and stop, or train without them"
    )
    max_bad_fraction: float = Field(
        0.01, ge=0, lt=1, description="the share of rows that skip may leave out"
    )
    vision_cache: Literal["off", "memory", "disk"] = Field(
        "off", description="keep what the vision tower makes of an image, for later epochs or runs"
    )
    vision_cache_gib: float = Field(
        32.0, gt=0, description="the most room the cache takes; a process's own in memory"
    )

    @property
    def train_files(self) -> list[Path]:
        """The training files, also when only one is named."""
        return _as_paths(self.train)

    @property
    def eval_files(self) -> list[Path]:
        """The evaluation files; empty when there is no evaluation."""
        return _as_paths(self.eval)


class LossWeights(Section):
    """What each part of the loss counts; 0 leaves it out."""

    single: float = Field(1.0, ge=0, description="of ranking by single vectors")
    multi: float = Field(1.0, ge=0, description="of ranking by late interaction")
    kl: float = Field(1.0, ge=0, description="of the divergence between the two")


class LossSection(Section):
    """The contrastive loss."""

    temperature: float = Field(
        0.02, ge=MIN_TEMPERATURE, description="lower looks harder at the nearest negatives"
    )
    learn_temperature: bool = Field(False, description="true trains it with the adapter")
    symmetric: bool = Field(False, description="true also ranks the queries of each positive")
    weights: LossWeights = Field(
        LossWeights(), description="a group of single, multi and kl, each 0 or more"
    )
    matryoshka_dims: list[Annotated[int, Field(ge=1)]] | None = Field(
        None,
        description="vector sizes trained beside the whole; null for the checkpoint's, [] for none",
    )


class EvaluationSection(Section):
    """When the evaluation rows are measured."""

    every_steps: int | None = Field(None, ge=1, description="optimizer steps; null for never")
    direction: Literal["forward", "both"] = Field(
        "forward", description="both: before and after training, rank queries for positives, too"
    )


def _as_paths(files: str | list[str] | None) -> list[Path]:
    return [Path(file) for file in ([files] if isinstance(files, str) else files or [])]


# Where SmartEmbed starts from something else than transformers.
OUR_TRAINING_DEFAULTS: dict[str, Any] = {
    "output_dir": "outputs/models/finetuned",
    "num_train_epochs": 1.0,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 32,
    "learning_rate": 1e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.05,
    "logging_steps": 1.0,
    "save_total_limit": 2,
    "report_to": "auto",
}

# What transformers doesn't have: gradient caching.
OUR_TRAINING_FIELDS: dict[str, Any] = {
    "tokens_per_micro_batch": (
        Annotated[int, Field(ge=1)] | None,
        Field(8192, description="tokens of a forward pass; null for the whole batch in one"),
    ),
    "tokens_with_graph": (
        Annotated[int, Field(ge=1)] | None,
        Field(None, description="tokens that run once; null for those of one micro-batch"),
    ),
}

# What must stay as it is, and why.
FIXED_TRAINING_VALUES: dict[str, tuple[Any, str]] = {
    "remove_unused_columns": (False, "transformers would drop a row's fields, images included"),
    "dataloader_drop_last": (True, "a short last batch would have fewer in-batch negatives"),
    "logging_nan_inf_filter": (False, "a loss that isn't finite must stop the run, not read 0"),
    "label_names": ([], "a contrastive batch has no labels, and transformers would guess some"),
    "label_smoothing_factor": (0.0, "the contrastive loss has no labels to smooth"),
    "neftune_noise_alpha": (None, "its noise is scaled by a padded length, and nothing is padded"),
    "train_sampling_strategy": ("random", "rows are dealt into batches by what they hold"),
    "auto_find_batch_size": (False, "a smaller batch would silently have fewer negatives"),
    "fp16": (False, "float16 overflows in this model; set bf16: true, or neither for float32"),
    "bf16_full_eval": (False, "it would round the trained adapter; set model.dtype instead"),
    "fp16_full_eval": (False, "it would round the trained adapter; set model.dtype instead"),
    "save_only_model": (False, "such a checkpoint can't be resumed"),
    "save_on_each_node": (False, "one process writes the checkpoints"),
    "enable_jit_checkpoint": (False, "SIGTERM is finished, saved and ended on already"),
    "ignore_data_skip": (False, "rows of an epoch would be seen twice after resuming"),
    "restore_callback_states_from_checkpoint": (False, "a checkpoint could change the run"),
    "resume_from_checkpoint": (None, "train.py --resume goes on in training.output_dir"),
    "hub_strategy": ("end", "the finished model is pushed, and no step of it"),
    "hub_always_push": (False, "there is only one push"),
    "deepspeed": (None, "not supported yet"),
    "fsdp": (None, "not supported yet"),
    "fsdp_config": (None, "not supported yet"),
    "parallelism_config": (None, "not supported yet"),
}

_BATCH = Annotated[int, Field(ge=2, description="a batch of one has no in-batch negatives")]
# Those of transformers whose messages are known to have no key and no path.
TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")
_TRACKER = Literal[("none", *TRACKERS)]

# Where transformers' own type lets a value through that can't work.
LIMITED_TRAINING_TYPES: dict[str, Any] = {
    "output_dir": PathText,
    "learning_rate": Annotated[float, Field(gt=0, description="usual for LoRA: 1e-5 to 5e-4")],
    "per_device_train_batch_size": _BATCH,
    "per_device_eval_batch_size": _BATCH,
    "gradient_accumulation_steps": Annotated[int, Field(ge=1)],
    "num_train_epochs": Annotated[float, Field(gt=0)],
    "warmup_steps": Annotated[float, Field(ge=0, description="steps, or below 1 a share of all")],
    "weight_decay": Annotated[float, Field(ge=0)],
    "max_grad_norm": Annotated[float, Field(ge=0, description="0 for no clipping")],
    "logging_steps": Annotated[float, Field(gt=0, description="steps, or below 1 a share of all")],
    "save_steps": Annotated[float, Field(gt=0, description="steps, or below 1 a share of all")],
    "save_total_limit": Annotated[int, Field(ge=1, description="null keeps every one")] | None,
    "dataloader_num_workers": Annotated[int, Field(ge=0)],
    "report_to": Literal["auto"] | _TRACKER | list[_TRACKER] | None,
}


def _settable(hint: Any) -> Any:
    """Return an annotation of TrainingArguments with each enum replaced by its values."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Literal[tuple(member.value for member in hint)]
    members = get_args(hint)
    if get_origin(hint) is list:
        return list[_settable(members[0])]
    if get_origin(hint) not in (Union, UnionType):
        return hint
    has_enum = any(isinstance(member, type) and issubclass(member, Enum) for member in members)
    kept = [_settable(member) for member in members if not (has_enum and member is str)]
    return Union[tuple(kept)]  # noqa: UP007 - the members are only known at run time


def _fixed(value: Any, reason: str) -> Any:
    """Return a type that takes this one value."""

    def check(given: Any) -> Any:
        """Refuse another value; 0 is not False."""
        if given != value or isinstance(given, bool) is not isinstance(value, bool):
            raise PydanticCustomError("fixed", "must stay {value}", {"value": show_value(value)})
        return value

    return Annotated[Any, AfterValidator(check), Field(description=reason)]


def _training_fields() -> dict[str, Any]:
    """Return type and default of each field of TrainingArguments, our tables applied."""
    hints = get_type_hints(TrainingArguments)
    fields = {}
    for field in dataclasses.fields(TrainingArguments):
        name = field.name
        default = field.default
        if default is dataclasses.MISSING:
            default = Field(default_factory=field.default_factory)
        hint = LIMITED_TRAINING_TYPES.get(name) or _settable(hints[name])
        if name in FIXED_TRAINING_VALUES:
            default = FIXED_TRAINING_VALUES[name][0]
            hint = _fixed(*FIXED_TRAINING_VALUES[name])
        fields[name] = (hint, OUR_TRAINING_DEFAULTS.get(name, default))
    return fields | OUR_TRAINING_FIELDS


TrainingSection = create_model(
    "TrainingSection",
    __base__=Section,
    __doc__="The fields of transformers.TrainingArguments, under their own names, and ours.",
    **_training_fields(),
)


# pydantic's error types, in the words of someone who writes YAML.
PLAIN_WORDS = {
    "bool_type": "must be true or false",
    "dict_type": "must be a group of settings",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "too_short": "must not be empty",
}


def explain_errors(
    name: str, field: FieldInfo, details: Sequence[Mapping[str, Any]]
) -> tuple[str, str]:
    """Return what is wrong with the value of a field and what to do.

    Args:
        details: what pydantic says about it, one entry for each type that the value could have had.
    """
    for detail in details:
        if detail["type"] == "literal_error" and isinstance(detail["input"], str):
            choices = _choices(field.annotation)
            near = nearest_name(detail["input"], choices)
            advice = f"did you mean {near}?" if near else f"use one of {', '.join(choices)}"
            return "unknown choice", advice
    unknown = [str(detail["loc"][-1]) for detail in details if detail["type"] == "extra_forbidden"]
    if unknown:
        return f"unknown key {', '.join(unknown)}", field.description or ""
    messages = [PLAIN_WORDS.get(detail["type"], detail["msg"]) for detail in details]
    wrong = " or ".join(dict.fromkeys(messages)).replace("Input should", "must")
    return wrong, field.description or f"see {name} in the documentation of TrainingArguments"


def _choices(annotation: Any) -> list[str]:
    """Return the words that an annotation accepts, however deep they stand in it."""
    members = get_args(annotation)
    if get_origin(annotation) is Literal:
        return [member for member in members if isinstance(member, str)]
    return [choice for member in members for choice in _choices(member)]
