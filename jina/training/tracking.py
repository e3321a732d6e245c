"""What trackers are told of a run: its settings and the digests of its rows, no path, no key.

configuration, data sets ─ tracked_settings() ─► flat dictionary ─ TrackedArguments ─► trackers
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from jina.data.multimodal_dataset import MultimodalDataset
from jina.export.model_card import without_private
from jina.training.distributed import rank
from jina.training.run_identity import rows_digest
from jina.training.run_settings import resolved_settings
from jina.training.tracked_arguments import chosen_trackers
from jina.training.training_config import JinaTrainingConfig

EVENTS = "TENSORBOARD_LOGGING_DIR"  # as transformers calls it

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


@contextmanager
def tracked_run(config: JinaTrainingConfig, *, step: int) -> Iterator[None]:
    """Have trackers send only what the run logs, and go on in one run where training goes on.

    What the user's environment says counts more.

    Args:
        config: of the run.
        step: it goes on after; 0 at the start.
    """
    trackers = chosen_trackers(config.training.report_to)
    settings = dict(PRIVACY)
    if trackers and rank() == 0:
        events = events_folder(Path(config.training.output_dir), is_new=step == 0)
        events.mkdir(parents=True, exist_ok=True)
        settings |= {EVENTS: str(events), "WANDB_RUN_ID": events.name, "WANDB_RESUME": "allow"}
        if step and "tensorboard" in trackers and EVENTS not in os.environ:
            forget_after(step, events)
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def events_folder(output_dir: Path, *, is_new: bool) -> Path:
    """Return where a run's events are, the newest of the output folder's or one to be made.

    Its name is the run's for trackers.
    """
    earlier = sorted((output_dir / "runs").glob("*-*-*"))
    if earlier and not is_new:
        return earlier[-1]
    return output_dir / "runs" / f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def forget_after(step: int, events: Path) -> None:
    """Have tensorboard show nothing of the steps that an interrupted run did after a checkpoint."""
    from torch.utils.tensorboard import SummaryWriter  # an optional library

    SummaryWriter(str(events), purge_step=step + 1).close()
