"""What the parts of the recipe are worth on held-out pictures: `python -m benchmarks.recipe`.

Trains the tiny Jina on the demo's rows with several seeds, and ranks the held-out ones, words for
pictures and pictures for words. What changes from line to line:

- the loss: single vectors whole; of every size; and with token vectors (joint, as in the demo);
- hard negatives, two a row: random pictures, or those mined with a model that `joint` trained;
- batches of 100, where a quarter of the rows meet the other drawing of the same thing unless rows
  with one content are kept apart and masked: both, or neither.

Prints nDCG@10, mean and range over seeds, of each kind and size of vector, then recall@10, and for
each seed of `joint` the change of nDCG@10 with its 95 % interval.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

TINY = "data/tiny_jina"
ROWS = Path("data/demo/turkish")
CONFIG = "examples/new_language/config.yaml"
MAX_PIXELS = "12544"  # of the configuration
METRIC, RECALL = "ndcg@10", "recall@10"
ALONE = "loss.weights={single: 1, multi: 0, kl: 0}"
LARGE = "training.per_device_train_batch_size=100"
TRAIN, UNMASKED = ("train.py",), ("-m", "benchmarks.unmasked")

Results = list[dict]  # of `metrics.json`


def main() -> None:
    """Train, rank and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, help="instead of the demo's")
    options = parser.parse_args()
    epochs = [f"training.num_train_epochs={options.epochs}"] if options.epochs else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        evaluate(TINY, folder / "before")
        before = read(folder / "before")
        vectors = list(dict.fromkeys(label(result) for result in before))
        lines: dict[str, list[Results]] = {"before": [before]}
        write_line([METRIC, *vectors])
        write_line(["before", *cells(lines["before"], vectors, METRIC)])
        for variant, program, settings in variants(folder, epochs):
            lines[variant] = [
                held_out(program, [*settings, *epochs, f"training.seed={seed}"], folder)
                for seed in range(options.seeds)
            ]
            write_line([variant, *cells(lines[variant], vectors, METRIC)])
    write_line([RECALL, *vectors])
    for variant, runs in lines.items():
        write_line([variant, *cells(runs, vectors, RECALL)])
    for seed, results in enumerate(lines["joint"]):
        for result in results:
            change = result["difference"][METRIC]
            sys.stdout.write(
                f"joint, seed {seed}: {label(result)}{' reversed' * result['reversed']} "
                f"{change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]\n"
            )


def variants(
    folder: Path, epochs: Sequence[str]
) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
    """Yield each variant's name, program and settings; mines when it comes to that."""
    yield "single, whole", TRAIN, [ALONE, "loss.matryoshka_dims=[]"]
    yield "single, every size", TRAIN, [ALONE]
    yield "joint", TRAIN, []
    train(TRAIN, [*epochs, "training.seed=0"], folder / "miner")
    mined, drawn = folder / "mined.jsonl", folder / "random.jsonl"
    rows = ["--negatives", "2", "--max-pixels", MAX_PIXELS, "--cache", f"{folder}/cache"]
    run("-m", "jina", "mine", f"{ROWS}/train.jsonl", "--model", f"{folder}/miner", *rows,
        "--image-base-dir", f"{ROWS}", "--output", f"{mined}")  # fmt: skip
    drawn.write_text(with_random_negatives(mined.read_text(encoding="utf-8")), encoding="utf-8")
    for name, file in (("random", drawn), ("mined", mined)):
        settings = [f"data.train={file}", f"data.image_base_dir={ROWS}"]
        yield f"joint, {name} negatives", TRAIN, settings
    yield "joint, batch 100, kept apart and masked", TRAIN, [LARGE]
    yield "joint, batch 100, neither", UNMASKED, [LARGE]


def with_random_negatives(mined: str) -> str:
    """Return mined rows with as many random pictures of other things in place of each negative."""
    draw = random.Random(0)  # noqa: S311 - not for secrets
    rows = [json.loads(line) for line in mined.splitlines()]
    lines = []
    for row in rows:
        others = [other["positive_image"] for other in rows if other["query"] != row["query"]]
        if "negative_image" in row:
            row["negative_image"] = draw.sample(others, len(row["negative_image"]))
        row["metadata"].pop("mined", None)
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(lines)


def held_out(program: Sequence[str], settings: Sequence[str], folder: Path) -> Results:
    """Train once, and return the results on the held-out rows."""
    train(program, settings, folder / "model")
    with tempfile.TemporaryDirectory() as after:
        evaluate(f"{folder}/model", Path(after, "eval"), "--baseline", f"{folder}/before")
        return read(Path(after, "eval"))


def train(program: Sequence[str], settings: Sequence[str], model: Path) -> None:
    """Run the demo with other settings."""
    settings = [
        *settings,
        f"training.output_dir={model}",
        "training.save_strategy=no",
        "training.report_to=none",
        "data.eval=null",
    ]
    flags = [flag for setting in settings for flag in ("--set", setting)]
    run(*program, "--config", CONFIG, *flags, "--overwrite")


def evaluate(model: str, output: Path, *options: str) -> None:
    """Rank the held-out rows in both directions."""
    run("-m", "jina", "evaluate", "--model", model, "--data", f"{ROWS}/eval.jsonl", "--direction",
        "both", "--dtype", "float32", "--max-pixels", MAX_PIXELS, "--output", f"{output}",
        *options)  # fmt: skip


def read(folder: Path) -> Results:
    """Return the results of an evaluation."""
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["results"]


def run(*arguments: str) -> None:
    """Run Python on one thread; show what it said if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603 - our own commands
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def cells(runs: Sequence[Results], vectors: Sequence[str], metric: str) -> Iterator[str]:
    """Yield the metric of each kind and size of vectors, mean of both directions: over seeds."""
    for vector in vectors:
        values = [
            mean(r["metrics"][metric]["value"] for r in run if label(r) == vector) for run in runs
        ]
        yield f"{mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def write_line(fields: Sequence[str]) -> None:
    """Print a line of the table at once: the whole takes half an hour."""
    sys.stdout.write("| " + " | ".join(fields) + " |\n")
    sys.stdout.flush()


def label(result: dict) -> str:
    """Return the kind and size of the vectors of a result."""
    return f"{result['vectors']}-{result['size']}"


if __name__ == "__main__":
    main()
