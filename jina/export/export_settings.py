"""What to export and how, checked before any work."""

from dataclasses import dataclass
from pathlib import Path

FORMATS = ("sentence-transformers", "multi-vector", "merged", "official")


class ExportError(ValueError):
    """An export that can't be made, or whose vectors differ too much."""


@dataclass(frozen=True)
class Export:
    """What to export, how, and what to check it with.

    Attributes:
        model: folder in the official layout.
        format: one of `FORMATS`.
        output: the folder to write; it must not exist, or be empty.
        task: the adapter to merge; of no account to `official`, which keeps all three.
        dtype: type of the exported weights; `auto` is the checkpoint's.
        exact: for `sentence-transformers`, Jina's own pooling as remote code.
        new_names: for `merged`, tensor names of transformers 5.
        rows: JSONL file whose texts and images the parity check takes.
        image_base_dir: where image paths in it start; the file's folder if `None`.
        limit: how many texts and how many images the check takes.
        minimum: bound on every cosine; that of the type if `None`.
        allow_loss: export in spite of a failed check, which the card then tells.
    """

    model: Path
    format: str
    output: Path
    task: str
    dtype: str
    exact: bool
    new_names: bool
    rows: Path
    image_base_dir: Path | None
    limit: int
    minimum: float | None
    allow_loss: bool

    def check(self) -> None:
        """Refuse options that don't fit each other, and an output that holds something.

        Raises:
            ExportError: with all there is to mend.
        """
        problems = []
        if self.output.exists() and (not self.output.is_dir() or any(self.output.iterdir())):
            problems.append(f"--output: holds something; got {self.output}; name a new folder")
        if self.exact and self.format != "sentence-transformers":
            problems.append(
                f"--exact: only sentence-transformers pools differently; got --format "
                f"{self.format}; leave it out, this format is exact"
            )
        if self.new_names and self.format != "merged":
            problems.append(
                f"--tensor-names: only merged has a choice; got --format {self.format}; "
                "leave it out"
            )
        if self.format == "official" and self.dtype != "auto":
            problems.append(
                f"--dtype: official keeps the types of its files; got {self.dtype}; leave it out"
            )
        if self.limit < 2:
            problems.append(f"--parity-items: too few to compare; got {self.limit}; take 2 or more")
        if problems:
            raise ExportError("\n".join(problems))
