"""Files that are there complete or not at all, and folders that know what they were made for.

    content ─ partial file beside it ─ fsync ─ rename ─ fsync of the folder ─► file

A process that is killed leaves at most a hidden `.NAME.partial`, which the next one overwrites.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jina.retrieval.errors import RetrievalError

BLOCK = 2**20


def publish(file: Path, write: Callable[[Path], object], *, tag: str = "") -> None:
    """Write a file so that its name never stands for half of it.

    Args:
        file: The final name.
        write: Writes all of the content to the path it is given.
        tag: Keeps processes apart that publish the same file at the same time.
    """
    partial = file.with_name(f".{file.name}{tag}.partial")
    partial.unlink(missing_ok=True)
    write(partial)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Publish an object as JSON."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    publish(file, lambda path: path.write_text(text, encoding="utf-8"), tag=f".{os.getpid()}")


def read_json(file: Path) -> dict[str, Any]:
    """Read an object that `write_json` wrote; raise `RetrievalError` if it is none."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RetrievalError(f"{file}: cannot be read; got {error}; make it anew") from error
    if not isinstance(values, dict):
        got = type(values).__name__
        raise RetrievalError(f"{file}: is not a JSON object; got {got}; make it anew")
    return values


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def claim_folder(folder: Path, name: str, manifest: Mapping[str, Any]) -> bool:
    """Make a folder the place for what a manifest describes, or go on in one that already is.

    Args:
        folder: Created if it isn't there.
        name: File name of the manifest.
        manifest: What the folder is for; JSON values, flat. Written if the folder is empty.

    Returns:
        Whether the folder was claimed before.

    Raises:
        RetrievalError: If the folder is for something else, with all that differs, or holds files
            without a manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    if file.exists():
        _refuse_differences(file, read_json(file), json.loads(json.dumps(manifest)))
        return True
    foreign = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    # Another process of the same job may have written the manifest just now.
    if foreign and foreign != [name] and not file.exists():
        raise RetrievalError(
            f"{folder}: holds other files; got {', '.join(foreign[:5])}; choose an empty folder"
        )
    write_json(file, manifest)
    return False


def _refuse_differences(file: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise with every value that differs."""
    missing = "nothing"
    problems = [
        f"{file}: {key}: differs from what the folder was started with; "
        f"got {new.get(key, missing)!r} instead of {old.get(key, missing)!r}; "
        "choose another folder, or the same settings"
        for key in dict.fromkeys([*old, *new])
        if old.get(key, missing) != new.get(key, missing)
    ]
    if problems:
        raise RetrievalError(*problems)


@contextmanager
def locked(folder: Path, *, exclusive: bool) -> Iterator[None]:
    """Keep writers of a folder apart from each other and from its readers, across processes.

    The folder itself is what is locked, so that one may read where nothing can be written.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)
