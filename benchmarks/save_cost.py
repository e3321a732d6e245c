"""What a safe save costs: `python -m benchmarks.save_cost [--folder DIR]`, as a share of the run.

    train.py on the demo's rows ─► seconds of a step, of a save ─► share at `training.save_steps`
    a checkpoint of the true size, written once and read ─► seconds ─► shortest step for 5 %

The first part is a run of the demo, with a checkpoint every 10 steps and the share counted for the
default interval. The second writes the tensors that training one adapter of the real model has, in
float32 with both moments, by the same writer: staged, SHA-256, fsync, renamed. No real step can be
measured here; so it says from which length of a step on the save stays below 5 %, and what a step
of the default batch takes on an H100 at the full speed of its data sheet, which is the least, and
at the share of that speed which training usually comes to.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import train
from benchmarks.random_weights import arguments, build_model
from jina.models.checkpoint import ADAPTER_WEIGHTS
from jina.models.flops import PEAK_TFLOPS, TERA, StepFlops
from jina.training.checkpointing import (
    LOSS_STATE,
    OPTIMIZER,
    RANDOM,
    STATE,
    TRAINER_STATE,
    CheckpointFolder,
    open_checkpoint,
)
from jina.training.config_sections import TrainingSection
from jina.training.jina_trainer import JinaEmbeddingTrainer
from jina.training.training_state import random_state

INTERVAL = int(TrainingSection().save_steps)
STEPS, SAVE_STEPS, LIMIT = 60, 10, 0.05
ADAPTER = 59_936_768  # parameters of one, tests/models/test_true_size.py
# The real model: weights that a token is multiplied with; a picture has 768 tokens, a text 30.
TRUE = StepFlops(decoder=2_774_532_096, adapter=59_867_136, attention=73_728, vision=640_645_120,
                 patches_per_token=4)  # fmt: skip
PICTURE, TEXT, GPU, USUAL = 768, 30, "H100", 0.4


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default: /tmp's")
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    for part in (demo_lines, true_size_lines):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            sys.stdout.write("\n".join([*part(Path(name)), ""]))


class Clock:
    """Wall and CPU seconds of each call of a function."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            """Call the function, and note how long it took."""
            wall, cpu = time.perf_counter(), time.process_time()
            result = call(*args, **kwargs)
            self.wall.append(time.perf_counter() - wall)
            self.cpu.append(time.process_time() - cpu)
            return result

        return timed


def demo_lines(folder: Path) -> list[str]:
    """Train the demo for a while, time its saves, and describe the share."""
    build_model(folder)
    settings = {
        "data.eval": "null",
        "training.eval_strategy": "no",
        "training.max_steps": STEPS,
        "training.save_strategy": "steps",
        "training.save_steps": SAVE_STEPS,
        "training.save_total_limit": 2,
    }
    saves, runs = Clock(), Clock()
    JinaEmbeddingTrainer._save_checkpoint = saves.around(JinaEmbeddingTrainer._save_checkpoint)
    JinaEmbeddingTrainer.train = runs.around(JinaEmbeddingTrainer.train)
    if train.main(arguments(settings, folder)):
        raise RuntimeError("the run failed, see above")
    newest = folder / f"out/checkpoint-{STEPS}"
    size = sum(file.stat().st_size for file in newest.rglob("*") if file.is_file())
    lines = [f"demo: a checkpoint of {size / 2**20:.1f} MiB"]
    for unit in ("wall", "cpu"):
        save = statistics.median(getattr(saves, unit))
        step = (getattr(runs, unit)[0] - sum(getattr(saves, unit))) / STEPS
        share = save / (INTERVAL * step)
        lines.append(
            f"  {unit}: a save {save:.3f} s, a step {step:.3f} s; "
            f"every {INTERVAL} steps {share:.2%}"
        )
    return lines


def true_size_lines(folder: Path) -> list[str]:
    """Write and read a checkpoint of the true size, and say what that means for a run."""
    contents = {
        ADAPTER_WEIGHTS: {"adapter": torch.randn(ADAPTER)},
        LOSS_STATE: {},
        OPTIMIZER: {f"adapter|{name}": torch.randn(ADAPTER) for name in ("exp_avg", "exp_avg_sq")},
        RANDOM: {name: state[None] for name, state in random_state(torch.device("cpu")).items()},
        STATE: {},
        TRAINER_STATE: {},
    }
    save, read = Clock(), Clock()
    save.around(CheckpointFolder(folder, limit=1).save)(1, contents, {})
    path = folder / "checkpoint-1"
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    read.around(open_checkpoint)(path)
    least = TRUE.step([PICTURE] * 32 + [TEXT] * 32, 32 * PICTURE) / PEAK_TFLOPS[GPU] / TERA
    share, enough = save.wall[0] / (INTERVAL * least), save.wall[0] / (INTERVAL * LIMIT)
    usual = f"{share * USUAL:.1%} at {USUAL:.0%} of it"
    return [
        f"true size: {size / 1e6:,.0f} MB; a save {save.wall[0]:.2f} s (CPU {save.cpu[0]:.2f} s), "
        f"{size / 1e6 / save.wall[0]:,.0f} MB/s; reading it {read.wall[0]:.2f} s",
        f"  below {LIMIT:.0%} every {INTERVAL} steps if a step takes {enough:.3f} s or more",
        f"  32 pictures with texts need {least:.2f} s a step on a {GPU} at its data sheet's full "
        f"speed: {share:.1%} at most; {usual}",
    ]


if __name__ == "__main__":
    main()
