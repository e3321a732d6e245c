"""How fast a corpus of images and texts is embedded: `python -m benchmarks.encode`.

As many images as texts, read from files, embedded with the retrieval adapter in a process of its
own each: by what `search` and `evaluate` embed with, by `encode_image` and `encode_text`, the
official way and by sentence-transformers (`--python`, see benchmarks/README.md). Prints items per
CPU second, and how far the vectors lie from those of the official way.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import (
    Meter,
    errand_of_this_process,
    interleave,
    read_batches,
    run_errand,
    summary,
    table,
    write_vectors,
)
from benchmarks.workload import KINDS, build_workload
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.retrieval.item_embedding import Embedder, EmbeddingItem

SPEED = "items_per_cpu_second"
RANK = 32  # of the adapters in the checkpoint
OURS = "benchmarks.encode"
STOCK = "benchmarks.rivals.stock_encoder"
ST = "benchmarks.rivals.sentence_transformer_encoder"
MODULES = {
    "official": STOCK,
    "ST": ST,
    "ours, encode_*": OURS,
    "ours, corpus": OURS,
}


def main() -> None:
    """Build the workload, run the variants in turns, print the table."""
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        encode_ours(errand_of_this_process())
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", choices=KINDS, default="mixed")
    parser.add_argument("--pairs", type=int, default=96, help="of an image and a text")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--python", help="of the environment with sentence-transformers")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        workload = Path(scratch, "workload")
        build_workload(
            workload, options.rows, rows=options.pairs,
            batch_size=options.pairs, seed=options.seed,
        )  # fmt: skip
        names = [name for name, module in MODULES.items() if module != ST or options.python]
        runs = interleave(names, options.repeats, partial(run, workload, options))
        distances = distances_to_official(workload, names)
    rows = summary(runs, speed=SPEED, baseline="official")
    sys.stdout.write(table(rows, speed=SPEED, baseline="official") + "\n")
    sys.stdout.write(f"largest difference of a vector from the official way's: {distances}\n")
    if options.json:
        report = {"rows": options.rows, "batch_size": options.batch_size}
        report |= {"variants": rows, "distances": distances}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def run(workload: Path, options: argparse.Namespace, name: str) -> dict[str, float]:
    """Run one variant once."""
    errand = {
        "variant": name,
        "workload": str(workload),
        "result": str(workload.with_name(f"{name}.json")),
        "batch_size": options.batch_size,
        "rank": RANK,
    }
    figures = run_errand(options.python or sys.executable, MODULES[name], errand)
    sys.stderr.write(f"{name}: {figures}\n")
    return figures


def encode_ours(errand: dict[str, Any]) -> None:
    """Embed the errand's images and texts with SmartEmbed."""
    workload = Path(errand["workload"])
    pairs = read_batches(workload)["pairs"]
    images = [pair["image"] for pair in pairs]
    texts = [pair["text"].removeprefix("Passage: ") for pair in pairs]
    model = JinaEmbeddingsV4Model.from_pretrained(workload / "model", device="cpu")
    meter = Meter()
    if errand["variant"] == "ours, corpus":
        items = [EmbeddingItem(image=image) for image in images]
        items += [EmbeddingItem(text=text) for text in texts]
        batches = Embedder(model, task="retrieval").embed(items, "passage")
        vectors = np.concatenate([batch.single for batch in batches])
    else:
        how = {"batch_size": errand["batch_size"], "return_numpy": True}
        found = [
            model.encode_image(images, "retrieval", **how),
            model.encode_text(texts, "retrieval", prompt_name="passage", **how),
        ]
        vectors = np.concatenate(found)
    write_vectors(errand, meter, vectors)


def distances_to_official(workload: Path, names: list[str]) -> dict[str, float]:
    """Return how far each variant's vectors lie from the official way's at most."""
    vectors = {
        name: np.load(file)
        for name in names
        if (file := workload.with_name(f"{name}.npy")).exists()
    }
    official = vectors.pop("official")
    return {
        name: float(np.linalg.norm(found - official, axis=1).max())
        for name, found in vectors.items()
    }


if __name__ == "__main__":
    main()
