"""What a run is: all that its result depends on, as short values that can be compared by name.

    settings that matter ─────────────┐
    digests of rows, base model, code ┼─► {name: value} ─ in each checkpoint's manifest
    versions, number of processes ────┘

Two runs of one identity end with the same bits on the same machine. What only changes what is
written, shown or how fast it goes isn't part of it.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jina
from jina.data.multimodal_dataset import MultimodalDataset
from jina.retrieval.fingerprint import model_fingerprint
from jina.training.checkpointing import digest_of
from jina.training.config_sections import FIXED_TRAINING_VALUES
from jina.training.training_config import FIELDS, JinaTrainingConfig

LIBRARIES = ("torch", "transformers", "accelerate", "peft", "numpy", "pillow", "tokenizers")
CODE = ("data", "models", "training")  # folders of the package that the result depends on
CODE_KEY, MODEL_KEY, PROCESSES_KEY = "code", "model.base_model_path", "processes"
DIGITS = 16

# Settings that a digest stands for, or that change nothing but output and speed.
WITHOUT_EFFECT = {
    *("model.base_model_path", "data.train", "data.eval", "data.image_base_dir"),
    *("data.on_bad_sample", "data.max_bad_fraction"),
    *(
        f"training.{name}"
        for name in (
            *("output_dir", "run_name", "project", "report_to", "disable_tqdm", "debug"),
            "push_to_hub",
            *("do_train", "do_eval", "do_predict", "skip_memory_metrics", "resume_from_checkpoint"),
            *("include_num_input_tokens_seen", "include_for_metrics", "torch_empty_cache_steps"),
            *("local_rank", "use_cache", "data_seed", "length_column_name"),
            *FIXED_TRAINING_VALUES,
        )
    ),
}
PREFIXES_WITHOUT_EFFECT = tuple(
    f"training.{name}"
    for name in ("log_", "logging_", "save_", "hub_", "dataloader_", "trackio_", "ddp_")
)
# They choose the best checkpoint, and matter only to a run that ends with that.
EVALUATION_PREFIXES = ("evaluation.", "training.eval_")
EVALUATION_SETTINGS = (
    *("training.per_device_eval_batch_size", "training.metric_for_best_model"),
    *("training.greater_is_better", "training.batch_eval_metrics", "training.prediction_loss_only"),
)


def run_identity(
    config: JinaTrainingConfig,
    base_model_path: Path,
    datasets: Mapping[str, MultimodalDataset | None],
    *,
    processes: int,
) -> dict[str, Any]:
    """Describe a run.

    Args:
        config: of the run.
        base_model_path: the base checkpoint.
        datasets: rows under the key that names their files, such as `data.train`.
        processes: that train together.

    Returns:
        JSON values by name; those of settings are named as in the configuration.
    """
    cache = Path(config.training.output_dir).parent / "cache"
    identity = settings_that_matter(config)
    for key, dataset in datasets.items():
        if dataset is not None and (key != "data.eval" or _keeps_best(config)):
            identity[key] = rows_digest(dataset)
    identity[MODEL_KEY] = model_fingerprint(base_model_path, cache)[:DIGITS]
    identity |= {f"{CODE_KEY}:{name}": digest for name, digest in code_digests().items()}
    identity |= {name: version(name) for name in LIBRARIES}
    return json.loads(json.dumps({**identity, PROCESSES_KEY: processes}))


def settings_that_matter(config: JinaTrainingConfig) -> dict[str, Any]:
    """Return the settings that the result depends on."""
    values = config.model_dump(mode="json")
    found = {}
    for key in FIELDS:
        section, _, name = key.partition(".")
        is_of_evaluation = key.startswith(EVALUATION_PREFIXES) or key in EVALUATION_SETTINGS
        is_idle = key in WITHOUT_EFFECT or key.startswith(PREFIXES_WITHOUT_EFFECT)
        if not is_idle and (not is_of_evaluation or _keeps_best(config)):
            found[key] = values[section][name]
    return found


def rows_digest(dataset: MultimodalDataset) -> str:
    """Return a digest of all lines, of the rows in use and of the contents of their pictures."""
    digest = hashlib.sha256()
    for column in (dataset.index.files, dataset.index.lines, dataset.index.checksums):
        digest.update(column.tobytes())
    for side in (dataset.index.queries, dataset.index.positives, dataset.index.negatives):
        digest.update(side.identities.tobytes())
    return digest.hexdigest()[:DIGITS]


def code_digests() -> dict[str, str]:
    """Return a digest of each module that the result depends on."""
    root = Path(jina.__file__).parent
    modules = sorted(file for folder in CODE for file in (root / folder).rglob("*.py"))
    return {str(file.relative_to(root)): digest_of(file)[:DIGITS] for file in modules}


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], *, allowed: Collection[str] = ()
) -> list[str]:
    """Say what two runs differ in, one line for each name but those allowed to differ."""
    changed = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    modules = [key.partition(":")[2] for key in changed if key.startswith(f"{CODE_KEY}:")]
    lines = {
        key: f"{key}: was {old.get(key)}, is {new.get(key)}"
        for key in changed
        if not key.startswith(f"{CODE_KEY}:")
    }
    if modules:
        lines[CODE_KEY] = f"{CODE_KEY}: other modules: {', '.join(modules)}"
    return [line for key, line in lines.items() if key not in allowed]


def known_names() -> list[str]:
    """Return every name that may be allowed to differ."""
    return [*FIELDS, CODE_KEY, PROCESSES_KEY, *LIBRARIES]


def _keeps_best(config: JinaTrainingConfig) -> bool:
    return config.training.load_best_model_at_end
