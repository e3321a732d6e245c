"""Does a long run leak? `python -m benchmarks.soak [--minutes 60]` trains the tiny checkpoint.

    train.py on the demo's rows ─ log, /proc ─► samples every few seconds ─► table, three verdicts

The run is an ordinary one in a process of its own: evaluation every 200 steps, a checkpoint every
100, two of which are kept, features of images on disk, one loader process. From outside, this
process reads its memory, open files, CPU time and log, so that measuring changes nothing. At the
end the run gets SIGTERM and must answer it as promised. Exit code 1 if anything isn't flat.

Machines are shared, and a busy one makes even CPU time longer. So the verdict on throughput is
about CPU time a step, in units of a fixed piece of work that this process does beside each sample.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.random_weights import arguments, build_model
from jina.training.checkpointing import complete_checkpoints

ROOT = Path(__file__).parents[1]
SECONDS = 5.0  # between two samples
WARM_SHARE = 1 / 6  # of the run, before which nothing is judged
TABLE_ROWS = 12
GROWTH, SLOWDOWN = 0.01, 0.1  # at most: of memory each 1,000 steps; of CPU time a step
STOPPED = 143
STEP = re.compile(rb"^ +step +(\d+)/", re.MULTILINE)
SETTINGS = {
    "data.vision_cache": "disk",
    "training.eval_steps": 200,
    "training.save_strategy": "steps",
    "training.save_steps": 100,
    "training.save_total_limit": 2,
    "training.max_steps": 10_000_000,  # never reached
    "training.learning_rate": 1e-4,
    "training.logging_steps": 1,
    "training.dataloader_num_workers": 1,
}


@dataclass(frozen=True)
class Sample:
    """A moment of a run.

    Attributes:
        seconds: since its first step.
        step: that it has finished.
        memory: resident, MiB.
        files: open.
        cpu: seconds it has computed, its ended children included.
        yardstick: CPU seconds of a fixed piece of work at that moment.
    """

    seconds: float
    step: int
    memory: float
    files: int
    cpu: float
    yardstick: float


def main() -> int:
    """Run, print table and verdicts, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--json", type=Path, help="write every sample there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        samples, code = soak(Path(name), options.minutes * 60)
        whole = list(complete_checkpoints(Path(name) / "out"))
    if options.json:
        options.json.write_text(json.dumps([vars(sample) for sample in samples]), "utf-8")
    found = verdicts([s for s in samples if s.seconds >= samples[-1].seconds * WARM_SHARE])
    found.append(("stopped by SIGTERM", f"exit code {code}", code == STOPPED))
    found.append(("whole checkpoints at the end", str(len(whole)), len(whole) >= 2))
    words = [f"{'ok' if held else 'NOT OK'}: {what}: {value}" for what, value, held in found]
    sys.stdout.write("\n".join([table(samples), "", *words, ""]))
    return int(not all(held for *_, held in found))


def soak(folder: Path, seconds: float) -> tuple[list[Sample], int]:
    """Train for so long after the first step; return what was seen and the exit code."""
    log = folder / "log"
    with log.open("wb") as stream:
        run = subprocess.Popen(  # noqa: S603 - our own command
            command(folder), cwd=ROOT, stdout=stream, stderr=stream,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        samples: list[Sample] = []
        begin, step = 0.0, 0
        with log.open("rb") as news:
            while not samples or samples[-1].seconds < seconds:
                time.sleep(SECONDS)
                if run.poll() is not None:
                    raise RuntimeError(f"the run has ended:\n{log.read_text('utf-8')[-3000:]}")
                step = max([step, *map(int, STEP.findall(news.read()))])
                begin = begin or (time.monotonic() if step else 0.0)
                if step:
                    samples.append(sample_of(run.pid, time.monotonic() - begin, step))
        run.send_signal(signal.SIGTERM)
        return samples, run.wait(timeout=120)


def command(folder: Path) -> list[str]:
    """Build a tiny checkpoint in a folder and return the command that trains it there."""
    build_model(folder)
    return [sys.executable, "train.py", *arguments(SETTINGS, folder)]


def sample_of(process: int, seconds: float, step: int) -> Sample:
    """Read what the kernel says of a process."""
    proc = Path("/proc") / str(process)
    status = (proc / "status").read_text(encoding="ascii")
    memory = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
    times = (proc / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:15]
    cpu = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
    files = len(list((proc / "fd").iterdir()))
    return Sample(seconds, step, memory, files, cpu, _yardstick())


def verdicts(samples: Sequence[Sample]) -> list[tuple[str, str, bool]]:
    """Return what was judged of the samples behind the warm-up, its figure, and whether it held."""
    steps = np.array([sample.step for sample in samples])
    memory = np.array([sample.memory for sample in samples])
    growth = np.polyfit(steps, memory, 1)[0] * 1000 / np.median(memory)
    third = len(samples) // 3
    first, last = samples[:third], samples[-third:]
    # the fewest: what leaks stays open between steps, too, and evaluating opens more for a while
    files = [min(sample.files for sample in part) for part in (first, last)]
    cost = [_cpu_per_step(part) / _median_yardstick(part) for part in (first, last)]
    slower = cost[1] / cost[0] - 1
    return [
        ("memory, growth each 1,000 steps", f"{growth:+.2%}", growth <= GROWTH),
        ("open files, first and last third", f"{files[0]}, {files[1]}", files[1] <= files[0]),
        ("CPU time a step, last third to first", f"{slower:+.1%}", slower <= SLOWDOWN),
    ]


def table(samples: Sequence[Sample]) -> str:
    """Return a Markdown table, a line for each twelfth of the run."""
    names = (
        "minutes",
        "step",
        "memory MiB",
        "open files",
        "steps / s",
        "CPU ms a step",
        "yardstick ms",
    )
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    size = max(2, len(samples) // TABLE_ROWS)
    for start in range(0, len(samples) - 1, size):
        part = samples[start : start + size + 1]  # one more, so that the parts meet
        first, last = part[0], part[-1]
        speed = (last.step - first.step) / (last.seconds - first.seconds)
        lines.append(
            f"| {first.seconds / 60:.0f}–{last.seconds / 60:.0f} | {last.step:,} "
            f"| {statistics.median(s.memory for s in part):,.1f} | {max(s.files for s in part)} "
            f"| {speed:.2f} | {1000 * _cpu_per_step(part):.0f} "
            f"| {1000 * _median_yardstick(part):.1f} |"
        )
    return "\n".join(lines)


def _cpu_per_step(part: Sequence[Sample]) -> float:
    return (part[-1].cpu - part[0].cpu) / max(1, part[-1].step - part[0].step)


def _yardstick() -> float:
    """Multiply matrices of a few MB, as a step does."""
    matrix, begin = np.ones((512, 512), np.float32), time.process_time()
    for _ in range(10):
        matrix = matrix @ matrix / 512
    return time.process_time() - begin


def _median_yardstick(part: Sequence[Sample]) -> float:
    return statistics.median(sample.yardstick for sample in part)


if __name__ == "__main__":
    sys.exit(main())
