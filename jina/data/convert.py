"""Bring data in: foreign formats become JSONL lines that training takes, or nothing is written.

    SRC ─ reader ─► columns ─ FieldMap ─► fields ─ OutputImages ─► line ─ parse_line ─► FILE.jsonl
                                                 what rows share ─ RowGroups ─► FILE.train.jsonl …

Every line passes the same check as in training, every image is opened, and all that is wrong is
told at once. Files appear under their names when all is well, not before. Rows are read, checked
and written a few hundred at a time; a COCO file alone is held in memory.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from jina.data.conversion.arrow_files import read_hf_dataset, read_parquet
from jina.data.conversion.fields import FieldMap
from jina.data.conversion.image_folder import read_folder
from jina.data.conversion.images import OutputImages
from jina.data.conversion.json_files import read_coco, read_jsonl
from jina.data.conversion.rows import draft_rows, finish_row, named_images, row_identities
from jina.data.conversion.sources import ConvertError, Source, SourceRow, describe
from jina.data.conversion.tables import read_csv, read_tsv
from jina.data.records import RecordError, read_lines
from jina.data.splitting import RowGroups, parse_fractions

READERS: dict[str, Callable[[Path], Source]] = {
    "csv": read_csv,
    "tsv": read_tsv,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "coco": read_coco,
    "folder": read_folder,
    "hf-dataset": read_hf_dataset,
}
_READS = dict.fromkeys(READERS, ["file"]) | {
    "parquet": ["file", "folder"],
    "folder": ["folder"],
    "hf-dataset": ["folder"],
}
_IS_A = {"file": Path.is_file, "folder": Path.is_dir}
_ROWS_AT_A_TIME = 256


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What `python -m jina convert` is told.

    Attributes:
        format: A key of `READERS`.
        source: The file or folder to read.
        output: The JSONL file to write; with `split`, `.train` and so on comes before its suffix.
        maps: Where fields come from, as `field=column`.
        constants: Fields that are the same in every row, as `field=value`.
        image_base_dir: The folder image paths of the output start from and stay in, None for the
            output's; relative paths of the source start there, too, if it is given.
        images: The folder that relative image paths of the source start from, by default
            `image_base_dir` or else the source's folder.
        split: Such as `train=0.9,eval=0.1`, or None for one file.
        split_together: `source` or `metadata.key`, equal values of which go to one split, such as
            the document a page is from; or None.
        seed: Draws the split.
        overwrite: Whether files of the output's names may be replaced.
    """

    format: str
    source: Path
    output: Path
    maps: Sequence[str] = ()
    constants: Sequence[str] = ()
    image_base_dir: Path | None = None
    images: Path | None = None
    split: str | None = None
    split_together: str | None = None
    seed: int = 0
    overwrite: bool = False


@dataclass
class ConversionSummary:
    """What a conversion did."""

    files: dict[Path, int] = field(default_factory=dict)
    images: int = 0
    unused_columns: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """The number of rows in all files."""
        return sum(self.files.values())

    def lines(self) -> Iterator[str]:
        """Yield what to tell the user."""
        yield from self.notes
        if self.unused_columns:
            yield f"Columns that were not used: {', '.join(self.unused_columns)}."
        for file, rows in self.files.items():
            yield f"Wrote {file}: {rows:,} rows ({rows / self.rows:.1%})."
        yield f"{self.rows:,} rows, {self.images:,} images, all checked."


def convert(job: Conversion) -> ConversionSummary:
    """Convert a source; raise `ConvertError` with everything that is wrong, and write nothing."""
    fields, fractions = _checked(job)
    try:
        return _convert(job, fields, fractions)
    except OSError as error:
        what, remedy = "cannot be read or written", "see to it and start again"
        where = str(error.filename or job.source)
        raise ConvertError(describe(where, what, error.strerror, remedy)) from error


def _convert(
    job: Conversion, fields: FieldMap, fractions: Mapping[str, float]
) -> ConversionSummary:
    """Read, check, stage, and publish when all is well."""
    source = READERS[job.format](job.source)
    fields = fields.for_source(source)
    unused = [column for column in source.columns if column not in fields.used()]
    summary = ConversionSummary(unused_columns=unused, notes=list(source.notes))
    with ExitStack() as cleanup:
        _make_folder(job.output.parent, cleanup)
        images = OutputImages(
            base=job.image_base_dir or job.output.parent,
            start=job.images or job.image_base_dir or source.image_start,
            store=job.output.parent / f"{job.output.stem}_images",
            identify=bool(fractions),
        )
        cleanup.callback(images.discard)
        whole = _stage(job.output, cleanup)
        groups = _write_rows(
            source.read(fields.used()),
            whole,
            fields=fields,
            images=images,
            together=job.split_together,
        )
        staged = {job.output: whole}
        summary.files = {job.output: len(groups)}
        if fractions:
            splits = _assign(groups, fractions, job, notes=summary.notes)
            summary.files = {_split_path(job, name): splits.count(name) for name in fractions}
            staged = {path: _stage(path, cleanup) for path in summary.files}
            _deal(whole, [staged[_split_path(job, name)] for name in splits])
        for path, stream in staged.items():
            stream.flush()
            os.fsync(stream.fileno())
            Path(stream.name).replace(path)
        images.commit()
    summary.images = len(images)
    return summary


def _checked(job: Conversion) -> tuple[FieldMap, dict[str, float]]:
    """Return the parsed options; refuse all bad ones at once."""
    problems: list[str] = []
    fields, fractions = FieldMap({}, {}), {}
    try:
        fields = FieldMap.parse(job.maps, job.constants)
    except ConvertError as error:
        problems += error.problems
    try:
        fractions = parse_fractions(job.split) if job.split is not None else {}
    except ValueError as error:
        problems.append(str(error))
    problems += [*_together_problems(job), *_path_problems(job)]
    outputs = [_split_path(job, name) for name in fractions] or [job.output]
    for path in outputs:
        if path.exists() and (not job.overwrite or not path.is_file()):
            problems.append(describe("--output", "exists", str(path), "add --overwrite"))
        if path.resolve() == job.source.resolve():
            remedy = "choose another name"
            problems.append(describe("--output", "is the source", str(path), remedy))
    if problems:
        raise ConvertError(*problems)
    return fields, fractions


def _together_problems(job: Conversion) -> Iterator[str]:
    """Yield what is wrong with the field that binds rows together."""
    field_name = job.split_together
    if field_name is None:
        return
    if field_name != "source" and not field_name.startswith("metadata."):
        remedy = "name source or such as metadata.document"
        yield describe("--split-together", "is no field that may bind rows", field_name, remedy)
    if job.split is None:
        remedy = "add --split train=0.9,eval=0.1"
        yield describe("--split-together", "splits nothing", field_name, remedy)


def _path_problems(job: Conversion) -> Iterator[str]:
    """Yield what is wrong with the paths that are read."""
    kinds = _READS[job.format]
    if not job.source.exists():
        yield describe("SRC", "does not exist", str(job.source), "correct the path")
    elif not any(_IS_A[kind](job.source) for kind in kinds):
        what, remedy = f"is not a {' or '.join(kinds)}", f"--from {job.format} reads nothing else"
        yield describe("SRC", what, str(job.source), remedy)
    for option, folder in (("--image-base-dir", job.image_base_dir), ("--images", job.images)):
        if folder is not None and not folder.is_dir():
            yield describe(option, "is not a folder", str(folder), "correct the path")


def _split_path(job: Conversion, name: str) -> Path:
    """Return `pets.train.jsonl` for the split `train` of `pets.jsonl`."""
    return job.output.with_name(f"{job.output.stem}.{name}{job.output.suffix}")


def _make_folder(folder: Path, cleanup: ExitStack) -> None:
    """Create a folder with its parents; clean up those that were left empty."""

    def remove_if_empty(created: Path) -> None:
        """Delete a folder in which nothing was published."""
        if not any(created.iterdir()):
            created.rmdir()

    for missing in [path for path in (*reversed(folder.parents), folder) if not path.exists()]:
        missing.mkdir()
        cleanup.callback(remove_if_empty, missing)


def _stage(path: Path, cleanup: ExitStack) -> BinaryIO:
    """Open a file beside its final place; what is not renamed by then is deleted at the end."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    cleanup.callback(partial.unlink, missing_ok=True)
    return cleanup.enter_context(partial.open("wb"))


def _write_rows(
    rows: Iterator[SourceRow | RecordError],
    stream: BinaryIO,
    *,
    fields: FieldMap,
    images: OutputImages,
    together: str | None,
) -> RowGroups:
    """Write the rows as lines; return what they share, or raise all that is wrong."""
    problems: list[str] = []
    groups = RowGroups()
    while batch := list(islice(rows, _ROWS_AT_A_TIME)):
        drafts = [draft for row in batch for draft in draft_rows(row, fields=fields, images=images)]
        images.check([name for draft in drafts for _, name in named_images(draft)])
        for draft in drafts:
            try:
                line, sample = finish_row(draft, images)
                bound = row_identities(sample, images, together=together) if images.identify else ()
                groups.add(list(bound))
                stream.write(line)
            except RecordError as error:
                problems += error.problems
    if not problems and not len(groups):
        problems.append("SRC: has no rows; got none; give a source with data in it")
    if problems:
        # A row of several queries tells what is wrong with its other side for each of them.
        raise ConvertError(*dict.fromkeys(problems))
    return groups


def _assign(
    groups: RowGroups, fractions: Mapping[str, float], job: Conversion, *, notes: list[str]
) -> list[str]:
    """Split the rows; refuse a split that gets none."""
    sizes = groups.sizes()
    largest = max(sizes.values())
    shared = "an image or a text" + (f" or {job.split_together}" if job.split_together else "")
    got = f"{len(sizes):,} groups of rows that share {shared}, the largest of {largest:,}"
    splits = groups.assign(fractions, seed=job.seed)
    if empty := sorted(fractions.keys() - set(splits)):
        remedy = "choose larger fractions, or texts that fewer rows share"
        raise ConvertError(f"--split {', '.join(empty)}: gets no rows; got {got}; {remedy}")
    notes.append(f"Split by content: {got}.")
    return splits


def _deal(whole: BinaryIO, parts: list[BinaryIO]) -> None:
    """Copy each line to the file of its split."""
    whole.flush()
    for (_, _, raw), part in zip(read_lines(Path(whole.name)), parts, strict=True):
        part.write(raw)
