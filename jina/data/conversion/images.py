"""The images of converted rows: named from one folder, stored there if they came as bytes, checked.

path or bytes of a source ─ place ─► name in the output ─ check ─► identity, or what is wrong
"""

import hashlib
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jina.data.conversion.sources import describe
from jina.data.image_loading import ImageError, image_size, load_image, pixel_identity

# Decoding the largest image allowed takes about 1 GB, so the threads are few.
MAX_THREADS = 8
_SUFFIXES = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"RIFF": ".webp",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II": ".tif",
    b"MM": ".tif",
}


class OutputImages:
    """What becomes of the images of one conversion.

    Args:
        base: The folder that names in the output start from and that no image may lie outside.
        start: The folder that relative paths of the source start from.
        store: The folder in `base` for images that are not files yet.
        identify: Whether to decode images for the identity of their pixels; without, `check`
            reads the header and nothing else.
    """

    def __init__(self, *, base: Path, start: Path, store: Path, identify: bool) -> None:
        self.base = base.resolve()
        self.start = start.resolve()
        self.store = store.resolve()
        self.identify = identify
        self._verdicts: dict[str, bytes | str] = {}
        self._kept: set[Path] = set()
        self._stored: list[Path] = []

    def __len__(self) -> int:
        """Return how many different names were checked."""
        return len(self._verdicts)

    def place(self, value: object) -> object:
        """Return the name that an image of the source has in the output.

        What is no image comes back as it is, for `parse_line` to refuse.
        """
        if isinstance(value, list):
            return [self.place(item) for item in value]
        if isinstance(value, dict) and value.keys() <= {"bytes", "path"}:
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return self._keep(value)
        return self._name(value) if isinstance(value, str) else value

    def check(self, names: Collection[str]) -> None:
        """Open all images that were not opened before, several at a time."""
        new = [name for name in dict.fromkeys(names) if name not in self._verdicts]
        with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
            self._verdicts.update(zip(new, pool.map(self._verdict, new), strict=True))

    def problem(self, name: str) -> str | None:
        """Return what is wrong with a checked image."""
        verdict = self._verdicts[name]
        return verdict if isinstance(verdict, str) else None

    def identity(self, name: str) -> bytes:
        """Return what images with equal pixels share, under any name."""
        verdict = self._verdicts[name]
        if isinstance(verdict, str):
            raise ImageError(verdict)
        return verdict

    def commit(self) -> None:
        """Let the files that were stored stay."""
        self._stored.clear()

    def discard(self) -> None:
        """Delete the files that were stored, and their folder if nothing else is in it."""
        for file in self._stored:
            file.unlink()
        if self._stored and not any(self.store.iterdir()):
            self.store.rmdir()
        self._stored.clear()

    def _name(self, path: str) -> str:
        """Return a path as seen from the base folder; an unusable one stays for `check`."""
        if "\0" in path or "://" in path or path.startswith("data:"):
            return path
        file = os.path.normpath(self.start / path)
        # Behind a link `..` leads elsewhere than the letters say.
        if ".." in Path(path).parts or not Path(file).is_relative_to(self.base):
            file = os.path.realpath(self.start / path)
        if not Path(file).is_relative_to(self.base):
            remedy = "put the output beside the images or set --image-base-dir"
            self._verdicts[path] = describe(path, f"lies outside {self.base}", file, remedy)
            return path
        return Path(file).relative_to(self.base).as_posix()

    def _keep(self, content: bytes) -> str:
        """Store an image under a name made of its content."""
        suffix = next((_SUFFIXES[head] for head in _SUFFIXES if content.startswith(head)), "")
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        file = self.store / f"{digest}{suffix}"
        if not self.store.is_relative_to(self.base):
            what, remedy = f"would be stored outside {self.base}", "set --image-base-dir"
            self._verdicts[file.name] = describe(file.name, what, str(self.store), remedy)
            return file.name
        if file not in self._kept:
            self._kept.add(file)
            self.store.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                self._stored.append(file)
            partial = file.with_suffix(".partial")
            partial.write_bytes(content)
            partial.replace(file)
        return file.relative_to(self.base).as_posix()

    def _verdict(self, name: str) -> bytes | str:
        """Open one image."""
        try:
            if self.identify:
                return pixel_identity(load_image(name, root=self.base))
            image_size(name, root=self.base)
        except ImageError as error:
            return str(error)
        return b""
