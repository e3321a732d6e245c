"""Processes that check chunks of files: each takes one at a time and sends back what it holds.

    parent ─ a line of JSON: file, root, chunk ─► worker ─ length, .npz ─► parent

They are started as `python -m jina.data.checking.workers`, not by `multiprocessing`, which would
have each of them import the parent's main module, and with it torch, before it could read a line.
"""

import io
import json
import queue
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jina.data.checking.line_chunks import Chunk
from jina.data.checking.row_check import ChunkReport, Fault, RowChecker, Rules

PROJECT_FOLDER = Path(__file__).parents[3]
_LENGTH = struct.Struct("<Q")


class WorkerError(RuntimeError):
    """A process that ended before it had checked its chunk: out of memory, or a broken decoder."""


class Job(NamedTuple):
    """A chunk to check: its file, and the folder of its images, both absolute."""

    file: str
    root: str
    chunk: Chunk


def check_here(jobs: Iterable[Job], rules: Rules) -> Iterator[ChunkReport]:
    """Yield what each chunk holds, checked in this process."""
    checker = RowChecker(rules)
    for job in jobs:
        yield checker.check(Path(job.file), job.chunk, root=Path(job.root))


def check_in_processes(jobs: Iterable[Job], rules: Rules, *, count: int) -> Iterator[ChunkReport]:
    """Yield what each chunk holds, in order, checked by so many other processes.

    Raises:
        WorkerError: If one of them dies.
    """
    processes = [_start(rules) for _ in range(count)]
    idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
    for process in processes:
        idle.put(process)

    def check(job: Job) -> ChunkReport:
        """Have a chunk checked by whichever process has nothing to do."""
        process = idle.get()
        try:
            return _ask(process, job)
        finally:
            idle.put(process)

    pool = ThreadPoolExecutor(count)
    try:
        yield from pool.map(check, jobs)
    finally:
        for process in processes:
            process.kill()
        pool.shutdown(cancel_futures=True)
        for process in processes:
            with suppress(OSError):
                process.stdin.close()
            process.stdout.close()
            process.wait()


def _start(rules: Rules) -> "subprocess.Popen[bytes]":
    """Start a process that waits for jobs."""
    command = [sys.executable, "-m", "jina.data.checking.workers", json.dumps(rules)]
    # From the project's folder, so that no module of the working directory gets in between.
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, cwd=PROJECT_FOLDER, **pipes)  # noqa: S603 - only ourselves


def _ask(process: "subprocess.Popen[bytes]", job: Job) -> ChunkReport:
    """Have a process check a chunk."""
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
    head = process.stdout.read(_LENGTH.size)
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
    payload = process.stdout.read(length)
    if not length or len(payload) < length:
        start, stop = job.chunk
        raise WorkerError(
            f"{job.file}: the process that checked bytes {start} to {stop} ended; got exit status "
            f"{process.wait()}; free some memory, or look at the images named there"
        )
    return _from_bytes(payload)


def _to_bytes(report: ChunkReport) -> bytes:
    """Write a report in numpy's own format, without pickle."""
    head = {
        "lines": report.lines,
        "digest": report.digest.hex(),
        "faults": report.faults,
        "sources": report.sources,
        "languages": report.languages,
    }
    buffer = io.BytesIO()
    texts = {"head": json.dumps(head).encode(), "stamps": report.stamps}
    arrays = {name: np.frombuffer(text, np.uint8) for name, text in texts.items()}
    np.savez(buffer, **arrays, **report.columns)
    return buffer.getvalue()


def _from_bytes(payload: bytes) -> ChunkReport:
    """Read what `_to_bytes` wrote."""
    with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
        columns = {name: stored[name] for name in stored.files}
    head = json.loads(columns.pop("head").tobytes())
    return ChunkReport(
        lines=head["lines"],
        digest=bytes.fromhex(head["digest"]),
        faults=[Fault(*fault) for fault in head["faults"]],
        columns=columns,
        sources=head["sources"],
        languages=head["languages"],
        stamps=columns.pop("stamps").tobytes(),
    )


def main() -> None:
    """Check what comes in at standard input until there is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us,
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # and without one we end, and say nothing
    checker = RowChecker(Rules(*json.loads(sys.argv[1])))
    for line in sys.stdin.buffer:
        file, root, chunk = json.loads(line)
        payload = _to_bytes(checker.check(Path(file), Chunk(*chunk), root=Path(root)))
        sys.stdout.buffer.write(_LENGTH.pack(len(payload)) + payload)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
