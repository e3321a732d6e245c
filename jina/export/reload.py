"""Embed items with an exported folder, as its users would: in a fresh process, offline.

    items ─ request.json, images ─► reload_worker ─► vectors.safetensors ─ Vectors of each item

The libraries that read a format are looked for before any work.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from jina.export.parity_items import ParityItem, Vectors

PROJECT = Path(__file__).parents[2]
LIBRARIES = {
    "sentence-transformers": ("sentence-transformers", "torchvision"),
    "multi-vector": ("sentence-transformers", "torchvision"),
    "merged": ("torchvision",),
    "official": (),
}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class ReloadError(ValueError):
    """An exported folder that can't be loaded, or a library that is missing for it."""


def check_libraries(format_: str) -> None:
    """Refuse before any work where the libraries that read a format aren't installed.

    Raises:
        ReloadError: naming them.
    """
    names = LIBRARIES[format_]
    probe = (
        "import importlib.metadata as m, sys; installed = {d.name for d in m.distributions()}; "
        "print(*(n for n in sys.argv[1:] if n not in installed), sep=', ')"
    )
    missing = _run(["-c", probe, *names]).stdout.strip()
    if missing:
        raise ReloadError(
            f"--format {format_}: can't check what is exported; got no {missing}; "
            "pip install -r requirements-export.txt"
        )


def embed_in_fresh_process(
    items: Sequence[ParityItem], folder: Path, work: Path, **request: Any
) -> list[Vectors]:
    """Embed items with an exported folder.

    Args:
        items: what to embed.
        folder: the exported folder.
        work: an empty folder for what the two processes exchange.
        request: `format`, `task`, and `exact`.

    Raises:
        ReloadError: the folder can't be loaded, with what was said.
    """
    work, listed = work.absolute(), []
    for index, item in enumerate(items):
        image = None if item.image is None else str(work / f"{index}.png")
        if item.image is not None:
            item.image.save(image)
        listed.append({"kind": item.kind, "text": item.text, "image": image})
    asked, answered = work / "request.json", work / "vectors.safetensors"
    asked.write_text(json.dumps({**request, "folder": str(folder.absolute()), "items": listed}))
    done = _run(
        ["-m", "jina.export.reload_worker", str(asked), str(answered)],
        HF_MODULES_CACHE=str(work / "modules"),  # where transformers copies remote code to
    )
    if done.returncode:
        raise ReloadError(
            f"{folder}: can't be loaded by the libraries it is made for; got "
            f"{done.stderr.strip()[-2000:]}; see requirements-export.txt for their versions"
        )
    tensors = load_file(answered)
    return [
        Vectors(tensors.get(f"single.{index}"), tensors.get(f"multi.{index}"))
        for index in range(len(items))
    ]


def _run(arguments: list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - this interpreter, our own module
        [sys.executable, *arguments],
        cwd=PROJECT,
        env={**os.environ, **OFFLINE, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
