"""How a run ends early: asked to by a signal, or by a fault it can't do anything about.

    SIGTERM, SIGINT ─ noted ─► the step is finished, a checkpoint saved ─ StoppedError ─► 143, 130
    a second SIGINT ─ KeyboardInterrupt ─► 130 at once
    an image turned bad, a full disk, a dead loader or training process ─ FaultError ─► 4

Whichever it is, the checkpoints are whole and the next start goes on from the newest.
"""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from jina.data.image_loading import ImageError
from jina.data.multimodal_dataset import DataError
from jina.retrieval.item_embedding import EmbeddingError
from jina.training.checkpointing import saved_steps
from jina.training.distributed import gather_sizes, world_size

logger = logging.getLogger("smartembed")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedError(RuntimeError):
    """A run that has saved a checkpoint and ends because a signal asked it to."""

    def __init__(self, number: int, step: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"step {step}: saved and stopped; got {name}; train.py goes on from here")
        self.exit_code = 128 + number


class FaultError(RuntimeError):
    """Something around the run broke; what has been saved is whole."""


class StopOnSignal(TrainerCallback):
    """Save and end after the step during which a signal came to any of the processes.

    Active inside `with`, where it takes the signals' usual handling away.
    """

    def __init__(self) -> None:
        self.number = 0
        self._process = os.getpid()
        self._usual: dict[int, Any] = {}

    def __enter__(self) -> "StopOnSignal":
        self._usual = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a child that was forked a moment ago
            return
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
        logger.warning(
            "%s: the step is finished and saved first; Ctrl-C stops at once, without saving",
            signal.Signals(number).name,
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a checkpoint; at the end of an epoch, that follows only after its evaluation."""
        if state.global_step < state.max_steps and not float(state.epoch).is_integer():
            self._ask(args, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a checkpoint."""
        if state.global_step < state.max_steps:  # else it ends of its own accord
            self._ask(args, control)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the run, now that it is safe."""
        if self.number and state.global_step < state.max_steps:
            raise StoppedError(self.number, state.global_step)

    def _ask(self, args: TrainingArguments, control: TrainerControl) -> None:
        """Agree with all processes, so that they stop at the same step."""
        if world_size() > 1:
            self.number = max(number for [number] in gather_sizes([self.number], args.device))
        if self.number:
            control.should_save = control.should_training_stop = True


def leave_process_group(worker: int) -> None:
    """Put a loader process out of reach of signals to the group, so that the step can end."""
    os.setpgid(0, 0)


@contextmanager
def faults_explained(output_dir: Path) -> Iterator[None]:
    """Turn what can break around a run into a `FaultError` that says what to do.

    Args:
        output_dir: where the run saves.
    """
    try:
        yield
    except (ImageError, DataError, EmbeddingError) as error:
        # from a loader process, the message comes with the traceback of that process
        _, _, wrong = str(error).rpartition(f"{type(error).__name__}: ")
        raise _fault(f"{wrong.strip()}; it has changed since the check", output_dir) from error
    except (OSError, SafetensorError) as error:
        wrong = f"{output_dir}: a file can't be read or written; got {error}; make room, or mend it"
        raise _fault(wrong, output_dir) from error
    except dist.DistError as error:
        raise _lost_process(error, output_dir) from error
    except RuntimeError as error:
        if "DataLoader worker" in str(error):
            wrong = (
                f"a loader process has died; got {str(error).splitlines()[0]}; out of memory is "
                "the usual cause: lower training.dataloader_num_workers"
            )
            raise _fault(wrong, output_dir) from error
        if world_size() > 1 and ("gloo" in str(error) or "NCCL" in str(error)):
            raise _lost_process(error, output_dir) from error
        if isinstance(error, torch.OutOfMemoryError):
            wrong = f"out of memory; got {error}; lower training.tokens_per_micro_batch"
            raise _fault(wrong, output_dir) from error
        raise


def _lost_process(error: RuntimeError, output_dir: Path) -> FaultError:
    wrong = f"another process has ended or hangs; got {str(error).splitlines()[0]}; see its log"
    return _fault(wrong, output_dir)


def _fault(wrong: str, output_dir: Path) -> FaultError:
    steps = saved_steps(output_dir)
    state = f"checkpoint-{steps[-1]} is safe" if steps else "nothing has been saved yet"
    return FaultError(f"{wrong}; then start train.py again ({state})")
