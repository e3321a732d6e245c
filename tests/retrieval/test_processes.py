"""Sharing work: all of it is done once, and an error in one process is one in all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jina.retrieval.processes import Processes

ROOT = Path(__file__).parents[2]


def test_work_is_dealt_without_rest_or_overlap(in_processes):
    work = list(range(10))
    for count in (1, 2, 3, 12):
        parts = in_processes(count, lambda p: p.mine(work))
        assert sorted(sum(parts, [])) == work


def test_each_process_gets_all_results_by_rank(in_processes):
    assert in_processes(3, lambda p: p.exchange(f"r{p.rank}")) == [["r0", "r1", "r2"]] * 3


def test_an_error_in_one_process_is_raised_in_all(in_processes):
    def job(processes):
        def make():
            if processes.rank == 1:
                raise ExpectedError("broken")

        with pytest.raises(ExpectedError, match="broken"):
            processes.exchange_made(make, failure=ExpectedError)
        return True

    assert in_processes(3, job) == [True] * 3


def test_a_lone_process_joins_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with Processes.joined() as processes:
        assert processes == Processes(0, 1)
        assert processes.exchange("x") == ["x"]


class ExpectedError(ValueError):
    """An error that is expected."""


@pytest.mark.slow
def test_two_gloo_processes_exchange_and_part():
    code = (
        "from jina.retrieval.processes import Processes\n"
        "with Processes.joined() as p: print(p.exchange([p.rank] * 3), flush=True)"
    )
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29671", "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **environment, "RANK": rank, "LOCAL_RANK": rank},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=120)[0].strip() for process in started]
    assert said == ["[[0, 0, 0], [1, 1, 1]]"] * 2
    assert [process.returncode for process in started] == [0, 0]
