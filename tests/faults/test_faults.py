"""What breaks around a run ends it with a message and whole checkpoints, and never hangs it."""

import errno
import multiprocessing
import os
import random
import shutil
import signal
import time
from dataclasses import replace

import pytest
from transformers import TrainerCallback

from jina.training.checkpointing import saved_steps, write_file
from tests.faults.laboratory import Recipe, order_file, row_order

FAULT, RECIPE = 4, Recipe(steps=4)


class AtStep(TrainerCallback):
    """Do something after a step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()


def at_step(step, action):
    return lambda trainer: trainer.add_callback(AtStep(step, action))


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("step", [0, 2, 3])
def test_a_signal_is_answered_after_the_step_with_a_checkpoint_and_its_own_exit_code(
    laboratory, space, uninterrupted, number, code, step
):
    recipe = replace(RECIPE, steps=6, strategy="no")  # only the signal makes a checkpoint
    ask = at_step(step, lambda: os.kill(os.getpid(), number))
    assert laboratory.wait(laboratory.start(recipe, space / "out", ask)) == code
    assert saved_steps(space / "out") == [step + 1]
    assert laboratory.finish(recipe, space / "out") == uninterrupted(recipe)[0]


def test_signals_at_random_moments_end_with_their_code_and_lose_nothing(
    laboratory, space, uninterrupted
):
    draw, asked = random.Random(0), 0  # noqa: S311 - moments
    recipe = replace(RECIPE, steps=8)
    expected = uninterrupted(recipe)
    while asked < 4:
        child = laboratory.start(recipe, space / "out")
        time.sleep(draw.uniform(0.2, 0.5))
        os.kill(child, draw.choice([signal.SIGTERM, signal.SIGINT]))
        code = laboratory.wait(child)
        if code == 0:
            break
        assert code in (143, 130, -signal.SIGTERM), laboratory.error(space / "out")
        asked += 1
    assert laboratory.finish(recipe, space / "out") == expected[0]
    assert laboratory.hangs == 0


def test_a_second_interrupt_stops_at_once_and_the_last_checkpoint_stands(
    laboratory, space, uninterrupted
):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    assert laboratory.wait(laboratory.start(RECIPE, space / "out", at_step(2, twice))) == 130
    assert saved_steps(space / "out") == [1, 2]  # not 3: the step wasn't finished
    assert laboratory.finish(RECIPE, space / "out") == uninterrupted(RECIPE)[0]


def test_a_signal_to_the_whole_group_leaves_the_loaders_alone(laboratory, space, uninterrupted):
    def to_all():
        os.killpg(os.getpgrp(), signal.SIGTERM)

    def lead(trainer):
        os.setpgid(0, 0)  # so that the tests are not of the group
        at_step(2, to_all)(trainer)

    recipe = replace(RECIPE, workers=1)
    assert laboratory.wait(laboratory.start(recipe, space / "out", lead)) == 143
    assert laboratory.finish(recipe, space / "out") == uninterrupted(RECIPE)[0]


# --- faults --------------------------------------------------------------------------------------


def test_a_loader_process_that_is_killed_ends_the_run_with_a_message(
    laboratory, space, uninterrupted
):
    def kill_loader():
        [loader] = multiprocessing.active_children()
        os.kill(loader.pid, signal.SIGKILL)
        time.sleep(0.2)

    recipe = replace(RECIPE, workers=1, steps=6)
    child = laboratory.start(recipe, space / "out", at_step(2, kill_loader))
    assert laboratory.wait(child) == FAULT, laboratory.error(space / "out")
    said = laboratory.error(space / "out")
    assert "a loader process has died" in said
    assert "lower training.dataloader_num_workers" in said
    assert "checkpoint-2 is safe" in said
    assert laboratory.hangs == 0
    assert laboratory.finish(recipe, space / "out") == uninterrupted(recipe)[0]


def test_a_full_disk_ends_the_run_and_it_goes_on_when_there_is_room(
    laboratory, space, uninterrupted
):
    def fill(trainer):
        def write(file, data):
            if trainer.state.global_step == 3 and file.name == "optimizer.safetensors":
                file.write_bytes(data[: len(data) // 3])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write_file(file, data)

        trainer.checkpoints.write = write

    assert laboratory.wait(laboratory.start(RECIPE, space / "out", fill)) == FAULT
    assert "No space left on device" in laboratory.error(space / "out")
    assert saved_steps(space / "out") == [1, 2]
    assert laboratory.finish(RECIPE, space / "out") == uninterrupted(RECIPE)[0]
    lines = order_file(space / "out").read_text().splitlines()
    assert len(lines) == 5  # steps 1 to 3, and 3 and 4 again
    assert row_order(space / "out") == uninterrupted(RECIPE)[1]


def test_an_output_folder_that_vanishes_ends_the_run_with_a_message(laboratory, space):
    vanish = at_step(2, lambda: shutil.rmtree(space / "out"))
    assert laboratory.wait(laboratory.start(RECIPE, space / "out", vanish)) == FAULT
    assert "checkpoint-3: cannot be written" in laboratory.error(space / "out")
    assert not (space / "out").exists()


def test_weights_that_are_not_finite_are_never_saved(laboratory, space):
    def spoil(trainer):
        def poison():
            next(iter(trainer.model.trained_parameters().values())).data.view(-1)[0] = float("nan")

        step = trainer._write
        trainer._write = lambda states: (poison(), step(states))

    assert laboratory.wait(laboratory.start(RECIPE, space / "out", spoil)) == 70
    assert "DivergedError: step 1: values that are not finite" in laboratory.error(space / "out")
    assert not saved_steps(space / "out")
