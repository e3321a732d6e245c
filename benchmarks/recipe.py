"""What the parts of the recipe are worth on held-out rows: `python -m benchmarks.recipe`.

Trains the tiny checkpoint on the demo's rows with the same settings and other losses, each with
several seeds, and ranks the held-out rows, image to text and text to image:

- plain: single vectors only, whole ones;
- matryoshka: single vectors only, of every size;
- joint: single vectors of every size and token vectors, and the divergence between the two.

Prints mean and range over seeds of Recall@10, in percent. Needs what `make demo` builds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

LOSSES = {
    "plain": ["loss.weights={single: 1, multi: 0, kl: 0}", "loss.matryoshka_dims=[]"],
    "matryoshka": ["loss.weights={single: 1, multi: 0, kl: 0}"],
    "joint": [],
}
DEMO = Path("data/demo")
MAX_PIXELS = "12544"  # of demo_config.yaml

Recalls = dict[str, list[float]]  # of each kind and size of vector, run by run


def main() -> None:
    """Train, rank and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, help="instead of the demo's")
    options = parser.parse_args()
    table: dict[str, Recalls] = {}
    for name, loss in LOSSES.items():
        table[name] = {}
        for seed in range(options.seeds):
            epochs = [f"training.num_train_epochs={options.epochs}"] if options.epochs else []
            for vector, recall in held_out_recall([*loss, *epochs], seed).items():
                table[name].setdefault(vector, []).append(recall)
    vectors = list(next(iter(table.values())))
    lines = [["loss", *vectors]]
    lines += [[name, *(cell(recalls[v]) for v in vectors)] for name, recalls in table.items()]
    for line in lines:
        sys.stdout.write("| " + " | ".join(line) + " |\n")


def held_out_recall(settings: list[str], seed: int) -> dict[str, float]:
    """Train once, and return Recall@10 of each kind and size of vector, mean of both directions."""
    with tempfile.TemporaryDirectory() as folder:
        model, figures = Path(folder, "model"), Path(folder, "figures")
        settings = [
            *settings,
            f"training.seed={seed}",
            f"training.output_dir={model}",
            "training.save_strategy=no",
            "training.eval_strategy=no",
            "training.eval_on_start=false",
        ]
        flags = [flag for setting in settings for flag in ("--set", setting)]
        run("train.py", "--config", f"{DEMO}/demo_config.yaml", *flags)
        rows = ["--data", f"{DEMO}/eval.jsonl", "--direction", "both", "--max-pixels", MAX_PIXELS]
        run("-m", "jina", "evaluate", "--model", f"{model}", "--output", f"{figures}", *rows)
        results = json.loads((figures / "metrics.json").read_text(encoding="utf-8"))["results"]
    found: dict[str, list[float]] = {}
    for result in results:
        recall = result["metrics"]["recall@10"]["value"]
        found.setdefault(f"{result['vectors']} {result['size']}", []).append(recall)
    return {vector: mean(recalls) for vector, recalls in found.items()}


def run(*arguments: str) -> None:
    """Run Python on one thread; show what it said if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603 - our own commands
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def cell(recalls: list[float]) -> str:
    """Return mean and range, in percent."""
    low, high = min(recalls), max(recalls)
    return f"{mean(recalls):.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
