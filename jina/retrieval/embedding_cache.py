"""Single vectors kept on disk by what made them and what they are of, never by a name.

    settings (weights, adapter, image settings, task, role, size) ─► folder
    text and pixels ─► key                                        ─► vector

A part is one array of keys and vectors, written once and memory-mapped, so that a job that is
killed loses little and the next one starts with what there is. The folder may be deleted.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jina.retrieval.durable_files import publish

logger = logging.getLogger("smartembed")

KEY_BYTES = 16
# Raised when the same content and settings come to give other vectors.
FORMAT = 1


def content_key(text: str | None, pixels: bytes) -> bytes:
    """Return what two items share exactly if the model is given the same for both.

    Args:
        text: Taken letter by letter: other spaces or accents are other tokens.
        pixels: `pixel_identity` of the image, empty for none.
    """
    encoded = b"-" if text is None else b"%d:%b" % (len(text), text.encode("utf-8"))
    return hashlib.blake2b(encoded + b"|" + pixels, digest_size=KEY_BYTES).digest()


class EmbeddingCache:
    """The vectors of one model under one group of settings.

    Args:
        folder: Where the vectors of all models are kept.
        settings: Everything besides content that vectors depend on, as JSON values.
        dim: Size of the vectors, D.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], dim: int) -> None:
        text = json.dumps({"format": FORMAT, **settings}, sort_keys=True)
        name = hashlib.blake2b(text.encode("utf-8"), digest_size=KEY_BYTES).hexdigest()
        self._folder = folder / name
        self._dtype = np.dtype([("key", f"V{KEY_BYTES}"), ("vector", np.float32, (dim,))])
        self._parts: list[np.ndarray] = []
        self._places: dict[bytes, tuple[int, int]] = {}
        for file in sorted(self._folder.glob("*.npy")):
            self._open(file)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def get(self, keys: Sequence[bytes]) -> np.ndarray:
        """Return the vectors (N, D) of keys that are all there."""
        found = np.empty((len(keys), *self._dtype["vector"].shape), np.float32)
        for row, key in enumerate(keys):
            part, place = self._places[key]
            found[row] = self._parts[part]["vector"][place]
        return found

    def add(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Keep vectors (N, D) under keys that are not there."""
        part = np.empty(len(keys), self._dtype)
        part["key"] = np.frombuffer(b"".join(keys), f"V{KEY_BYTES}")
        part["vector"] = vectors
        name = hashlib.blake2b(b"".join(keys), digest_size=KEY_BYTES).hexdigest()
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{name}.npy"

        def write(path: Path) -> None:
            """Write under exactly this name."""
            with path.open("wb") as stream:
                np.save(stream, part, allow_pickle=False)

        publish(file, write)
        self._open(file)

    def _open(self, file: Path) -> None:
        """Add a part; one that is damaged is left aside, and its vectors are made again."""
        try:
            part = np.load(file, mmap_mode="r", allow_pickle=False)
            if part.dtype != self._dtype:
                raise ValueError(f"holds {part.dtype}")
        except (OSError, ValueError, EOFError) as error:
            logger.warning("%s: not used, because it is damaged: %s", file, error)
            return
        keys = np.ascontiguousarray(part["key"]).tobytes()
        number = len(self._parts)
        self._parts.append(part)
        for row in range(len(part)):
            key = keys[row * KEY_BYTES : (row + 1) * KEY_BYTES]
            self._places.setdefault(key, (number, row))
