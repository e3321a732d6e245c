"""Runs in child processes that can be killed, on a model that is loaded once and shared by forks.

    parent: model and rows in memory ─ fork ─► child: newest checkpoint, training ─► digests

A child starts in no time and is a process of its own: what it hasn't written is lost with it.
Every child draws its random numbers from another seed before it resumes, so that what comes out
equal was restored and not repeated.
"""

import gc
import hashlib
import json
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, set_seed

from jina.data.data_collator import ContrastiveDataCollator
from jina.data.multimodal_dataset import MultimodalDataset
from jina.models import tiny_checkpoint
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.training.checkpointing import SaveError
from jina.training.config_sections import DataSection, LossSection, LossWeights, TrainingSection
from jina.training.jina_trainer import JinaEmbeddingTrainer
from jina.training.output_folder import StartOptions, choose_start
from jina.training.stopping import FaultError, StopOnSignal, StoppedError, faults_explained
from jina.training.training_config import JinaTrainingConfig
from jina.training.training_state import optimizer_contents

MEMORY = Path("/dev/shm")  # noqa: S108 - a kill needs no disk, and flushing one takes time
TIMEOUT = 60  # seconds; a child that takes longer hangs
FINAL, ERROR = "final.json", "error.txt"

Prepare = Callable[[JinaEmbeddingTrainer], object]


@dataclass(frozen=True)
class Recipe:
    """How a run trains; every value matters to its result but the number of workers."""

    steps: int = 6
    seed: int = 0
    dropout: float = 0.1
    workers: int = 0
    accumulation: int = 1
    tokens: int | None = None
    limit: int | None = 2
    tasks: tuple[str, ...] = ("retrieval",)
    strategy: str = "steps"

    @property
    def identity(self) -> dict[str, Any]:
        """What stands in the manifest."""
        return {"seed": self.seed, "dropout": self.dropout, "accumulation": self.accumulation}


@dataclass
class Laboratory:
    """Forks runs, kills them and looks at what they leave.

    Attributes:
        model: loaded; children train their copies.
        datasets: rows of the tasks that a recipe trains.
        hangs: children that had to be ended.
    """

    model: JinaEmbeddingsV4Model
    datasets: dict[tuple[str, ...], MultimodalDataset]
    hangs: int = field(default=0)

    def trainer(self, recipe: Recipe, folder: Path) -> JinaEmbeddingTrainer:
        """Build what a child trains with."""
        section = TrainingSection(
            report_to="none",
            output_dir=str(folder),
            use_cpu=True,
            disable_tqdm=True,
            learning_rate=1e-3,
            warmup_steps=0.0,
            per_device_train_batch_size=2,
            max_steps=recipe.steps,
            seed=recipe.seed,
            save_strategy=recipe.strategy,
            save_steps=1.0,
            save_total_limit=recipe.limit,
            dataloader_num_workers=recipe.workers,
            gradient_accumulation_steps=recipe.accumulation,
            tokens_per_micro_batch=recipe.tokens,
        )
        dataset = self.datasets[recipe.tasks]
        config = JinaTrainingConfig(
            data=DataSection(train=str(dataset.files[0]), eval=None), training=section
        )
        set_seed(recipe.seed)
        self.model.trained_tasks = ()  # of another test's trainer in this process
        self.model.train_adapters(*recipe.tasks, dropout=recipe.dropout)
        return JinaEmbeddingTrainer(
            self.model,
            config.training_arguments(bf16=False),
            run=recipe.identity,
            loss=LossSection(weights=LossWeights(multi=0.0, kl=0.0), learn_temperature=True),
            data=config.data,
            train_dataset=dataset,
            micro_batches=section,
            data_collator=ContrastiveDataCollator(self.model.processor, max_text_tokens=32),
        )

    def start(self, recipe: Recipe, folder: Path, prepare: Prepare | None = None) -> int:
        """Fork a run into a folder, going on from what is there, and return its process."""
        folder.mkdir(parents=True, exist_ok=True)
        child = os.fork()
        if child:
            return child
        gc.freeze()  # what the parent has need not be searched for garbage
        code = 70
        try:
            self._run(recipe, folder, prepare)
            code = 0
        except StoppedError as stop:
            code = stop.exit_code
        except (SaveError, FaultError, KeyboardInterrupt) as error:
            code = 130 if isinstance(error, KeyboardInterrupt) else 4
            (folder.parent / ERROR).write_text(str(error))
        except BaseException:
            (folder.parent / ERROR).write_text(traceback.format_exc())
        finally:
            os._exit(code)

    def _run(self, recipe: Recipe, folder: Path, prepare: Prepare | None) -> None:
        start = choose_start(folder, recipe.identity, StartOptions())
        trainer = self.trainer(recipe, folder)
        trainer.add_callback(_RowLog(trainer, folder))
        if start is not None:
            set_seed(os.getpid())
        if prepare is not None:
            prepare(trainer)
        with StopOnSignal() as stop, faults_explained(folder):
            trainer.add_callback(stop)
            trainer.train(None if start is None else str(start.path))
        (folder / FINAL).write_text(json.dumps(digests(trainer)))

    def wait(self, child: int) -> int:
        """Return a child's exit code, or minus the signal that ended it."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        self.hangs += 1
        os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def finish(self, recipe: Recipe, folder: Path, prepare: Prepare | None = None) -> dict:
        """Run to the end and return the digests of what it ended with."""
        code = self.wait(self.start(recipe, folder, prepare))
        assert code == 0, self.error(folder) or code
        return json.loads((folder / FINAL).read_text())

    def error(self, folder: Path) -> str:
        """Return what the last run that failed said."""
        file = folder.parent / ERROR
        return file.read_text() if file.exists() else ""

    def kill_after(self, recipe: Recipe, folder: Path, seconds: float) -> int:
        """Start a run, kill it after a while and return how it ended."""
        child = self.start(recipe, folder)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        return self.wait(child)


def build_laboratory(folder: Path) -> Laboratory:
    """Build a laboratory of a model with one layer and eight rows of three tasks, in a folder."""
    layers, depth = ("num_hidden_layers", 1), ("depth", 1)
    whole = [{**tiny_checkpoint.TEXT_CONFIG}, {**tiny_checkpoint.VISION_CONFIG}]
    tiny_checkpoint.TEXT_CONFIG.update([layers])
    tiny_checkpoint.VISION_CONFIG.update([depth])
    tiny_checkpoint.build_tiny_checkpoint(folder / "model", ["a red square"], seed=0)
    tiny_checkpoint.TEXT_CONFIG.update(whole[0])
    tiny_checkpoint.VISION_CONFIG.update(whole[1])
    model = JinaEmbeddingsV4Model.from_pretrained(folder / "model", device="cpu", dtype="float32")
    datasets = {}
    for tasks in (("retrieval",), ("retrieval", "code")):
        rows = [
            {
                "query": f"query {i}",
                "positive": f"positive {i}",
                "negative": ["a", "b", "c"][: i % 3],
                "task": tasks[i % len(tasks)],
            }
            for i in range(8)
        ]
        file = folder / f"{len(tasks)}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        datasets[tasks] = MultimodalDataset(file)
    return Laboratory(model, datasets)


class _RowLog(TrainerCallback):
    """Write down the rows of each step as they are dealt: the last word on a step counts."""

    def __init__(self, trainer: JinaEmbeddingTrainer, folder: Path) -> None:
        self._seen: list[list[int]] = []
        self._file = order_file(folder)
        step = trainer.compute_loss

        def noting(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            self._seen.append(inputs["query_identities"].tolist())
            return step(model, inputs, *args, **kwargs)

        trainer.compute_loss = noting

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Append the step's rows."""
        with self._file.open("a") as stream:
            stream.write(json.dumps([state.global_step, self._seen]) + "\n")
        self._seen.clear()


def order_file(folder: Path) -> Path:
    """Return where the rows of a run's steps are written, beside its folder."""
    return folder.with_name(f"{folder.name}.order")


def row_order(folder: Path) -> dict[int, Any]:
    """Return the rows of each step; of one that was run twice, the last time."""
    lines = order_file(folder).read_text().splitlines()
    whole = [line for line in lines if line.endswith("]]]")]  # a kill may tear the last one
    return dict(json.loads(line) for line in whole)


def digests(trainer: JinaEmbeddingTrainer) -> dict[str, str]:
    """Return digests of all that a run has computed."""
    tensors, values = optimizer_contents(trainer._plain_optimizer(), trainer._names())
    weights = {**trainer.model.trained_parameters(), "temperature": trainer.temperature()}
    return {
        "weights": _digest(weights),
        "optimizer": _digest(tensors),
        "settings": json.dumps(values),
        "schedule": json.dumps(trainer.lr_scheduler.state_dict()),
    }


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].detach().numpy().tobytes())
    return digest.hexdigest()
