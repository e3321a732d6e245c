"""How fast a JPEG file becomes patches: `python -m benchmarks.image_patches`.

Photos of 2.6 megapixels, read, decoded, resized and cut, by SmartEmbed and by transformers' Pillow
processor with the same settings, in turns in one process of one thread. Prints files per CPU second
and the mean difference of pixels in levels of 255.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from benchmarks.workload import random_photo
from jina.data.image_loading import load_image
from jina.models.processing_jina_embeddings_v4 import ImageSettings, image_patches

SIZE = (1968, 1312)
SETTINGS = {
    "min_pixels": 3136,
    "max_pixels": 602112,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def main() -> None:
    """Measure both, and compare what they make."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--max-pixels", type=int, default=SETTINGS["max_pixels"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = {**SETTINGS, "max_pixels": options.max_pixels}
    ours, theirs = our_way(settings), stock_way(settings)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.jpg") for number in range(options.files)]
        for number, file in enumerate(files):
            random_photo(*SIZE, np.random.default_rng(number)).save(file, quality=90)
        seconds: dict[str, list[float]] = {"transformers, Pillow": [], "ours": []}
        for _ in range(options.repeats):
            for way, spent in zip((theirs, ours), seconds.values(), strict=True):
                start = time.process_time()
                pixels = [way(file) for file in files]
                spent.append((time.process_time() - start) / len(files))
        differences = [(ours(file) - theirs(file)).abs() for file in files]
    std = float(np.mean(SETTINGS["image_std"]))
    levels = float(torch.cat([d.flatten() for d in differences]).mean()) * std * 255
    base = median(seconds["transformers, Pillow"])
    for name, spent in seconds.items():
        sys.stdout.write(f"{name:<22} {1 / median(spent):6.1f} files per CPU second, ")
        sys.stdout.write(f"{base / median(spent):.2f} x\n")
    facts = {"patches": len(pixels[0]), "mean_difference_levels": round(levels, 3)}
    sys.stdout.write(json.dumps(facts) + "\n")


def our_way(values: dict) -> Callable[[Path], Tensor]:
    """Return SmartEmbed's way from a file to (P, 1176) pixel values."""
    fixed = {"rescale_factor": 1 / 255, "patch_size": 14, "merge_size": 2}
    settings = ImageSettings.from_dict({**values, **fixed, "temporal_patch_size": 2})
    return lambda file: settings.pixel_values(image_patches(load_image(file), settings)[0])


def stock_way(values: dict) -> Callable[[Path], Tensor]:
    """Return transformers' way."""
    processor = Qwen2VLImageProcessorPil(**values)

    def process(file: Path) -> Tensor:
        """Decode a file and cut it into patches."""
        with Image.open(file) as image:
            found = processor(images=image.convert("RGB"), return_tensors="pt")
        return found["pixel_values"]

    return process


if __name__ == "__main__":
    main()
