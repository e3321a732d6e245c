"""How fast `validate` reads rows, and in how much memory: `python -m benchmarks.validate_rows`.

Scans text+image rows, each with a small image file of its own, in fresh processes, at two sizes.
Prints rows per CPU second, all processes counted, and how peak memory grows between the sizes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from jina.data.validation import scan

PICTURES = 2000


def main() -> None:
    """Measure a tenth of the rows and all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=0, help="0 scans in one process")
    parser.add_argument("--scan", type=Path, help=argparse.SUPPRESS)  # a child's own errand
    options = parser.parse_args()
    if options.scan:
        sys.stdout.write(json.dumps(measured_scan(options.scan, options.workers)))
        return
    with tempfile.TemporaryDirectory() as folder:
        few, many = (
            measure(Path(folder), rows, options.workers)
            for rows in (options.rows // 10, options.rows)
        )
    figures = {
        "rows": many["rows"],
        "rows_per_cpu_second": round(many["rows"] / many["cpu_seconds"]),
        "peak_growth_mib": round(many["peak_mib"] - few["peak_mib"], 1),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def measure(folder: Path, rows: int, workers: int) -> dict[str, float]:
    """Write rows with images and scan them in a process of its own."""
    for number in range(rows):
        file = folder / f"{number}.png"
        if file.exists():
            continue
        if number < PICTURES:
            noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(noise).resize((64, 48)).save(file)
        else:  # a hard link: another file to open, but little to write
            os.link(folder / f"{number % PICTURES}.png", file)
    jsonl = folder / f"{rows}.jsonl"
    with jsonl.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            caption = f"a caption of some length, with the number {number} in it"
            row = {"query_image": f"{number}.png", "positive": caption, "source": "s"}
            stream.write(json.dumps(row) + "\n")
    command = [sys.executable, "-m", "benchmarks.validate_rows", "--scan", str(jsonl)]
    command += ["--workers", str(workers)]
    output = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[1])  # noqa: S603
    return json.loads(output.stdout)


def measured_scan(file: Path, workers: int) -> dict[str, float]:
    """Scan a file; count the CPU seconds of all processes and this one's peak memory."""
    before = _cpu_seconds()
    found = scan([file], workers=workers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": len(found.index),
        "cpu_seconds": _cpu_seconds() - before,
        "peak_mib": peak,
    }


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
