"""How memory grows with the batch under gradient caching: `python -m benchmarks.batch_memory`.

Takes two steps of `train.py` on the demo's rows, repeated under other captions, with 32 and with
1,024 pairs a batch, each in a fresh process of one thread. Prints by how many MiB the peak memory
of the larger batch is higher: with the single-vector loss, with the joint loss, and without
gradient caching. Needs what `make demo` builds.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from train import main as train

DEMO = Path("data/demo")
SMALL, LARGE = 32, 1024
SINGLE = "loss.weights={single: 1, multi: 0, kl: 0}"
VARIANTS = {
    "single vectors": [SINGLE],
    "joint": [],
    "single vectors, one graph": [SINGLE, "training.tokens_per_micro_batch=null"],
}


def main() -> None:
    """Measure each variant at both batch sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens-per-micro-batch", type=int, default=1024)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)  # a child's own errand
    options = parser.parse_args()
    if options.child:
        train([argument for setting in options.child for argument in split(setting)])
        sys.stdout.write(f"\n{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = write_rows(Path(folder))
        for name, settings in VARIANTS.items():
            micro = f"training.tokens_per_micro_batch={options.tokens_per_micro_batch}"
            few, many = (
                peak_mib(rows, [micro, *settings, f"training.per_device_train_batch_size={size}"])
                for size in (SMALL, LARGE)
            )
            growth = f"{few:,.0f} MiB with {SMALL} pairs, {many - few:+,.0f} MiB with {LARGE}"
            sys.stdout.write(f"{name:<28} {growth}\n")


def write_rows(folder: Path) -> Path:
    """Repeat the demo's rows under other captions, until there are enough for a large batch."""
    lines = (DEMO / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    file = folder / "rows.jsonl"
    with file.open("w", encoding="utf-8") as stream:
        for number in range(2 * LARGE):
            row = rows[number % len(rows)]
            again = {**row, "positive": f"{row['positive']} {number // len(rows)}"}
            stream.write(json.dumps(again) + "\n")
    return file


def peak_mib(rows: Path, settings: list[str]) -> float:
    """Return the peak resident memory of a process that takes two steps, in MiB."""
    settings = [
        f"data.train={rows}",
        "data.eval=null",
        f"data.image_base_dir={DEMO}",
        "training.eval_strategy=no",
        "training.eval_on_start=false",
        "training.save_strategy=no",
        "training.max_steps=2",
        f"training.output_dir={rows.parent / 'out'}",
        *settings,
    ]
    command = [sys.executable, "-m", "benchmarks.batch_memory", "--child", *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603 - our own command
        command, env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1]) / 1024


def split(setting: str) -> list[str]:
    """Return a setting as an argument of `train.py`, the demo's configuration before the first."""
    config = (
        ["--config", "benchmarks/random_weights.yaml"] if setting.startswith("data.train=") else []
    )
    return [*config, "--set", setting]


if __name__ == "__main__":
    main()
