"""How fast the loss alone is: `python -m benchmarks.loss [--python PATH]`.

InfoNCE of single vectors with its gradient, ours against sentence-transformers' losses given the
same vectors (`--python`, see benchmarks/README.md), each in a process of its own: one size of
2,048, and the five Matryoshka sizes. Prints losses per CPU second, peak memory above the vectors,
and the value, which must be the same.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measuring import Meter, errand_of_this_process, interleave, run_errand, table
from benchmarks.measuring import summary as summarize
from jina.models.contrastive_loss import ContrastiveLoss, Weights
from jina.models.embeddings import Embeddings
from jina.models.pairing import pair_candidates

SPEED = "losses_per_cpu_second"
TEMPERATURE, WIDTH = 0.02, 2048
SIZES = (128, 256, 512, 1024, 2048)
VARIANTS = ("ST", "ours", "ST, Matryoshka", "ours, Matryoshka")


def main() -> None:
    """Measure the variants in turns and print the table."""
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        measure(errand_of_this_process())
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1024, help="pairs in the batch")
    parser.add_argument("--python", help="of the environment with sentence-transformers")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args()
    names = [name for name in VARIANTS if options.python or name.startswith("ours")]
    with tempfile.TemporaryDirectory() as folder:
        runs = interleave(names, options.repeats, partial(run, Path(folder), options))
    for kind in ("", ", Matryoshka"):
        own = {n: runs[n] for n in runs if n.endswith("Matryoshka") == bool(kind)}
        rows = summarize(own, speed=SPEED, baseline=f"ST{kind}")
        sys.stdout.write(table(rows, speed=SPEED, baseline=f"ST{kind}") + "\n\n")
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


def run(folder: Path, options: argparse.Namespace, name: str) -> dict[str, float]:
    """Run one variant once."""
    errand = {"variant": name, "items": options.items, "result": str(folder / "result.json")}
    return run_errand(options.python or sys.executable, "benchmarks.loss", errand)


def measure(errand: dict[str, Any]) -> None:
    """Compute one loss and its gradient, after a small one that warms up."""
    name, items = errand["variant"], errand["items"]
    sizes = SIZES if "Matryoshka" in name else (WIDTH,)
    make = our_loss if name.startswith("ours") else rival_loss
    for count in (8, items):
        queries, positives = random_vectors(count)
        loss = make(queries, positives, sizes)
        meter = Meter()
        value = loss()
        value.backward()
        figures = {
            SPEED: 1 / meter.cpu_seconds(),
            "peak_mib": meter.peak_mib(),
            "first_loss": value.item(),
        }
    Path(errand["result"]).write_text(json.dumps(figures), encoding="utf-8")


def random_vectors(count: int) -> tuple[Tensor, Tensor]:
    """Return `count` queries and positives somewhat like them, (count, 2048), with gradient."""
    random = torch.Generator().manual_seed(0)
    queries = torch.randn(count, WIDTH, generator=random)
    positives = queries + 4 * torch.randn(count, WIDTH, generator=random)
    return queries.requires_grad_(), positives.requires_grad_()


def our_loss(queries: Tensor, positives: Tensor, sizes: tuple[int, ...]) -> Callable[[], Tensor]:
    """Return our loss of a batch: the mean over sizes."""
    numbers = torch.arange(len(queries))
    pairing = pair_candidates(numbers, numbers + len(queries), owners=numbers)
    loss = ContrastiveLoss(Weights(1, 0, 0), sizes)

    def compute() -> Tensor:
        """Return the loss of the vectors as they are now."""
        sides = (nn.functional.normalize(side, dim=-1) for side in (queries, positives))
        embeddings = [Embeddings(single=side, multi=None) for side in sides]
        return loss(*embeddings, pairing, temperature=torch.tensor(TEMPERATURE))[0]

    return compute


def rival_loss(queries: Tensor, positives: Tensor, sizes: tuple[int, ...]) -> Callable[[], Tensor]:
    """Return sentence-transformers' loss of the same, with weights that make it a mean."""
    from sentence_transformers.sentence_transformer import losses  # only the rivals have it

    model = _Given()
    loss = losses.MultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE)
    if len(sizes) > 1:
        weights = [1 / len(sizes)] * len(sizes)
        loss = losses.MatryoshkaLoss(model, loss, list(sizes), weights)
    features = [{"sentence_embedding": side} for side in (queries, positives)]
    return lambda: loss([dict(side) for side in features], None)


class _Given(nn.Module):
    """Stands where a loss expects a model, and hands out the vectors it is given."""

    def get_embedding_dimension(self) -> int:
        """Return the size of the vectors; the loss asks."""
        return WIDTH

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the features as they are."""
        return dict(features)


if __name__ == "__main__":
    main()
