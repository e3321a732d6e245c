"""What the loss of a large batch takes beyond its inputs: `python -m benchmarks.loss_memory`.

Measures each case in a fresh process: inputs are made, the loss and its gradients computed once.
Prints how far the peak of resident memory lies above inputs and their gradients, and the seconds.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from jina.models import contrastive_loss
from jina.models.contrastive_loss import ContrastiveLoss, Weights
from jina.models.embeddings import Embeddings, TokenVectors
from jina.models.pairing import pair_candidates


class Case(NamedTuple):
    """A batch of as many queries as positives.

    Attributes:
        weights: of the parts of the loss.
        items: queries in the batch.
        sizes: Matryoshka sizes of the single vectors.
        tokens: token vectors of an item, of 128 numbers.
        symmetric: whether positives look for their queries, too.
    """

    weights: Weights
    items: int
    sizes: tuple[int, ...]
    tokens: int = 0
    symmetric: bool = False


SIZES = (128, 256, 512, 1024, 2048)
TOKEN_SIZE = 128
CASES = {
    "single": Case(Weights(1, 0, 0), 32_768, (2048,)),
    "narrow": Case(Weights(1, 0, 0), 32_768, (256,)),
    "matryoshka": Case(Weights(1, 0, 0), 32_768, SIZES),
    "joint": Case(Weights(1, 1, 1), 1024, SIZES, tokens=64),
    "joint_symmetric": Case(Weights(1, 1, 1), 1024, SIZES, tokens=64, symmetric=True),
}


def main() -> None:
    """Measure the cases one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all if left out")
    parser.add_argument("--items", type=int, help="queries in a batch, instead of the case's own")
    parser.add_argument("--rows", type=int, help="compute so many rows; peaks nearly as all")
    parser.add_argument("--tile", type=int, help="scores in memory at once, to compare")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)  # in the child
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"cases: unknown; got {sorted(unknown)}; choose from {list(CASES)}")
    for name in options.cases or CASES:
        case = CASES[name]
        own = case._replace(items=options.items or case.items)
        figures = measure(own, options) if options.measure else in_a_child(name, options)
        sys.stdout.write(json.dumps({"case": name, **figures}) + "\n")


def in_a_child(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Measure a case in a process whose memory nothing else has touched."""
    command = [sys.executable, "-m", "benchmarks.loss_memory", "--measure", name]
    for option in ("items", "rows", "tile"):
        value = getattr(options, option)
        command += [f"--{option}", str(value)] if value else []
    folder = Path(__file__).parents[1]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=folder)  # noqa: S603
    return json.loads(output.stdout)


def measure(case: Case, options: argparse.Namespace) -> dict[str, float]:
    """Compute a case's loss and gradients; return what that took."""
    contrastive_loss.TILE = options.tile or contrastive_loss.TILE
    _step(case, _vectors(case._replace(items=2)), 2)  # what torch loads first isn't the loss's
    vectors = _vectors(case)
    before = _peak_mib()
    begin = time.perf_counter()
    rows = options.rows or case.items
    loss = _step(case, vectors, rows)
    seconds = time.perf_counter() - begin
    gradients = sum(each.grad.nbytes for each in vectors) / 2**20
    return {
        "items": case.items,
        "rows": rows,
        "loss": round(loss, 4),
        "inputs_mib": round(sum(each.nbytes for each in vectors) / 2**20, 1),
        "gradients_mib": round(gradients, 1),
        "beyond_mib": round(_peak_mib() - before - gradients, 1),
        "seconds": round(seconds, 1),
    }


def _vectors(case: Case) -> list[Tensor]:
    """Make queries and candidates of length 1, in place, so that nothing else is at its peak."""
    torch.manual_seed(0)
    shapes = [(case.items, case.sizes[-1])] * 2 if case.weights.needs_single else []
    if case.weights.needs_multi:
        shapes += [(case.items * case.tokens, TOKEN_SIZE)] * 2
    vectors = [torch.empty(shape).normal_() for shape in shapes]
    for each in vectors:
        each.div_(torch.linalg.vector_norm(each, dim=1, keepdim=True)).requires_grad_()
    return vectors


def _step(case: Case, vectors: list[Tensor], rows: int) -> float:
    vectors = list(vectors)
    items = len(vectors[0]) if case.weights.needs_single else len(vectors[0]) // case.tokens
    singles = [vectors.pop(0), vectors.pop(0)] if case.weights.needs_single else [None, None]
    lengths = [case.tokens] * items
    multis = [TokenVectors(each, lengths) for each in vectors] or [None, None]
    queries, candidates = map(Embeddings, singles, multis)
    identities = torch.arange(items)
    pairing = pair_candidates(identities, identities + items, owners=identities)
    compute = ContrastiveLoss(case.weights, case.sizes, case.symmetric)
    part = {"rows": range(rows), "positives": range(rows)}
    loss, _ = compute(queries, candidates, pairing, temperature=torch.tensor(0.02), **part)
    loss.backward()
    return loss.item()


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
