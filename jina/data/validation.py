"""The one check of training files, behind `python -m jina validate` and before every training run.

    files ─ chunks ─► this process, or others ─► ChunkReport, … ─ joined in order ─► Scan

Each file is read once and each image opened once, or as often as it comes up again much later.
What stays in memory is a few dozen bytes a row (`row_index`) and all the problems.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from jina.data.checking.line_chunks import file_digest, split_file
from jina.data.checking.row_check import ChunkReport, Rules, checksum
from jina.data.checking.workers import Job, WorkerError, check_here, check_in_processes
from jina.data.records import MAX_LINE_BYTES, TASKS, Sample, parse_line
from jina.data.row_index import Columns, RowIndex, join

MAX_PROBLEMS_SHOWN = 50
# Decoding the largest image allowed takes about 1 GB, so the processes are few.
MAX_WORKERS = 8
# Starting a process takes as long as checking this many chunks, by their headers or deeply.
CHUNKS_WORTH_A_WORKER = {False: 4, True: 1}


class DataError(ValueError):
    """Training files that cannot be used; `problems` holds all there is to say, line by line."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = list(problems)

    def __str__(self) -> str:
        shown = self.problems[:MAX_PROBLEMS_SHOWN]
        hidden = len(self.problems) - len(shown)
        return "\n".join([*shown, f"… and {hidden:,} more"] if hidden else shown)


class Problem(NamedTuple):
    """One thing that is wrong, and where; line 0 means the file as a whole."""

    file: str
    line: int
    field: str
    what: str
    got: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: {self.field}" if self.line else self.file
        return f"{where}: {self.what}; got {self.got}; {self.remedy}"

    def as_dict(self) -> dict[str, str | int]:
        """Return what a program may want to know."""
        place = {"file": self.file, "line": self.line, "field": self.field}
        return {**place, "problem": self.what, "value": self.got}


@dataclass
class Scan:
    """What was found in some files.

    Attributes:
        files: As they were named.
        roots: The folder that the images of each file start from.
        rules: What was checked.
        index: The accepted rows.
        problems: All of them, by file and line.
        lines: How many lines each file has.
        digests: Of the bytes of each file.
        stamps: Number of a file and `ChunkReport.stamps`, piece by piece.
    """

    files: tuple[Path, ...]
    roots: tuple[Path, ...]
    rules: Rules
    index: RowIndex
    problems: list[Problem]
    lines: list[int]
    digests: list[bytes]
    stamps: list[tuple[int, bytes]] = field(repr=False)

    @property
    def rows(self) -> int:
        """How many rows there are, good and bad."""
        return sum(self.lines)

    @property
    def refused(self) -> int:
        """How many rows have problems."""
        return self.rows - len(self.index)

    @property
    def distinct_images(self) -> int:
        """How many different pictures the accepted rows show."""
        sides = (self.index.queries, self.index.positives, self.index.negatives)
        return len(np.unique(np.concatenate([side.images[side.widths > 0] for side in sides])))

    def refusing(self, problems: Iterable[Problem]) -> "Scan":
        """Return what would have been found if accepted rows had these problems, too."""
        numbers = {str(file): number for number, file in enumerate(self.files)}
        every = sorted([*self.problems, *problems], key=lambda p: (numbers[p.file], p.line))
        bad = [numbers[problem.file] << 32 | problem.line for problem in every]
        of_files = np.array([numbers[str(file)] for file in self.files], np.int64)
        rows = of_files[self.index.files] << 32 | self.index.lines
        index = self.index.only(~np.isin(rows, bad))
        return replace(self, index=index, problems=every)

    def where(self, row: int) -> str:
        """Return `file:line` of an accepted row."""
        return f"{self.files[self.index.files[row]]}:{self.index.lines[row]}"


def scan(
    files: Iterable[Path | str],
    *,
    image_base_dir: Path | str | None = None,
    deep: bool = False,
    tasks: Sequence[str] = (),
    workers: int | None = None,
) -> Scan:
    """Check every line of some JSONL files, and every image they name.

    Args:
        files: As data/README.md describes them.
        image_base_dir: The folder image paths start from and may not leave; by default the folder
            of the file that names them.
        deep: Decode every image; without it, only headers are read.
        tasks: The adapters to be trained: rows of others are problems, too.
        workers: Other processes to use, 0 for none; by default as many as are worth their start.

    Raises:
        DataError: If a file is none or cannot be read.
    """
    if unknown := [task for task in tasks if task not in TASKS]:
        raise ValueError(f"tasks: unknown; got {unknown}; choose of {', '.join(TASKS)}")
    paths = tuple(Path(file) for file in files)
    roots = tuple(image_root(path, image_base_dir) for path in paths)
    rules = Rules(is_deep=deep, tasks=tuple(tasks))
    chunks = [split_file(path) for path in readable(paths)]
    jobs = [
        (number, Job(str(path.absolute()), str(root), chunk))
        for number, (path, root) in enumerate(zip(paths, roots, strict=True))
        for chunk in chunks[number]
    ]
    if workers is None:
        worthwhile = len(jobs) // CHUNKS_WORTH_A_WORKER[deep]
        workers = min(MAX_WORKERS, os.cpu_count() or 1, worthwhile)
        workers = workers if workers > 1 else 0
    found = _Findings(paths)
    reports = _reports([job for _, job in jobs], rules, workers)
    size = sum(job.chunk.stop - job.chunk.start for _, job in jobs)
    bar = {"desc": "checking", "unit": "B", "unit_scale": True, "leave": False, "disable": None}
    with tqdm(total=size, **bar) as progress:
        for (number, job), report in zip(jobs, reports, strict=True):
            found.add(number, report)
            progress.update(job.chunk.stop - job.chunk.start)
    return found.scan(roots, rules)


def image_root(file: Path | str, image_base_dir: Path | str | None) -> Path:
    """Return the folder that the images of a file start from and stay in, as an absolute path."""
    return Path(Path(file).parent if image_base_dir is None else image_base_dir).absolute()


def repeated(files: Sequence[Path]) -> list[Path]:
    """Return the files that are named a second time, under whatever name."""
    places = [file.resolve() for file in files]
    return [file for number, file in enumerate(files) if places[number] in places[:number]]


def readable(files: Sequence[Path]) -> Sequence[Path]:
    """Return the files; raise `DataError` with all that cannot be read."""
    problems = []
    for file in files:
        if not file.is_file():
            kind = stat.filemode(file.stat().st_mode) if file.exists() else "nothing there"
            problems.append(f"{file}: is not a file; got {kind}; correct the path")
        elif not os.access(file, os.R_OK):
            problems.append(f"{file}: may not be read; got no permission; change its mode or owner")
    if not files:
        problems.append("(no path): is not a file; got no path; name one")
    if problems:
        raise DataError(*problems)
    return files


def read_row(files: Sequence[Path], index: RowIndex, row: int) -> Sample:
    """Return an accepted row as its line has it, without opening an image.

    Raises:
        DataError: If the line has changed since it was checked.
    """
    file, line = files[index.files[row]], int(index.lines[row])
    # Opened for each row: a handle would not survive pickling, and its position would be
    # shared by forked workers.
    with file.open("rb") as stream:
        stream.seek(int(index.starts[row]))
        raw = stream.readline(MAX_LINE_BYTES + 1)
    if checksum(raw) != index.checksums[row]:
        what = f"has changed since it was checked; got {raw[:80]!r}; leave the file alone"
        raise DataError(f"{file}:{line}: line: {what} during a run, and start again")
    return parse_line(raw, file=file, line=line)


def _reports(jobs: list[Job], rules: Rules, workers: int) -> Iterable[ChunkReport]:
    """Yield what each chunk holds."""
    if not workers:
        yield from check_here(jobs, rules)
        return
    try:
        yield from check_in_processes(jobs, rules, count=workers)
    except WorkerError as error:
        raise DataError(str(error)) from error


class _Findings:
    """Puts the reports of chunks together as they come in."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self.files = files
        self.problems: list[list[Problem]] = [[] for _ in files]
        self.lines = [0] * len(files)
        self.digests: list[list[bytes]] = [[] for _ in files]
        self.stamps: list[tuple[int, bytes]] = []
        self.parts: list[Columns] = []
        self.sources: dict[str, int] = {}
        self.languages: dict[str, int] = {}

    def add(self, number: int, report: ChunkReport) -> None:
        """Take the next chunk of file `number`."""
        file, before = str(self.files[number]), self.lines[number]
        found = (Problem(file, before + line, *rest) for line, *rest in report.faults)
        self.problems[number] += found
        columns = report.columns
        columns["files"][:] = number
        columns["lines"] += np.uint32(before)
        for name, table in (("sources", self.sources), ("languages", self.languages)):
            numbers = [table.setdefault(text, len(table)) for text in getattr(report, name)]
            columns[name] = np.array(numbers, "u4")[columns[name]]
        self.parts.append(columns)
        self.lines[number] += report.lines
        self.digests[number].append(report.digest)
        self.stamps.append((number, report.stamps))

    def scan(self, roots: tuple[Path, ...], rules: Rules) -> Scan:
        """Return all that was found."""
        for file, lines, problems in zip(self.files, self.lines, self.problems, strict=True):
            if not lines:
                problems.append(Problem(str(file), 0, "file", "is empty", "no rows", "add some"))
        names = {"source_names": self.sources, "language_names": self.languages}
        return Scan(
            files=self.files,
            roots=roots,
            rules=rules,
            index=RowIndex.from_columns(join(self.parts), **names),
            problems=[problem for problems in self.problems for problem in problems],
            lines=self.lines,
            digests=[file_digest(digests) for digests in self.digests],
            stamps=self.stamps,
        )
