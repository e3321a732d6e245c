"""What the feature cache and equal items as one are worth: `python -m benchmarks.vision_levers`.

Takes training steps, loading included, on made-up pictures and texts: 32 pictures with a text each
as in a first epoch (cache off) and as in a later one (every feature known, in memory or on disk);
and 8 pictures with 4 texts each, shared and each on its own. Alternates the two in one process of
one thread and prints CPU seconds a step, the median of all rounds, and their ratio.

Two sizes of model: the demo's, and one with the proportions of the 3B model (hidden size 256, 4
layers; vision tower 6 layers of 128).
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image

from jina.data.data_collator import ContrastiveDataCollator
from jina.data.multimodal_dataset import MultimodalDataset
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.tiny_checkpoint import Shape, build_tiny_checkpoint
from jina.training.config_sections import LossSection, LossWeights
from jina.training.jina_trainer import JinaEmbeddingTrainer
from jina.training.run_inputs import RunInputs
from jina.training.training_config import JinaTrainingConfig
from jina.training.vision_cache import open_vision_cache

PICTURES, TEXTS = 32, 4
SIDES = (112, 448)  # of a picture, in pixels
WORDS = (8, 198)  # of a text, most of them short
SHAPES = {
    "demo": Shape(max_pixels=SIDES[1] ** 2),
    "proportions of 3B": Shape(
        text={"hidden_size": 256, "intermediate_size": 1376, "num_hidden_layers": 4,
              "num_attention_heads": 8, "num_key_value_heads": 1},
        vision={"depth": 6, "hidden_size": 128, "intermediate_size": 342,
                "fullatt_block_indexes": [2, 5]},
        max_pixels=SIDES[1] ** 2,
    ),
}  # fmt: skip
SINGLE = LossWeights(multi=0.0, kl=0.0)


def main() -> None:
    """Measure each model with each lever."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            rows = write_rows(Path(folder))
            bench = Bench(Path(folder), rows, shape)
            for mode in ("memory", "disk"):
                report(f"{name}, {mode} cache", bench.cache_steps(mode), rounds)
            report(f"{name}, 4 texts an image", bench.sharing_steps(), rounds)


def write_rows(folder: Path) -> Path:
    """Write pictures that compress like photographs, and texts of random words."""
    draw, file = random.Random(0), folder / "rows.jsonl"  # noqa: S311 - no secret
    with file.open("w", encoding="utf-8") as stream:
        for number in range(PICTURES):
            size = draw.randint(*SIDES), draw.randint(*SIDES)
            noise = Image.frombytes("RGB", (16, 16), draw.randbytes(16 * 16 * 3))
            noise.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
            for _ in range(TEXTS):
                words = int(WORDS[0] * (WORDS[1] / WORDS[0]) ** draw.random())
                text = " ".join(draw.choice(["ab", "cd", "ef", "gh"]) for _ in range(words))
                row = {"query_image": f"{number}.jpg", "positive": text}
                stream.write(json.dumps(row) + "\n")
    return file


class Bench:
    """A trainer on these rows, whose levers can be moved between two steps."""

    def __init__(self, folder: Path, rows: Path, shape: Shape) -> None:
        corpus = [json.loads(line)["positive"] for line in rows.read_text("utf-8").splitlines()]
        build_tiny_checkpoint(folder / "model", corpus, seed=0, shape=shape)
        self.model = JinaEmbeddingsV4Model.from_pretrained(folder / "model", device="cpu")
        self.model.train_adapters("retrieval", dropout=0.0)
        self.folder, self.dataset = folder, MultimodalDataset(rows)
        config = self._config("off")
        self.collate = ContrastiveDataCollator(self.model.processor, max_text_tokens=8192)
        self.trainer = JinaEmbeddingTrainer(
            self.model.train(),
            config.training_arguments(bf16=False),
            loss=LossSection(weights=SINGLE, matryoshka_dims=[]),
            data=config.data,
            micro_batches=config.training,
            train_dataset=self.dataset,
            data_collator=self.collate,
        )

    def cache_steps(self, mode: str) -> list[Callable[[], None]]:
        """Return a step of a first epoch, and one of a later epoch."""
        config = self._config(mode)
        inputs = RunInputs(self.folder, self.model.processor, self.dataset, None)
        cache = open_vision_cache(config, self.model, inputs, self.trainer.args)
        known = self.dataset.known
        rows = range(0, PICTURES * TEXTS, TEXTS)

        def step(is_on: bool) -> None:
            """Take a step with the cache, or as if there were none."""
            self.trainer.vision_cache = cache if is_on else None
            self.dataset.known = known if is_on else None
            self._step(self.collate(self.dataset.__getitems__(rows)))

        step(True)  # which fills the cache
        return [lambda: step(False), lambda: step(True)]

    def sharing_steps(self) -> list[Callable[[], None]]:
        """Return a step in which nothing is shared, and one with equal items as one."""
        self.trainer.vision_cache = self.dataset.known = None
        rows = range(PICTURES)

        def alone() -> None:
            """Take a step in which no two items are known to be equal."""
            batch = self.collate([self.dataset[row] for row in rows])
            for name in ("query_contents", "query_image_identities", "positive_contents"):
                batch[name] = [b""] * len(batch[name])
            self._step(batch)

        return [alone, lambda: self._step(self.collate(self.dataset.__getitems__(rows)))]

    def _config(self, mode: str) -> JinaTrainingConfig:
        training = {"output_dir": str(self.folder / "out"), "use_cpu": True}
        return JinaTrainingConfig.model_validate(
            {"data": {"vision_cache": mode}, "training": training}
        )

    def _step(self, batch: dict) -> None:
        self.trainer.compute_loss(self.model, batch).backward()
        self.model.zero_grad()


def report(name: str, steps: Sequence[Callable[[], None]], rounds: int) -> None:
    """Time two steps in turns and print them."""
    seconds: list[list[float]] = [[] for _ in steps]
    for step in steps:
        step()  # once, to warm up
    for _ in range(rounds):
        for step, found in zip(steps, seconds, strict=True):
            start = time.process_time()
            step()
            found.append(time.process_time() - start)
    plain, lever = map(statistics.median, seconds)
    spread = ", ".join(f"{min(found):.2f} to {max(found):.2f}" for found in seconds)
    sys.stdout.write(f"{name:<34} {plain:.2f} s, {lever:.2f} s: {plain / lever:.2f}x ({spread})\n")


if __name__ == "__main__":
    main()
