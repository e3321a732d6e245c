"""A run that is killed and started again ends with the bits of one that never was."""

import os
import signal
import time
from dataclasses import replace

import pytest

from tests.faults.kills import POINTS, die_at, kill_at_random
from tests.faults.laboratory import Recipe, order_file, row_order

RECIPES = [
    Recipe(),
    Recipe(tokens=16, dropout=0.0, tasks=("retrieval", "code")),
    Recipe(steps=4, accumulation=2, tokens=16),
    Recipe(limit=1, strategy="epoch", steps=8),
]
KILLS = 20


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_bits_of_an_undisturbed_one(
    laboratory, space, uninterrupted
):
    kills = trials = 0
    start = time.monotonic()
    laboratory.finish(Recipe(), space / "timing")
    length = time.monotonic() - start
    while kills < KILLS:
        recipe, folder = RECIPES[trials % len(RECIPES)], space / str(trials)
        wanted = 1 + trials % 3  # killed again while it resumes, and once more
        killed = kill_at_random(
            laboratory, recipe, folder, kills=wanted, seed=trials, length=length
        )
        digests, order = uninterrupted(recipe)
        assert killed.digests == digests
        assert row_order(folder) == order
        kills, trials = kills + killed.kills, trials + 1
    assert laboratory.hangs == 0


@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_any_point_of_a_save_goes_on_from_a_whole_checkpoint(
    laboratory, space, uninterrupted, point
):
    recipe, folder = Recipe(steps=4), space / "out"
    assert laboratory.wait(laboratory.start(recipe, folder, die_at(point))) == -signal.SIGKILL
    assert not (folder / "final.json").exists()
    assert laboratory.finish(recipe, folder) == uninterrupted(recipe)[0]
    assert not list(folder.glob(".checkpoint-*"))  # what the killed save left is swept away
    is_whole = point in ("after rename", "during rotation")
    first = sorted(row_order(folder))
    assert first == [1, 2, 3, 4]
    lines = order_file(folder).read_text().splitlines()
    assert len(lines) == (4 if is_whole else 5)  # the step of a lost save is taken again


def test_control_another_seed_or_unrestored_randomness_gives_other_bits(
    laboratory, space, uninterrupted
):
    recipe = Recipe(steps=4)
    expected, order = uninterrupted(recipe)
    other, other_order = uninterrupted(replace(recipe, seed=1))
    assert other["weights"] != expected["weights"]
    assert other_order != order

    def forget(trainer):
        trainer._load_rng_state = lambda checkpoint: None

    laboratory.wait(laboratory.start(recipe, space / "out", die_at("after manifest.json")))
    found = laboratory.finish(recipe, space / "out", forget)
    assert found["weights"] != expected["weights"]
    assert row_order(space / "out") == order  # which needs no random numbers to be restored


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(steps=4, accumulation=3, tokens=16),
        pytest.param(Recipe(steps=21, tokens=16), marks=pytest.mark.slow),
    ],
    ids=["accumulating", "twenty steps"],
)
def test_a_run_may_stop_after_every_step_whatever_the_number_of_workers(
    laboratory, space, uninterrupted, recipe, workers
):
    stopped = 0
    part = replace(recipe, workers=workers)
    while (code := laboratory.wait(laboratory.start(part, space / "out", stop))) == 143:
        stopped += 1
    assert code == 0, laboratory.error(space / "out")
    assert stopped == recipe.steps - 1
    digests, order = uninterrupted(recipe)
    assert laboratory.finish(part, space / "out") == digests
    assert row_order(space / "out") == order


def stop(trainer):
    """Send the signal to the run itself, at its first step."""
    step = trainer.training_step

    def stepping(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return step(*args, **kwargs)

    trainer.training_step = stepping
