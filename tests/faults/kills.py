"""Ways to end a run in the middle: at a random moment, or at a named point of a save."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jina.training import checkpointing
from jina.training.checkpointing import FILES, MANIFEST
from jina.training.jina_trainer import JinaEmbeddingTrainer
from tests.faults.laboratory import Laboratory, Recipe

SAVE_TO_DIE_IN = 3
POINTS = (
    *(f"after {name}" for name in (*FILES, MANIFEST)),
    "amid optimizer.safetensors",
    "before rename",
    "after rename",
    "during rotation",
)


def die() -> None:
    """End this process as the kernel would."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(point: str) -> Callable[[JinaEmbeddingTrainer], None]:
    """Return a preparation of a run that makes it die at a point of its third save."""

    def prepare(trainer: JinaEmbeddingTrainer) -> None:
        def is_time() -> bool:
            return trainer.state.global_step == SAVE_TO_DIE_IN

        def write(file: Path, data: bytes) -> None:
            if is_time() and point == f"amid {file.name}":
                file.write_bytes(data[: len(data) // 2])
                die()
            checkpointing.write_file(file, data)
            if is_time() and point in (f"after {file.name}", f"after adapters/{file.name}"):
                die()

        trainer.checkpoints.write = write
        _patch_folders(point, is_time)

    return prepare


def _patch_folders(point: str, is_time: Callable[[], bool]) -> None:
    """Die around the rename and in the deletion; this process is forked and ends soon."""
    flush, remove = checkpointing.flush_folder, shutil.rmtree

    def flushing(folder: Path) -> None:
        flush(folder)
        here = "before rename" if folder.name.endswith(".staged") else "after rename"
        if is_time() and point == here and folder.name != "adapters":
            die()

    def removing(folder: Path, *args: object, **kwargs: object) -> None:
        if is_time() and point == "during rotation":
            next(file for file in Path(folder).rglob("*") if file.is_file()).unlink()
            die()
        remove(folder, *args, **kwargs)

    checkpointing.flush_folder = flushing
    checkpointing.shutil.rmtree = removing


@dataclass
class Killed:
    """What came of a run that was killed, maybe again and again, and then left alone.

    Attributes:
        kills: how often it was; all but the first hit a run that had resumed, or was about to.
        in_save: how many of them left a save or a deletion half done.
        digests: of what it ended with.
    """

    kills: int
    in_save: int
    digests: dict


def kill_at_random(
    laboratory: Laboratory, recipe: Recipe, folder: Path, *, kills: int, seed: int, length: float
) -> Killed:
    """Kill a run so many times at random moments, resuming in between, then let it end.

    Args:
        laboratory: where it runs.
        recipe: how it trains.
        folder: where it saves.
        kills: how often; once it is through, fewer.
        seed: of the moments.
        length: seconds the whole run takes undisturbed.
    """
    draw, killed, in_save = random.Random(seed), 0, 0  # noqa: S311 - moments
    for _ in range(kills):
        ended = laboratory.kill_after(recipe, folder, draw.uniform(0, length))
        if ended == 0:
            break
        assert ended == -signal.SIGKILL, laboratory.error(folder)
        killed += 1
        in_save += any(folder.glob(".checkpoint-*"))
    return Killed(killed, in_save, laboratory.finish(recipe, folder))
