"""How well the tiny Jina finds pictures by captions and captions by pictures.

    pictures, captions ─ single vectors ─► cosines ─► recall at 1 and 10, in both directions

`python -m jina evaluate` says the same and more of any rows; this is for looking on while training,
and builds the rows of Tux Paint on which the result is measured.

    python -m recipes.tiny_evaluation --stamps DIR --output DIR     # writes rows.jsonl
    python -m jina evaluate --model data/tiny_jina --data DIR/rows.jsonl --direction both --output …
"""

import argparse
import hashlib
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from data.recipes.common import fetch_debian
from data.recipes.tuxpaint import STAMPS, captions
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from recipes.tiny_augmentation import plain_views
from recipes.tiny_data import TinySet
from recipes.tiny_model import embed, image_batch, text_batch

NUM_ROWS = 250
BATCH = 64

logger = logging.getLogger("smartembed")


def recalls(texts: Tensor, images: Tensor) -> dict[str, float]:
    """Return recall at 1 and 10 of (N, H) texts and the images of the same rows."""
    scores = texts @ images.T
    found = {}
    for name, matrix in (("t2i", scores), ("i2t", scores.T)):
        ahead = (matrix > matrix.diagonal().unsqueeze(1)).sum(1)
        found |= {f"{name}@{k}": (ahead < k).float().mean().item() for k in (1, 10)}
    return found


@torch.no_grad()
def validate(model: JinaEmbeddingsV4Model, data: TinySet) -> dict[str, float]:
    """Measure on the pictures that were held out for choosing."""
    places = data.held_out()
    texts, images = [], []
    for start in range(0, len(places), BATCH):
        chosen = places[start : start + BATCH]
        views = plain_views(torch.from_numpy(data.pixels[chosen]), (112, 112))
        images.append(embed(model, image_batch(model, views)[0], multi=False).single)
        captioned = [data.captions[place]["en"] for place in chosen]
        texts.append(embed(model, text_batch(model, captioned, "Query"), multi=False).single)
    return recalls(torch.cat(texts), torch.cat(images))


def tuxpaint_rows(stamps: Path) -> Iterator[dict]:
    """Yield 250 stamps with an English caption of their own, alphabets left out.

    They are drawn by the hash of their captions, so that no one can choose.
    """
    found: dict[str, Path] = {}
    for text in sorted(stamps.rglob("*.txt")):
        picture = text.with_suffix(".png")
        if picture.is_file() and "alphabets" not in text.parts:
            caption = next(iter(captions(text.read_text(encoding="utf-8"))))
            found.setdefault(caption, picture)
    order = sorted(found, key=lambda caption: hashlib.blake2b(caption.encode()).digest())
    for caption in order[:NUM_ROWS]:
        yield {
            "query": caption,
            "positive_image": found[caption].relative_to(stamps).as_posix(),
            "source": "tuxpaint",
            "metadata": {"lang": "en", "license": "GPL-2"},
        }


def main() -> None:
    """Write the rows of Tux Paint and their pictures."""
    parser = argparse.ArgumentParser(prog="python -m recipes.tiny_evaluation")
    parser.add_argument("--stamps", type=Path, help="unpacked stamps; fetched if not given")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s", stream=sys.stdout, level=logging.INFO)
    with tempfile.TemporaryDirectory() as unpacked:
        if options.stamps is None:
            fetch_debian("tuxpaint-stamps-default", Path(unpacked))
        stamps = options.stamps or Path(unpacked, STAMPS)
        rows = list(tuxpaint_rows(stamps))
        for row in rows:
            target = options.output / row["positive_image"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((stamps / row["positive_image"]).read_bytes())
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (options.output / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    logger.info("Wrote %d rows.", len(rows))


if __name__ == "__main__":
    main()
