"""What the recipes share: fetch a package with its own client, write checked rows in two splits."""

import argparse
import hashlib
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from jina.commands.console import speak
from jina.data.convert import Conversion, ConvertError, convert

logger = logging.getLogger("smartembed")

BAD_INPUT = 2
SPLIT = "train=0.9,eval=0.1"
DOCUMENT_SPLIT = "train=0.8,eval=0.2"

Row = Mapping[str, object]


class FetchError(RuntimeError):
    """A package that could not be had."""


def run_recipe(
    name: str,
    build: Callable[[Path, Path, Collection[str]], Iterable[Row]],
    *,
    packages: Collection[str],
    fetch: Callable[[str, Path], None],
    languages: Collection[str] = (),
    is_split_by_document: bool = False,
) -> None:
    """Run a recipe from the command line and exit: 0 done, 2 with what went wrong.

    Args:
        name: The name of the set, of its folder below outputs/data, and of its files.
        build: Takes the unpacked packages, the folder of the set, where it puts the images, and
            the languages asked for (none means all); yields rows.
        packages: What to fetch.
        fetch: `fetch_debian` or `fetch_npm`.
        languages: The languages to take unless told otherwise; none for all.
        is_split_by_document: Whether rows of one `metadata.document` go to one split.
    """
    parser = argparse.ArgumentParser(prog=f"python -m data.recipes.{name}")
    parser.add_argument("--output", type=Path, default=Path("outputs/data", name), metavar="DIR")
    parser.add_argument("--languages", nargs="*", default=list(languages), metavar="CODE")
    parser.add_argument("--seed", type=int, default=0, help="draws the split")
    options = parser.parse_args()
    speak()
    logger.setLevel(logging.INFO)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as unpacked:
            for package in packages:
                logger.info("Fetching %s …", package)
                fetch(package, Path(unpacked))
            rows = build(Path(unpacked), options.output, options.languages)
            write_rows(
                rows,
                options.output / f"{name}.jsonl",
                seed=options.seed,
                is_split_by_document=is_split_by_document,
            )
    except (FetchError, ConvertError) as error:
        logger.error("%s", error)
        sys.exit(BAD_INPUT)


def write_rows(
    rows: Iterable[Row], output: Path, *, seed: int, is_split_by_document: bool = False
) -> None:
    """Write rows as `NAME.train.jsonl` and `NAME.eval.jsonl`, checked, split by content.

    With `is_split_by_document` rows of one `metadata.document` go to one split, too.

    They are written language by language: evaluation ranks rows against their neighbours, which
    say little where they all show the same picture.
    """
    rows = sorted(rows, key=lambda row: row["metadata"]["lang"])
    unchecked = output.with_name(f"{output.stem}.unchecked.jsonl")
    try:
        with unchecked.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        job = Conversion(
            format="jsonl",
            source=unchecked,
            output=output,
            split=DOCUMENT_SPLIT if is_split_by_document else SPLIT,
            split_together="metadata.document" if is_split_by_document else None,
            seed=seed,
            overwrite=True,
        )
        for line in convert(job).lines():
            logger.info("%s", line)
    finally:
        unchecked.unlink(missing_ok=True)


def copy_new(source: Path, target: Path, seen: set[bytes]) -> bool:
    """Copy a picture, unless one with its bytes was copied before; tell which it was."""
    content = source.read_bytes()
    if (digest := hashlib.blake2b(content).digest()) in seen:
        return False
    seen.add(digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return True


def fetch_debian(package: str, folder: Path) -> None:
    """Download a Debian package and unpack its files, without installing it."""
    _call(["apt-get", "download", "-q", package], folder)
    for archive in folder.glob("*.deb"):
        _call(["dpkg-deb", "-x", archive.name, "."], folder)
        archive.unlink()


def fetch_npm(package: str, folder: Path) -> None:
    """Download an npm package `NAME@VERSION` and unpack it into a folder named after NAME."""
    name = package.rpartition("@")[0]
    _call(["npm", "pack", "--silent", package], folder)
    for archive in folder.glob("*.tgz"):
        (folder / name).mkdir(parents=True)
        _call(["tar", "-xzf", archive.name, "-C", name], folder)
        archive.unlink()


def _call(command: list[str], folder: Path) -> None:
    """Run a client; say what it said if it fails."""
    try:
        # The arguments are constants of the recipes, and no shell reads them.
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)  # noqa: S603
    except FileNotFoundError as error:
        what = f"{command[0]}: is not on this machine; got {' '.join(command)}"
        raise FetchError(f"{what}; run the recipe where it is") from error
    except subprocess.CalledProcessError as error:
        what = f"{' '.join(command)}: failed; got {error.stderr.strip()[-500:]}"
        raise FetchError(f"{what}; on Debian, run apt-get update first") from error
