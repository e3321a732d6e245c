"""Embedding with sentence-transformers' `encode`, which sorts by length and pads.

Run by `benchmarks.encode` as `python -m benchmarks.rivals.sentence_transformer_encoder ERRAND`;
imports nothing of SmartEmbed. It pools all tokens of an image, prompt included, so its vectors of
images are its own.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measuring import Meter, errand_of_this_process, read_batches, write_vectors
from benchmarks.rivals.sentence_transformer import load
from benchmarks.rivals.stock_encoder import adapter_config, load_adapter


def main() -> None:
    """Embed the errand's images and texts."""
    errand = errand_of_this_process()
    folder = Path(errand["workload"])
    pairs = read_batches(folder)["pairs"]
    model = load(folder)
    model.add_adapter(adapter_config(errand))
    load_adapter(model, folder)
    meter = Meter()
    images = [Image.open(pair["image"]).convert("RGB") for pair in pairs]
    sides = (images, [pair["text"] for pair in pairs])
    found = [
        model.encode(side, batch_size=errand["batch_size"], normalize_embeddings=True)
        for side in sides
    ]
    write_vectors(errand, meter, np.concatenate(found))


if __name__ == "__main__":
    main()
