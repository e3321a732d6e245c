"""How memory grows with the batch under gradient caching: `python -m benchmarks.batch_memory`.

Takes two steps of `train.py` on the demo's rows, repeated under other captions, with 32 and with
1,024 pairs a batch, each in a fresh process of one thread. Prints by how many MiB the peak memory
of the larger batch is higher: with the single-vector loss, with the joint loss, and without
gradient caching.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.random_weights import DEMO, arguments, build_model, demo_rows
from train import main as train

SMALL, LARGE = 32, 1024
SINGLE = {"loss.weights": "{single: 1, multi: 0, kl: 0}"}
VARIANTS = {
    "single vectors": SINGLE,
    "joint": {},
    "single vectors, one graph": {**SINGLE, "training.tokens_per_micro_batch": "null"},
}


def main() -> None:
    """Measure each variant at both batch sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens-per-micro-batch", type=int, default=1024)
    # what a child is started with: the arguments of `train.py`
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if train(options.child):
            sys.exit("the run failed")
        sys.stdout.write(f"\n{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = write_rows(Path(folder))
        build_model(Path(folder))
        for name, settings in VARIANTS.items():
            micro = {"training.tokens_per_micro_batch": options.tokens_per_micro_batch}
            few, many = (
                peak_mib(rows, {**micro, **settings, "training.per_device_train_batch_size": size})
                for size in (SMALL, LARGE)
            )
            growth = f"{few:,.0f} MiB with {SMALL} pairs, {many - few:+,.0f} MiB with {LARGE}"
            sys.stdout.write(f"{name:<28} {growth}\n")


def write_rows(folder: Path) -> Path:
    """Repeat the demo's rows under other captions, until there are enough for a large batch."""
    rows = demo_rows()
    file = folder / "rows.jsonl"
    with file.open("w", encoding="utf-8") as stream:
        for number in range(2 * LARGE):
            row = rows[number % len(rows)]
            again = {**row, "positive": f"{row['positive']} {number // len(rows)}"}
            stream.write(json.dumps(again) + "\n")
    return file


def peak_mib(rows: Path, settings: Mapping[str, object]) -> float:
    """Return the peak resident memory of a process that takes two steps, in MiB."""
    settings = {
        "data.train": rows,
        "data.eval": "null",
        "data.image_base_dir": DEMO,
        "training.eval_strategy": "no",
        "training.eval_on_start": "false",
        "training.save_strategy": "no",
        "training.max_steps": 2,
        **settings,
    }
    run = [*arguments(settings, rows.parent), "--overwrite"]
    child = ["-m", "benchmarks.batch_memory", "--child", *run]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, *child], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return int(done.stdout.split()[-1]) / 1024


if __name__ == "__main__":
    main()
