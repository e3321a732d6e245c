"""What a benchmark measures of a process, how it repeats it, and the table it prints.

A variant runs in a fresh process of one thread. CPU time is counted, not wall time, because
machines are shared; peak memory is counted from where the model is loaded. Variants take turns, so
that a slow minute hits them all. Imports nothing of SmartEmbed: rivals' processes use it, too.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from transformers import TrainerCallback, trainer

ROOT = Path(__file__).parents[1]


class Meter:
    """CPU seconds and peak memory of this process, from its start or `reset` on."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start counting here."""
        self.forget_peak()
        self._before = _status_mib("VmRSS")
        self._start = time.process_time()

    def forget_peak(self) -> None:
        """Let the peak be that of what comes, above the same start."""
        Path("/proc/self/clear_refs").write_text("5")  # resets the kernel's high-water mark

    def cpu_seconds(self) -> float:
        """Return the CPU time since the start, of all threads."""
        return time.process_time() - self._start

    def peak_mib(self) -> float:
        """Return how far memory has risen at most above where it was at the start."""
        return _status_mib("VmHWM") - self._before


class StepTimer(TrainerCallback):
    """Watches any transformers `Trainer` and writes what its steps took.

    Args:
        warm_steps: the first steps, which aren't counted.
        pairs: of a step.
        result: the JSON file to write.
    """

    def __init__(self, warm_steps: int, pairs: int, result: Path) -> None:
        self.warm_steps, self.pairs, self.result = warm_steps, pairs, result
        self.ends: list[float] = []
        self.losses: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Count from here: the model is loaded."""
        self.meter = Meter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note when a step ended; memory counts behind the warm ones, too."""
        self.ends.append(self.meter.cpu_seconds())
        if len(self.ends) == self.warm_steps:
            self.meter.forget_peak()

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        """Note the loss, which shows whether variants compute the same."""
        self.losses += [logs[name] for name in ("contrastive_loss", "loss") if name in logs]

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Write the figures."""
        seconds = self.ends[-1] - self.ends[self.warm_steps - 1]
        figures = {
            "pairs_per_cpu_second": self.pairs * (len(self.ends) - self.warm_steps) / seconds,
            "peak_mib": self.meter.peak_mib(),
            "first_loss": self.losses[0],
        }
        self.result.write_text(json.dumps(figures), encoding="utf-8")


def watch_trainer(errand: dict[str, Any]) -> None:
    """Have every `Trainer` made from here on watched, whoever makes it."""
    timer = StepTimer(errand["warm_steps"], errand["batch_size"], Path(errand["result"]))
    trainer.DEFAULT_CALLBACKS.append(timer)


def run_errand(python: str, module: str, errand: dict[str, Any]) -> dict[str, float]:
    """Run `python -m module ERRAND` with one thread and return the figures it wrote.

    Raises:
        RuntimeError: with the end of what it said before it failed.
    """
    result = Path(errand["result"])
    result.unlink(missing_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(  # noqa: S603 - our own command
        [python, "-m", module, json.dumps(errand)],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode or not result.exists():
        raise RuntimeError(f"{module} {errand['variant']}:\n{(done.stdout + done.stderr)[-3000:]}")
    return json.loads(result.read_text(encoding="utf-8"))


def errand_of_this_process() -> dict[str, Any]:
    """Return what `run_errand` asks of the process at hand."""
    return json.loads(sys.argv[1])


def read_batches(workload: Path) -> dict[str, Any]:
    """Return a workload's rows, images and texts with their prompts, in the order of train.py."""
    return json.loads((workload / "batches.json").read_text(encoding="utf-8"))


def write_vectors(errand: dict[str, Any], meter: Meter, vectors: np.ndarray) -> None:
    """Write what embedding took, and the vectors (N, H) beside it."""
    result = Path(errand["result"])
    figures = {
        "items_per_cpu_second": len(vectors) / meter.cpu_seconds(),
        "peak_mib": meter.peak_mib(),
    }
    np.save(result.with_suffix(".npy"), vectors)
    result.write_text(json.dumps(figures), encoding="utf-8")


def interleave(
    variants: Sequence[str], repeats: int, run: Callable[[str], dict[str, float]]
) -> dict[str, list[dict[str, float]]]:
    """Run the variants in turns; one that fails is said, and left out from there on."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name in list(runs):
            try:
                runs[name].append(run(name))
            except RuntimeError as error:
                sys.stderr.write(f"{error}\n{name}: left out\n")
                del runs[name]
    return runs


def summary(
    runs: dict[str, list[dict[str, float]]], *, speed: str, baseline: str
) -> list[dict[str, Any]]:
    """Return for each variant median and range of its speed, its ratio and its peak memory.

    Args:
        runs: figures of each run.
        speed: the name of the figure that counts work a second.
        baseline: the variant that others are compared with, if it ran.
    """
    rows = []
    unit = median(run[speed] for run in runs[baseline]) if runs.get(baseline) else None
    for name, figures in runs.items():
        speeds = [run[speed] for run in figures]
        row = {
            "variant": name,
            "runs": len(figures),
            speed: median(speeds),
            "range": [min(speeds), max(speeds)],
            "ratio": median(speeds) / unit if unit else None,
            "peak_mib": median(run["peak_mib"] for run in figures),
        }
        if "first_loss" in figures[0]:
            row["first_loss"] = figures[0]["first_loss"]
        rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]], *, speed: str, baseline: str) -> str:
    """Return a Markdown table of a `summary`."""
    title = speed.replace("_per_", " / ").replace("_", " ")
    loss = any("first_loss" in row for row in rows)
    lines = [f"| variant | runs | {title}, median (range) | x {baseline} | peak MiB |"]
    lines = [lines[0] + (" first loss |" if loss else ""), "|---" * (5 + loss) + "|"]
    for row in rows:
        low, high = row["range"]
        ratio = f"{row['ratio']:.2f}" if row["ratio"] else "-"
        line = f"| {row['variant']} | {row['runs']} | {row[speed]:.2f} ({low:.2f}-{high:.2f})"
        line += f" | {ratio} | {row['peak_mib']:,.0f} |"
        lines.append(line + (f" {row['first_loss']:.4f} |" if "first_loss" in row else ""))
    return "\n".join(lines)


def _status_mib(name: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status: no {name}; this runs on Linux")
