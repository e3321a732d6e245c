"""The processes that share a job, as `accelerate launch` or `torchrun` start them.

Every process runs the same program on the same input. Work is dealt by rank and what comes of it is
exchanged, so that each of them goes on with all results, in the order that one process has them.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate import PartialState
from torch import distributed

Work = TypeVar("Work")


@dataclass(frozen=True)
class Processes:
    """This process among all that share the job.

    Attributes:
        rank: from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> "Processes":
        """Join the others, if a launcher started any; a lone process opens no connection."""
        if not distributed.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            PartialState(cpu=not torch.cuda.is_available())
        if not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @classmethod
    @contextmanager
    def joined(cls) -> Iterator["Processes"]:
        """Join the others, and part from them at the end if they weren't together before."""
        were_together = distributed.is_initialized()
        try:
            yield cls.current()
        finally:
            if distributed.is_initialized() and not were_together:
                distributed.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def mine(self, work: Sequence[Work]) -> Sequence[Work]:
        """Return every `count`-th piece of the work, beginning with one's own rank."""
        return work[self.rank :: self.count]

    def exchange(self, result: Work) -> list[Work]:
        """Return the results of all processes by rank; waits until each has one."""
        if self.count == 1:
            return [result]
        results: list[Work] = [result] * self.count
        distributed.all_gather_object(results, result)
        return results

    def exchange_made(self, make: Callable[[], Work], *, failure: type[ValueError]) -> list[Work]:
        """Return what `make` returns in each process, by rank.

        Raises:
            ValueError: `failure` in every process if it is raised in one, or the rest would wait.
        """
        made, message = None, None
        try:
            made = make()
        except failure as error:
            message = str(error)
        outcomes = self.exchange((made, message))
        messages = [message for _, message in outcomes if message is not None]
        if messages:
            raise failure(messages[0])
        return [made for made, _ in outcomes]
