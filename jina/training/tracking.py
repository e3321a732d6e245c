"""What trackers are told of a run: its settings and the digests of its rows, no path, no key.

configuration, data sets ─ tracked_settings() ─► flat dictionary ─ TrackedArguments ─► trackers
"""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from jina.data.multimodal_dataset import MultimodalDataset
from jina.export.model_card import without_private
from jina.training.run_settings import resolved_settings
from jina.training.training_config import JinaTrainingConfig

DIGITS = 16  # of a digest

# wandb would also send the command line, folders, host, git's remote, packages and the console, and
# mlflow the path of the script; both would tell their makers how they are used.
PRIVACY = {
    "WANDB_X_DISABLE_META": "true",
    "WANDB_X_DISABLE_MACHINE_INFO": "true",
    "WANDB_X_SAVE_REQUIREMENTS": "false",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_HOST": "private",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_RUN_CONTEXT": '{"mlflow.source.name": "train.py", "mlflow.user": "private"}',
}


def tracked_settings(
    config: JinaTrainingConfig, datasets: Mapping[str, MultimodalDataset | None]
) -> dict[str, Any]:
    """Describe a run for trackers.

    Args:
        config: of the run.
        datasets: under the key that names their files, such as `data.train`.

    Returns:
        Plain values under names such as `lora.r` and `data.train.digest`; of paths the last part.
    """
    told = {
        f"{section}.{key}": value
        for section, values in without_private(resolved_settings(config)).items()
        for key, value in values.items()
    }
    for key, dataset in datasets.items():
        if dataset is not None:
            told |= {f"{key}.digest": rows_digest(dataset), f"{key}.rows": len(dataset)}
    return told


def rows_digest(dataset: MultimodalDataset) -> str:
    """Return a digest of the lines in use and of the contents of their texts and pictures."""
    digest = hashlib.sha256(dataset.index.checksums.tobytes())
    for side in (dataset.index.queries, dataset.index.positives, dataset.index.negatives):
        digest.update(side.identities.tobytes())
    return digest.hexdigest()[:DIGITS]


def keep_machine_private() -> None:
    """Have trackers send only what the run logs, unless the user's environment says otherwise."""
    for name, value in PRIVACY.items():
        os.environ.setdefault(name, value)
