"""Which model made some vectors: a digest that any changed weight or setting changes.

    config, tokenizer, image settings, adapters ─ every byte, every time ─┐
    base weights ─ every byte once, then known by path, size and times ───┴─► fingerprint

Names of folders don't count: a copy has the fingerprint of the original.
"""

import hashlib
import json
import time
from pathlib import Path

from jina.models.checkpoint import REQUIRED, Checkpoint
from jina.retrieval.durable_files import read_json, sha256_of, write_json
from jina.retrieval.errors import RetrievalError

DIGESTS = "digests.json"
# A file that was written just now may be written again without its time showing it.
SETTLED_NS = 2 * 10**9


def model_fingerprint(folder: Path | str, cache: Path | None = None) -> str:
    """Return what two checkpoints share exactly if all they make vectors with is equal.

    Args:
        folder: A checkpoint in the official layout.
        cache: A folder to remember the digests of base weights in; None reads them each time.

    Returns:
        64 hexadecimal digits.

    Raises:
        CheckpointError: If the folder is no checkpoint.
    """
    checkpoint = Checkpoint.open(folder)
    known = _KnownDigests(cache)
    digests = {name: sha256_of(checkpoint.path / name) for name in REQUIRED}
    digests |= {file.name: known.digest(file) for file in checkpoint.base_files}
    known.save()
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


class _KnownDigests:
    """Digests of large files by path, size, times and place on the disk.

    The time of the last change of state can't be set back, unlike that of the content.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._digests: dict[str, str] = {}
        self._new: dict[str, str] = {}
        if folder is not None and (folder / DIGESTS).is_file():
            try:
                self._digests = read_json(folder / DIGESTS)
            except RetrievalError:  # damaged: what it held is computed again
                self._digests = {}

    def digest(self, file: Path) -> str:
        """Return the SHA-256 of a file."""
        status = file.stat()
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        key = " ".join(map(str, (*stamp, file.resolve())))
        found = self._digests.get(key)
        if found is None:
            found = sha256_of(file)
            if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED_NS:
                self._new[key] = found
        return found

    def save(self) -> None:
        """Keep what was computed for the next time."""
        if self._folder is not None and self._new:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_json(self._folder / DIGESTS, {**self._digests, **self._new})
