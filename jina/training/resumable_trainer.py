"""transformers' Trainer, saving and resuming with our checkpoints in place of its own.

    every process ─ random numbers ─┐
    adapters, optimizer, schedule ──┴─► first process ─ CheckpointFolder.save ─► checkpoint-N
    checkpoint-N ─ open_checkpoint ─► adapters, optimizer, schedule, position, random numbers

None of transformers' pickled files is written or read. A batch is a function of (seed, epoch,
position), so the position is all there is to remember of the data, and a run that goes on computes
the bits it would have computed without the interruption.
"""

import json
import logging
from collections.abc import Mapping, Sized
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerState, TrainingArguments, set_seed

from jina.models.checkpoint import ADAPTER_WEIGHTS, CheckpointError, read_tensors
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.training.callbacks import DivergedError, refuse_non_finite
from jina.training.checkpointing import (
    LOSS_STATE,
    OPTIMIZER,
    RANDOM,
    STATE,
    TRAINER_STATE,
    CheckpointFolder,
    Contents,
    SaveError,
    StoredCheckpoint,
    complete_checkpoints,
    open_checkpoint,
)
from jina.training.distributed import gather_sizes, gather_stacked, world_size
from jina.training.training_state import (
    optimizer_contents,
    random_state,
    restore_optimizer,
    restore_random_state,
    restore_scheduler,
    stored_tensors,
)

logger = logging.getLogger("smartembed")

SEED_STRIDE = 1_000_003  # between the seeds of processes that have no stored random numbers
ADAM_COPIES = 3  # of the adapters in a checkpoint: weights and two moments


class ResumableTrainer(Trainer):
    """A Trainer of adapters whose checkpoints are complete or not there.

    Args:
        model: with adapters made trainable.
        args: of the run.
        run: what the run is, see `run_identity`; kept in each checkpoint.
        others: as for `Trainer`.

    Attributes:
        temperature: further parameters, trained or not, that a subclass adds.
        batch_sampler: deals the training rows; a subclass adds it, too.
        checkpoints: where they are written.
    """

    model: JinaEmbeddingsV4Model
    temperature: nn.Module
    batch_sampler: Sized

    def __init__(
        self,
        model: JinaEmbeddingsV4Model,
        args: TrainingArguments,
        *,
        run: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        super().__init__(model=model, args=args, **others)
        self.run = dict(run or {})
        self.checkpoints = CheckpointFolder(Path(args.output_dir), limit=args.save_total_limit)
        self._stored: StoredCheckpoint | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train as transformers does.

        Args:
            resume_from_checkpoint: a folder, or True for the newest complete one.
            kwargs: as for `Trainer.train`.

        Raises:
            CheckpointError: there is none, or the one that is named is damaged.
            SaveError: no space for a checkpoint, or one couldn't be written.
        """
        if resume_from_checkpoint is True:
            newest = next(complete_checkpoints(self.checkpoints.path), None)
            if newest is None:
                raise CheckpointError(f"{self.checkpoints.path}: no complete checkpoint to go on")
            resume_from_checkpoint = str(newest.path)
        if self.args.process_index == 0:
            self.checkpoints.path.mkdir(parents=True, exist_ok=True)
            trained = sum(p.nbytes for p in self.model.trained_parameters().values())
            self.checkpoints.require_space(ADAM_COPIES * trained)
        return super().train(resume_from_checkpoint or None, **kwargs)

    def _run_epoch(self, **kwargs: Any) -> None:
        """Run an epoch, unless the last step was done before; transformers would add another."""
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(**kwargs)
        else:
            self.control.should_training_stop = True

    # ---- saving ----------------------------------------------------------------------------

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint in the first process; the others wait, and fail with it.

        Raises:
            DivergedError: weights that aren't finite, which are not saved.
            SaveError: it couldn't be written.
        """
        device = self.args.device
        own = random_state(device)
        states = {name: gather_stacked(own[name], device) for name in sorted(own)}
        failure = None
        if self.args.process_index == 0:
            try:
                self._write(states)
            except (SaveError, DivergedError) as error:
                failure = error
        if any(failed for [failed] in gather_sizes([int(failure is not None)], device)):
            raise failure or SaveError("the first process couldn't save a checkpoint; see its log")

    def _write(self, random_states: Mapping[str, Tensor]) -> None:
        step, best = self.state.global_step, self.state.best_global_step
        if best is not None and (best == step or self._folder(best).is_dir()):
            self.state.best_model_checkpoint = str(self._folder(best))
        contents = self._contents(random_states)
        for name in (ADAPTER_WEIGHTS, LOSS_STATE, OPTIMIZER):
            refuse_non_finite(contents[name], f"step {step}")
        self.checkpoints.save(step, contents, self.run, best=best)

    def _contents(self, random_states: Mapping[str, Tensor]) -> Contents:
        tensors, optimizer = optimizer_contents(self._plain_optimizer(), self._names())
        epoch, batch = self._position()
        return {
            ADAPTER_WEIGHTS: self.model.trained_parameters(),
            LOSS_STATE: dict(self.temperature.named_parameters()),
            OPTIMIZER: tensors,
            RANDOM: random_states,
            STATE: {
                "optimizer": optimizer,
                "scheduler": self.lr_scheduler.state_dict(),
                "data": {"epoch": epoch, "updates_in_epoch": batch},
            },
            # not `asdict`, which copies a log of every step; a path is for the day it is read
            TRAINER_STATE: {
                **{field.name: getattr(self.state, field.name) for field in fields(TrainerState)},
                "best_model_checkpoint": None,
            },
        }

    # ---- resuming --------------------------------------------------------------------------

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        """Check all of a checkpoint and take the weights from it."""
        self._stored = open_checkpoint(Path(resume_from_checkpoint))
        agreed = gather_sizes([self._stored.step], self.args.device)
        if len({step for [step] in agreed}) > 1:
            raise CheckpointError(f"processes see different checkpoints; got steps {agreed}")
        _check_trainer_state(self._stored)
        self._load_weights(self._stored.path)

    def _load_weights(self, folder: Path) -> None:
        self.model.load_adapters(folder / ADAPTER_WEIGHTS, *self.model.trained_tasks)
        shapes = {name: p.shape for name, p in self.temperature.named_parameters()}
        self.temperature.load_state_dict(read_tensors((folder / LOSS_STATE,), shapes))

    def _load_best_model(self) -> None:
        self._load_weights(open_checkpoint(self._folder(self.state.best_global_step)).path)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Restore both; in a run whose training settings have changed, with the new settings."""
        if checkpoint is None or self._stored is None:
            return
        try:
            self._restore(self._stored)
        except CheckpointError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            wrong = f"not what a run saves; got {type(error).__name__}: {error}; not used"
            raise CheckpointError(f"{self._stored.path / STATE}: {wrong}") from error

    def _restore(self, stored: StoredCheckpoint) -> None:
        values = json.loads((stored.path / STATE).read_text(encoding="utf-8"))
        changed = _settings_of(stored.run) != _settings_of(self.run)
        restore_optimizer(
            self._plain_optimizer(),
            self._names(),
            stored_tensors(stored.path / OPTIMIZER),
            values["optimizer"],
            where=stored.path,
            keep_settings=changed,
        )
        restore_scheduler(
            self.lr_scheduler,
            values["scheduler"],
            where=stored.path,
            replayed_steps=stored.step if changed else None,
        )
        self._restore_references(values["data"], is_same_run=stored.run == self.run)

    def _restore_references(self, position: Mapping[str, int], *, is_same_run: bool) -> None:
        """Put right what transformers takes from the file: intervals are today's, paths ours."""
        self.state.compute_steps(self.args, self.state.max_steps)
        best = self.state.best_global_step
        is_there = best is not None and self._folder(best).is_dir()
        self.state.best_model_checkpoint = str(self._folder(best)) if is_there else None
        stored = (position["epoch"], position["updates_in_epoch"])
        if is_same_run and stored != self._position():
            raise CheckpointError(
                f"{self._stored.path / STATE}: another place in the data; got epoch and update "
                f"{stored} instead of {self._position()}; not used"
            )

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        file = Path(checkpoint) / RANDOM
        states, current = stored_tensors(file), random_state(self.args.device)
        for name in current.keys() & {*states, "torch"}:
            if name not in states or states[name].shape[1:] != current[name].shape:
                raise CheckpointError(f"{file}: {name}: not the state of a generator; not used")
        rank = self.args.process_index
        if len(states["torch"]) == world_size():
            own = {name: rows[rank] for name, rows in states.items()}
            try:
                restore_random_state({**current, **own})
            except (RuntimeError, ValueError, TypeError, OverflowError) as error:
                wrong = f"not the state of a generator; got {error}; not used"
                raise CheckpointError(f"{file}: {wrong}") from error
        else:
            set_seed((self.args.seed + self.state.global_step + SEED_STRIDE * rank) % 2**32)

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Do nothing: training in float16, which needs one, isn't supported."""

    # ---- shared ----------------------------------------------------------------------------

    def _folder(self, step: int) -> Path:
        return self.checkpoints.path / f"checkpoint-{step}"

    def _plain_optimizer(self) -> torch.optim.Optimizer:
        return getattr(self.optimizer, "optimizer", self.optimizer)  # without accelerate's wrapping

    def _names(self) -> dict[nn.Parameter, str]:
        """Return the names under which parameters' optimizer states are stored."""
        named = [*self.model.named_parameters(), *self.temperature.named_parameters("temperature")]
        return {parameter: name for name, parameter in named}

    def _position(self) -> tuple[int, int]:
        """Return the epoch, and the updates in it, that are done."""
        updates = -(-len(self.batch_sampler) // self.args.gradient_accumulation_steps)
        return divmod(self.state.global_step, updates)


def _check_trainer_state(stored: StoredCheckpoint) -> None:
    """Raise `CheckpointError` unless transformers can take its state, of the right step."""
    file = stored.path / TRAINER_STATE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not valid JSON; got {error}; not used") from error
    names = {field.name for field in fields(TrainerState)}
    if not isinstance(values, dict) or values.keys() != names:
        raise CheckpointError(f"{file}: not what this version of transformers saves; not used")
    if values["global_step"] != stored.step:
        raise CheckpointError(f"{file}: of another step; got {values['global_step']}; not used")


def _settings_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a run's settings the optimizer and the schedule follow."""
    return {name: value for name, value in run.items() if name.startswith("training.")}
