"""The output folder of a run: what is in it decides where training starts.

    empty, or --resume never ──────────────────────────► from the base model
    checkpoints ─ newest complete one of the same run ──► go on from there
    a finished model ─ refused without --overwrite

One run at a time has the folder, by a lock that ends with its process however that ends.
"""

import fcntl
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jina.export.model_card import CARD
from jina.models.checkpoint import ADAPTER_WEIGHTS
from jina.retrieval.report_page.run_record import AFTER
from jina.training.checkpointing import (
    CheckpointFolder,
    StoredCheckpoint,
    complete_checkpoints,
    saved_steps,
)
from jina.training.distributed import rank
from jina.training.run_identity import PROCESSES_KEY, differences, known_names
from jina.training.training_config import ConfigError
from jina.training.yaml_loading import nearest_name

logger = logging.getLogger("smartembed")

LOCK = ".lock"
AUTO, MUST, NEVER = "auto", "must", "never"


@dataclass(frozen=True)
class StartOptions:
    """What the user says about a folder that isn't empty.

    Attributes:
        resume: go on where that can be (auto), in any case (must), or never.
        overwrite: whether a finished model may be replaced.
        allowed: names in which the run may differ from its checkpoint's.
    """

    resume: str = AUTO
    overwrite: bool = False
    allowed: tuple[str, ...] = ()


def start_refusals(folder: Path, options: StartOptions) -> Iterator[str]:
    """Find what stands against training into a folder, as far as a glance shows."""
    if options.resume == MUST and not saved_steps(folder):
        yield f"--resume: no checkpoint to go on from; got {folder}; leave --resume out"
    if is_finished(folder) and not options.overwrite:
        yield (
            f"training.output_dir: holds a finished model; got {folder}; "
            "choose another folder, or add --overwrite to replace it"
        )
    for name in options.allowed:
        if name not in known_names():
            near = nearest_name(name, known_names())
            advice = f"did you mean {near}?" if near else "use a name from the refusal"
            yield f"--allow-change: nothing has this name; got {name}; {advice}"


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a finished model; its adapters are what is written last."""
    return (folder / ADAPTER_WEIGHTS).is_file()


def choose_start(
    folder: Path, run: Mapping[str, Any], options: StartOptions
) -> StoredCheckpoint | None:
    """Return the checkpoint to go on from, None to start from the base model.

    Args:
        folder: the output folder.
        run: what the run is, see `run_identity`.
        options: which have passed `start_refusals`.

    Raises:
        ConfigError: there are checkpoints, but all of another run, or none that is complete.
    """
    starts_over = is_finished(folder) and options.resume != MUST
    if options.resume == NEVER or starts_over or not saved_steps(folder):
        return None
    passed_over: list[tuple[StoredCheckpoint, list[str]]] = []
    for checkpoint in complete_checkpoints(folder):
        changed = differences(checkpoint.run, run, allowed=options.allowed)
        if not changed:
            for other, reasons in passed_over:
                logger.warning("%s is passed over: %s", other.path.name, "; ".join(reasons))
            _announce(checkpoint, run)
            return checkpoint
        passed_over.append((checkpoint, changed))
    advice = "add --resume never to start over, or choose another training.output_dir"
    if not passed_over:
        raise ConfigError([f"{folder}: no checkpoint in it is complete, see above; {advice}"])
    newest, changed = passed_over[0]
    names = " ".join(f"--allow-change {line.partition(':')[0]}" for line in changed)
    advice = f"undo it, add {names} to go on nevertheless, or {advice.removeprefix('add ')}"
    problems = [f"{newest.path}: {line}" for line in changed]
    raise ConfigError([*problems, f"{newest.path}: the run has changed; {advice}"])


def prepare(folder: Path, start: StoredCheckpoint | None) -> None:
    """Delete what a run that starts here replaces: a finished model, and checkpoints if it is new.

    From here on the folder is one of an unfinished run.
    """
    if is_finished(folder):
        (folder / CARD).unlink(missing_ok=True)
        shutil.rmtree(folder / AFTER, ignore_errors=True)  # else it would be told as the new one's
        (folder / ADAPTER_WEIGHTS).unlink()
    checkpoints = CheckpointFolder(folder, limit=None)
    if start is None:
        for step in saved_steps(folder):
            logger.info("checkpoint-%d of an earlier run is deleted", step)
        checkpoints.clear()
    checkpoints.sweep()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a second run out of the folder, which is created; the first process does.

    Raises:
        ConfigError: it can't be written to, or another run has it.
    """
    if rank() > 0:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / LOCK).open("w")
    except OSError as error:
        raise _unusable("cannot be written to", error) from error
    with stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _unusable("another run writes to it", folder) from error
        yield


def _announce(checkpoint: StoredCheckpoint, run: Mapping[str, Any]) -> None:
    logger.info("Going on from %s.", checkpoint.path)
    changed = differences(checkpoint.run, run)
    for line in changed:
        logger.warning("changed since, as allowed: %s", line)
    if any(line.startswith(f"{PROCESSES_KEY}:") for line in changed):
        logger.warning(
            "With another number of processes the weights, the optimizer and the step go on; "
            "batches, their order and dropout are no longer those of the uninterrupted run."
        )
    elif changed:
        logger.warning("The result is no longer that of the uninterrupted run.")


def _unusable(wrong: str, got: Any) -> ConfigError:
    advice = "choose another folder, or make this one free"
    return ConfigError([f"training.output_dir: {wrong}; got {got}; {advice}"])
