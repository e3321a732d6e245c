"""Checkpoints of a run: there completely or not at all, and known by their digests.

    contents ─ hidden folder, files flushed to disk ─ manifest of digests ─ rename ─► checkpoint-N
    checkpoint-N … ─ newest first ─ manifest, names, sizes and digests right? ─► complete ones

Only when a new checkpoint stands are older ones deleted. Tensors are safetensors and all the rest
is JSON, so nothing that is read can run. A killed or failed save leaves a hidden folder, which the
next one sweeps away, and never touches an earlier checkpoint.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from jina.models.checkpoint import ADAPTER_WEIGHTS, CheckpointError

logger = logging.getLogger("smartembed")

FORMAT = 1
MANIFEST = "manifest.json"
LOSS_STATE, OPTIMIZER, RANDOM = "loss.safetensors", "optimizer.safetensors", "random.safetensors"
STATE, TRAINER_STATE = "state.json", "trainer_state.json"
FILES = (ADAPTER_WEIGHTS, LOSS_STATE, OPTIMIZER, RANDOM, STATE, TRAINER_STATE)
SPARE_BYTES = 2**20  # beside the tensors: JSON and what a file system needs itself
ADVICE = "; the checkpoints before it are unharmed, and train.py goes on from the newest"

Contents = Mapping[str, Any]  # tensors by name for a .safetensors file, JSON values for the others


class SaveError(RuntimeError):
    """A checkpoint that couldn't be written; earlier ones are as they were."""


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint that is complete and undamaged.

    Attributes:
        path: its folder.
        step: optimizer steps it has behind it.
        run: what the run was that wrote it, see `run_identity`.
    """

    path: Path
    step: int
    run: dict[str, Any]


def open_checkpoint(folder: Path) -> StoredCheckpoint:
    """Check a checkpoint: exactly the files of its manifest, with their sizes and digests.

    Raises:
        CheckpointError: naming the first file that isn't as it was written.
    """
    manifest = _read_manifest(folder / MANIFEST)
    if folder.name != f"checkpoint-{manifest['step']}":
        raise _damaged(folder / MANIFEST, f"of another step; got {manifest['step']}")
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_symlink() or p.is_file()}
    for name in sorted(found ^ {*FILES, MANIFEST}):
        raise _damaged(folder / name, "not of a checkpoint" if name in found else "missing")
    for name, entry in manifest["files"].items():
        file = folder / name
        if file.is_symlink() or file.stat().st_size != entry["bytes"]:
            raise _damaged(file, f"of another size than the {entry['bytes']:,} bytes written")
        if digest_of(file) != entry["sha256"]:
            raise _damaged(file, "other bytes than were written, by its SHA-256")
    return StoredCheckpoint(folder, manifest["step"], manifest["run"])


def complete_checkpoints(output_dir: Path) -> Iterator[StoredCheckpoint]:
    """Yield the complete checkpoints of a folder, newest first, saying which are passed over."""
    for step in sorted(saved_steps(output_dir), reverse=True):
        try:
            yield open_checkpoint(output_dir / f"checkpoint-{step}")
        except (CheckpointError, OSError) as error:
            logger.warning("checkpoint-%d is passed over: %s", step, error)


def saved_steps(output_dir: Path) -> list[int]:
    """Return the steps of all checkpoint folders, whole or not, in rising order."""
    names = [re.fullmatch(r"checkpoint-(\d+)", p.name) for p in output_dir.glob("checkpoint-*")]
    return sorted(int(name[1]) for name in names if name)


def write_file(file: Path, data: bytes) -> None:
    """Write a file and flush it to the disk."""
    with file.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


class CheckpointFolder:
    """Where a run writes its checkpoints; one process does.

    Args:
        path: the output folder, which holds them as `checkpoint-N`.
        limit: how many are kept, beside the best; None keeps all.
        write: writes one file durably.
    """

    def __init__(
        self, path: Path, *, limit: int | None, write: Callable[[Path, bytes], None] = write_file
    ) -> None:
        self.path, self.limit, self.write = path, limit, write

    def save(
        self, step: int, contents: Contents, run: Mapping[str, Any], *, best: int | None = None
    ) -> None:
        """Write a checkpoint unless it is there, then delete the oldest over the limit.

        Args:
            step: optimizer steps that are done.
            contents: of each file in `FILES`.
            run: what the run is.
            best: step of the best checkpoint, which is kept.

        Raises:
            SaveError: no space, no permission, no folder.
        """
        if self._has(step, run):
            return
        try:
            self.require_space(size_of(contents))
            self.sweep()
            staged = self.path / f".checkpoint-{step}.staged"
            try:
                staged.mkdir()  # not its parents: an output folder that has vanished stays away
                self._stage(staged, step, contents, run)
                self._publish(staged, step)
            except OSError:
                shutil.rmtree(staged, ignore_errors=True)
                raise
        except OSError as error:
            raise SaveError(f"checkpoint-{step}: cannot be written; got {error}{ADVICE}") from error
        self._rotate(step, best)

    def require_space(self, size: int) -> None:
        """Raise `SaveError` unless the file system has so many bytes left."""
        free = shutil.disk_usage(self.path).free
        if free < size + SPARE_BYTES:
            raise SaveError(
                f"{self.path}: no space for a checkpoint; got {free / 2**20:,.0f} MiB free of "
                f"{(size + SPARE_BYTES) / 2**20:,.0f} needed; make room{ADVICE}"
            )

    def sweep(self) -> None:
        """Delete what interrupted saves and deletions have left."""
        for left in (*self.path.glob(".checkpoint-*.staged"), *self.path.glob(".checkpoint-*.old")):
            shutil.rmtree(left)

    def clear(self) -> None:
        """Delete all checkpoints, to start over."""
        for step in saved_steps(self.path):
            self._retire(step)
        self.sweep()

    def _has(self, step: int, run: Mapping[str, Any]) -> bool:
        """Whether a step has been saved; the end of an epoch may come upon its last step's."""
        try:
            return open_checkpoint(self.path / f"checkpoint-{step}").run == run
        except (CheckpointError, OSError):
            return False

    def _stage(self, folder: Path, step: int, contents: Contents, run: Mapping[str, Any]) -> None:
        files = {}
        for name in FILES:
            data = encode(name, contents[name])
            (folder / name).parent.mkdir(exist_ok=True)
            self.write(folder / name, data)
            files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest = {"format": FORMAT, "step": step, "files": files, "run": dict(run)}
        self.write(folder / MANIFEST, _manifest_bytes(manifest))
        for inner in (folder / "adapters", folder):
            flush_folder(inner)

    def _publish(self, staged: Path, step: int) -> None:
        """Give a staged checkpoint its name, in place of a damaged one of the same step."""
        if (self.path / f"checkpoint-{step}").exists():
            self._retire(step)
        staged.rename(self.path / f"checkpoint-{step}")
        flush_folder(self.path)

    def _rotate(self, newest: int, best: int | None) -> None:
        older = [step for step in saved_steps(self.path) if step < newest]
        kept = 0 if self.limit is None else self.limit - 1
        for step in older[: len(older) - kept] if self.limit is not None else []:
            if step != best:
                try:
                    self._retire(step)
                except OSError as error:  # the new one is safe, so the run need not end
                    logger.warning("checkpoint-%d: not deleted; got %s", step, error)

    def _retire(self, step: int) -> None:
        """Delete a checkpoint; from the first moment it is none any more."""
        old = self.path / f".checkpoint-{step}.old"
        (self.path / f"checkpoint-{step}").rename(old)
        shutil.rmtree(old)


def encode(name: str, content: Any) -> bytes:
    """Return the bytes of a file: tensors as safetensors, all else as JSON."""
    if not name.endswith(".safetensors"):
        return (json.dumps(content) + "\n").encode()
    # copies, since a shared adapter is the same memory under several names
    return save({key: t.detach().cpu().clone().contiguous() for key, t in content.items()})


def size_of(contents: Contents) -> int:
    """Return the bytes of all tensors."""
    files = (content for name, content in contents.items() if name.endswith(".safetensors"))
    return sum(t.nbytes for content in files for t in content.values() if isinstance(t, Tensor))


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return the one way to write a manifest, with a digest of its own."""
    own = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    whole = {"manifest": manifest, "sha256": own}
    return (json.dumps(whole, indent=1, sort_keys=True) + "\n").encode()


def _read_manifest(file: Path) -> dict[str, Any]:
    try:
        data = file.read_bytes()
        manifest = json.loads(data)["manifest"]
        is_ours = manifest["format"] == FORMAT and manifest["files"].keys() == set(FILES)
        is_ours &= all(entry.keys() == {"bytes", "sha256"} for entry in manifest["files"].values())
        is_ours &= isinstance(manifest["run"], dict) and isinstance(manifest["step"], int)
        is_whole = _manifest_bytes(manifest) == data
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(file, f"no manifest; got {error}") from error
    if not is_ours or not is_whole:
        raise _damaged(file, "other bytes than were written" if is_ours else "of another format")
    return manifest


def _damaged(file: Path, wrong: str) -> CheckpointError:
    return CheckpointError(f"{file}: {wrong}; not used")
