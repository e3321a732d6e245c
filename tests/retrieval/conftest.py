"""Processes that are threads, so that sharing of work is tested without starting any."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier

import pytest

from jina.retrieval.processes import Processes


@dataclass(frozen=True)
class ThreadProcesses(Processes):
    """One of some threads that share a job."""

    barrier: Barrier = field(default_factory=lambda: Barrier(1))
    table: dict = field(default_factory=dict)

    def exchange(self, result):
        self.table[self.rank] = result
        self.barrier.wait(timeout=60)
        results = [self.table[rank] for rank in range(self.count)]
        self.barrier.wait(timeout=60)
        return results


@pytest.fixture
def in_processes():
    """Return a function that runs a job once for each of some processes and returns all results."""

    def run(count, job):
        barrier, table = Barrier(count), {}
        shared = [ThreadProcesses(rank, count, barrier, table) for rank in range(count)]
        with ThreadPoolExecutor(count) as threads:
            return list(threads.map(job, shared))

    return run
