"""Metrics in plain loops, and processes that are threads, so that none need be started."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier

import pytest

from jina.retrieval.processes import Processes
from jina.retrieval.ranking_metrics import METRICS


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


@pytest.fixture(scope="session")
def by_hand():
    """Return a function that measures one query: trec_eval's definitions, written out.

    Equal scores stand in descending order of their names.
    """

    def measure(qrel, run):
        order = sorted(run, key=lambda name: (run[name], name), reverse=True)
        gains = [qrel.get(name, 0) for name in order]
        relevant = sum(grade > 0 for grade in qrel.values())
        ideal = sorted(qrel.values(), reverse=True)
        found = {}
        for depth in (1, 5, 10):
            reached, best = (
                sum(gain / math.log2(place + 2) for place, gain in enumerate(some[:depth]))
                for some in (gains, ideal)
            )
            found[f"ndcg@{depth}"] = reached / best if best else 0.0
        for depth in (1, 5, 10, 100):
            hits = sum(gain > 0 for gain in gains[:depth])
            found[f"recall@{depth}"] = hits / relevant if relevant else 0.0
        places = [place for place, gain in enumerate(gains) if gain > 0]
        found["mrr@10"] = 1 / (places[0] + 1) if places and places[0] < 10 else 0.0
        precisions = [(number + 1) / (place + 1) for number, place in enumerate(places)]
        found["map"] = sum(precisions) / relevant if relevant else 0.0
        return [found[name] for name in METRICS]

    return measure


@pytest.fixture
def model_loaded_once(monkeypatch, jina_model, fixture_folder):
    """Let jobs share the conformance model instead of reading it each time."""
    load = type(jina_model).from_pretrained

    def shared(folder, **options):
        return jina_model if folder == fixture_folder else load(folder, **options)

    monkeypatch.setattr(type(jina_model), "from_pretrained", shared)
