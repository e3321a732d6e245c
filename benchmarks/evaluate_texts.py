"""How long `evaluate` takes, and in how much memory: `python -m benchmarks.evaluate_texts`.

Ranks short texts for short texts with the tiny checkpoint, whose own time is small, in fresh
processes: one with no more than a few rows, one with all. Prints seconds and the peak memory
beyond that of the small run, for single vectors and for both kinds.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from jina.__main__ import main as jina_command

FEW = 20


def main() -> None:
    """Measure both kinds of vectors, with a few rows and with all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--words", type=int, default=12, help="of a text, on average")
    parser.add_argument(
        "--evaluate", type=json.loads, help=argparse.SUPPRESS
    )  # a child's own errand
    options = parser.parse_args()
    if options.evaluate:
        sys.stdout.write(json.dumps(evaluate(options.evaluate)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jina_command(["tiny-checkpoint", "--output", str(folder / "tiny")])
        for vectors in ("single", "single,multi"):
            few, many = (
                measure(folder, rows, options.words, vectors) for rows in (FEW, options.rows)
            )
            figures = {
                "rows": options.rows,
                "vectors": vectors,
                "seconds": round(many["seconds"], 1),
                "peak_mib": round(many["peak_mib"]),
                "peak_growth_mib": round(many["peak_mib"] - few["peak_mib"]),
            }
            sys.stdout.write(json.dumps(figures) + "\n")


def measure(folder: Path, rows: int, words: int, vectors: str) -> dict[str, float]:
    """Evaluate that many rows in a process of its own."""
    data = folder / f"{rows}.jsonl"
    draw = np.random.default_rng(0)
    lengths = draw.integers(2, 2 * words - 1, (rows, 2))
    with data.open("w", encoding="utf-8") as stream:
        for number, (query, positive) in enumerate(lengths.tolist()):
            texts = (" ".join(f"w{w}" for w in draw.integers(0, 999, n)) for n in (query, positive))
            row = dict(zip(("query", "positive"), texts, strict=True), id=number)
            stream.write(json.dumps(row) + "\n")
    words_of_command = ["--model", folder / "tiny", "--data", data, "--vectors", vectors]
    words_of_command += ["--output", folder / f"{rows}-{vectors}", "--dims", "128"]
    errand = json.dumps(list(map(str, words_of_command)))
    child = [sys.executable, "-m", "benchmarks.evaluate_texts", "--evaluate", errand]
    result = subprocess.run(child, capture_output=True, text=True, check=True)  # noqa: S603
    return json.loads(result.stdout.splitlines()[-1])


def evaluate(words: list[str]) -> dict[str, float]:
    """Run the command and say what it took."""
    started = time.perf_counter()
    code = jina_command(["evaluate", *words])
    if code:
        sys.exit(code)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": time.perf_counter() - started, "peak_mib": peak}


if __name__ == "__main__":
    main()
