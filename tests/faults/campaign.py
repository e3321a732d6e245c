"""`make faults`: the whole campaign of kills, written as a table.

    python -m tests.faults.campaign [--kills 200] [--points 20] [--output FILE]

Exit code 1 if a run didn't complete, ended with other bits or hung.
"""

import argparse
import itertools
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import torch

from tests.faults.kills import POINTS, die_at, kill_at_random
from tests.faults.laboratory import MEMORY, Laboratory, Recipe, build_laboratory, row_order

TASKS = (("retrieval",), ("retrieval", "code"))
WORKERS = (0, 1, 4)
MATRIX = [
    Recipe(dropout=dropout, accumulation=accumulation, tokens=tokens, tasks=tasks, workers=workers)
    for dropout, accumulation, tokens, tasks, workers in itertools.product(
        (0.0, 0.1), (1, 2), (None, 16), TASKS, (0, 2)
    )
]

Row = tuple[str, int, int]  # what, held, tried


class Whole:
    """Undisturbed runs, each done once: their digests, rows and time."""

    def __init__(self, laboratory: Laboratory, folder: Path) -> None:
        self._laboratory, self._folder = laboratory, folder
        self._found: dict[Recipe, tuple[dict, dict, float]] = {}

    def of(self, recipe: Recipe) -> tuple[dict, dict, float]:
        """Return digests, rows and seconds; the number of workers changes neither of the first."""
        if recipe not in self._found:
            folder, begin = self._folder / f"whole{len(self._found)}", time.monotonic()
            digests = self._laboratory.finish(recipe, folder)
            self._found[recipe] = digests, row_order(folder), time.monotonic() - begin
        return self._found[recipe]


def random_kills(laboratory: Laboratory, whole: Whole, folder: Path, count: int) -> Iterator[Row]:
    """Kill runs of every recipe, one to three times each, until there are enough kills."""
    kills = completed = equal = again = in_save = trials = 0
    while kills < count:
        recipe, place = MATRIX[trials % len(MATRIX)], folder / f"random{trials}"
        digests, order, seconds = whole.of(recipe)
        try:
            killed = kill_at_random(
                laboratory, recipe, place, kills=1 + trials % 3, seed=trials, length=seconds
            )
        except AssertionError as error:
            sys.stderr.write(f"trial {trials}: {error}\n")
            kills += 1
        else:
            kills, completed = kills + killed.kills, completed + killed.kills
            is_equal = killed.digests == digests and row_order(place) == order
            equal += killed.kills * is_equal
            again += max(0, killed.kills - 1)
            in_save += killed.in_save
        shutil.rmtree(place)
        trials += 1
    kinds = f"{again} of them of a run that had resumed, {in_save} amid a save"
    yield f"random `kill -9` ({kinds}), of which the run completed", completed, kills
    yield "… with adapters, optimizer, schedule and rows bit-equal", equal, kills


def named_points(laboratory: Laboratory, whole: Whole, folder: Path) -> Iterator[Row]:
    """Kill at each point of a save."""
    held = 0
    for number, point in enumerate(POINTS):
        recipe, place = Recipe(steps=4), folder / f"point{number}"
        ended = laboratory.wait(laboratory.start(recipe, place, die_at(point)))
        digests = laboratory.finish(recipe, place)
        held += ended == -signal.SIGKILL and digests == whole.of(recipe)[0]
    yield "named kill points inside a save, bit-equal", held, len(POINTS)


def resume_points(laboratory: Laboratory, whole: Whole, folder: Path, count: int) -> Iterator[Row]:
    """Kill after each step of a run of two tasks, for each number of workers."""
    recipe = Recipe(steps=count + 1, tokens=16, tasks=TASKS[1])
    digests, order, _ = whole.of(recipe)
    for workers in WORKERS:
        part, place = replace(recipe, workers=workers), folder / f"workers{workers}"
        points = 0
        while laboratory.wait(laboratory.start(part, place, die_after_first_step)) != 0:
            points += 1
        is_equal = laboratory.finish(part, place) == digests and row_order(place) == order
        yield f"resume points bit-equal, {workers} workers", points * is_equal, count


def die_after_first_step(trainer) -> None:
    """End the process when it has saved once, unless that was the last step."""
    save = trainer.checkpoints.save

    def saving(step, *args, **kwargs) -> None:
        save(step, *args, **kwargs)
        if step < trainer.state.max_steps:
            signal.raise_signal(signal.SIGKILL)

    trainer.checkpoints.save = saving


def control(whole: Whole) -> Iterator[Row]:
    """Compare runs that must differ."""
    first, other = (whole.of(replace(MATRIX[0], seed=seed)) for seed in (0, 1))
    yield "control: another seed gives other bits", int(first[0] != other[0]), 1


def main() -> int:
    """Run the campaign, write the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("outputs/faults.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        folder = Path(name)
        laboratory = build_laboratory(folder)
        whole = Whole(laboratory, folder)
        rows = [
            *named_points(laboratory, whole, folder),
            *resume_points(laboratory, whole, folder, options.points),
            *random_kills(laboratory, whole, folder, options.kills),
            *control(whole),
        ]
        times = [whole.of(recipe)[2] for recipe in MATRIX[:4]]
    table = table_of(rows, laboratory.hangs, time.monotonic() - begin, statistics.median(times))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(table, encoding="utf-8")
    sys.stdout.write(table)
    return int(any(held != tried for _, held, tried in rows) or laboratory.hangs > 0)


def table_of(rows: list[Row], hangs: int, seconds: float, run: float) -> str:
    """Return the result as Markdown."""
    date = datetime.now(timezone.utc).date()
    return "\n".join(
        [
            "| what | held | tried |",
            "|---|---|---|",
            *(f"| {what} | {held} | {tried} |" for what, held, tried in rows),
            f"| hangs | {hangs} | |",
            "",
            f"{date}, `make faults`, {seconds / 60:.0f} minutes; a whole run takes {run:.2f} s.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
