"""Parquet files and data sets saved by Hugging Face's `datasets`, read with pyarrow alone.

A saved data set is a folder of Arrow streams and two small JSON files; read like this it needs
neither `datasets` nor pandas, and no picture is decoded. A column of pictures holds their bytes, or
their path, or both; class labels are read as their names.
"""

import importlib
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from jina.data.conversion.sources import ConvertError, Source, SourceRow, describe
from jina.data.records import RecordError

REQUIREMENT = "pyarrow>=18,<26"
# Rows come with their pictures, so few are turned into Python objects at a time.
ROWS_AT_A_TIME = 64
_END_OF_STREAM = b"\xff\xff\xff\xff" + bytes(4)


def read_parquet(path: Path) -> Source:
    """Read one Parquet file, or all `*.parquet` of a folder in the order of their names."""
    parquet = _pyarrow("pyarrow.parquet", "parquet")
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]

    def batches(file: Path, names: list[str]) -> Iterator[Any]:
        """Yield the record batches of one file."""
        with parquet.ParquetFile(file) as table:
            yield from table.iter_batches(batch_size=ROWS_AT_A_TIME, columns=names)

    return _source(path, files, schema_of=parquet.read_schema, batches_of=batches)


def read_hf_dataset(path: Path) -> Source:
    """Read a data set that `Dataset.save_to_disk` wrote."""
    pyarrow = _pyarrow("pyarrow", "hf-dataset")

    def schema(file: Path) -> Any:
        """Return the columns of one file."""
        with pyarrow.memory_map(str(file)) as stream:
            return pyarrow.ipc.open_stream(stream).schema

    def batches(file: Path, names: list[str]) -> Iterator[Any]:
        """Yield the record batches of one file, checked, since a broken one could crash us."""
        with pyarrow.memory_map(str(file)) as stream:
            # Arrow takes a stream that ends between two batches for a whole one.
            stream.seek(max(stream.size() - len(_END_OF_STREAM), 0))
            if stream.read() != _END_OF_STREAM:
                raise pyarrow.ArrowInvalid("the stream of record batches is cut off")
            stream.seek(0)
            for batch in pyarrow.ipc.open_stream(stream):
                batch.validate(full=True)
                yield batch.select(names)

    return _source(path, _saved_files(path), schema_of=schema, batches_of=batches)


def _pyarrow(module: str, format_name: str) -> ModuleType:
    """Import a part of pyarrow, which only these two formats need."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what, remedy = "needs pyarrow, which is not here", f"run pip install '{REQUIREMENT}'"
        raise ConvertError(describe(f"--from {format_name}", what, str(error), remedy)) from error


def _saved_files(path: Path) -> list[Path]:
    """Return the Arrow files of a saved data set, in order."""
    where = f"{path}:1: folder"
    if (path / "dataset_dict.json").is_file():
        splits = sorted(part.parent.name for part in path.glob("*/state.json"))
        remedy = f"convert them one by one, such as {path / 'train'}"
        raise ConvertError(describe(where, "holds several data sets", splits, remedy))
    try:
        if not (path / "state.json").is_file():
            raise FileNotFoundError("state.json")
        state = json.loads((path / "state.json").read_bytes())
        names = [str(entry["filename"]) for entry in state["_data_files"]]
        indices = state.get("_indices_files") or state.get("_indices_data_files")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        remedy = "give a folder that Dataset.save_to_disk wrote"
        raise ConvertError(
            describe(where, "is no saved data set", f"{type(error).__name__}: {error}", remedy)
        ) from error
    if indices:
        remedy = "load it with `datasets` 2 or newer and save it again"
        raise ConvertError(describe(where, "was saved with an index of rows", indices, remedy))
    if outside := [name for name in names if Path(name).name != name]:
        raise ConvertError(describe(where, "names files elsewhere", outside, "save it again"))
    return [path / name for name in names]


def _source(
    path: Path,
    files: list[Path],
    *,
    schema_of: Callable[[Path], Any],
    batches_of: Callable[[Path, list[str]], Iterator[Any]],
) -> Source:
    """Build a source of files that are read alike."""
    where = f"{path}:1: folder"
    if not files:
        raise ConvertError(describe(where, "holds no data files", [], "give one with data in it"))
    if missing := [file.name for file in files if not file.is_file()]:
        raise ConvertError(describe(where, "lacks files", missing, "restore them"))
    schemas = dict(zip(files, _guarded(path, map(schema_of, files)), strict=True))

    def read(wanted: Collection[str]) -> Iterator[SourceRow | RecordError]:
        """Yield the rows of all files."""
        for file, schema in schemas.items():
            labels = _class_labels(schema)
            names = [name for name in schema.names if name in wanted]
            rows = _rows(batches_of(file, names))
            for line, values in enumerate(_guarded(file, rows), start=1):
                named = {key: _named(value, labels.get(key)) for key, value in values.items()}
                yield SourceRow(str(file), line, named)

    columns = dict.fromkeys(name for schema in schemas.values() for name in schema.names)
    for file, schema in schemas.items():
        if len(set(schema.names)) < len(schema.names):
            where, remedy = f"{file}:1: columns", "give each column a name of its own"
            raise ConvertError(describe(where, "share a name", schema.names, remedy))
    start = path if path.is_dir() else path.parent
    return Source(tuple(columns), read, start)


def _guarded(path: Path, items: Iterator[Any]) -> Iterator[Any]:
    """Pass items on; what Arrow cannot read ends the conversion."""
    pyarrow = importlib.import_module("pyarrow")
    try:
        yield from items
    except (pyarrow.ArrowException, OSError) as error:
        got = f"{type(error).__name__}: {error}"
        raise ConvertError(
            describe(f"{path}:1: file", "cannot be read", got, "write it anew")
        ) from error


def _rows(batches: Iterator[Any]) -> Iterator[dict[str, object]]:
    """Take record batches apart."""
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS_AT_A_TIME):
            yield from batch.slice(start, ROWS_AT_A_TIME).to_pylist()


def _class_labels(schema: Any) -> dict[str, object]:
    """Return the names of the classes in each column of class labels, as `datasets` notes them."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {
            name: feature["names"]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (TypeError, LookupError, ValueError, AttributeError):
        return {}  # no such note


def _named(value: object, names: object) -> object:
    """Return the name of a class, None for the -1 that means unknown; other values as they are."""
    if not isinstance(names, list) or type(value) is not int:
        return value
    return names[value] if 0 <= value < len(names) else None
