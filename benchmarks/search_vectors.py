"""How fast an index is filled and asked, and how much of the truth HNSW finds.

    python -m benchmarks.search_vectors [--rows 20000] [--dim 2048] [--kind exact] [--queries 200]

Random vectors are the hardest case for a graph, since nothing leads from one to its neighbours.
"""

import argparse
import logging
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from jina.retrieval.stores import KINDS, IndexSettings
from jina.retrieval.vector_files import VectorBatch
from jina.retrieval.vector_index import VectorIndex

BATCH = 1000
TOP = 10

logger = logging.getLogger("benchmark")


def main() -> None:
    """Fill an index, open it, ask it, and compare with brute force."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--kind", choices=KINDS, default="exact")
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logger.setLevel(logging.INFO)
    random = np.random.default_rng(0)
    vectors = unit(random, options.rows, options.dim)
    queries = unit(random, options.queries, options.dim)
    settings = IndexSettings(
        model="random", task="retrieval", max_text_tokens=1, dim=options.dim, kind=options.kind
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index")
        start = time.perf_counter()
        VectorIndex.create(path, settings).add(batches(vectors))
        tell("filled", options.rows / (time.perf_counter() - start), "rows a second")
        start = time.perf_counter()
        index = VectorIndex(path)
        tell("opened", time.perf_counter() - start, "s, digests checked")
        start = time.perf_counter()
        found = index.search(queries, TOP)
        tell("asked", 1000 * (time.perf_counter() - start) / len(queries), "ms a query")
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :TOP]
    hits = [len({*rows.tolist()} & {*row}) for (_, rows), row in zip(found, truth, strict=True)]
    same = np.mean(
        [rows.tolist() == row.tolist() for (_, rows), row in zip(found, truth, strict=True)]
    )
    tell("recall@10", np.mean(hits) / TOP, f"of brute force; {same:.1%} in the same order")
    tell("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB at most")


def batches(vectors: np.ndarray) -> list[VectorBatch]:
    """Return the vectors as batches for an index."""
    return [
        VectorBatch(
            [str(row) for row in range(start, start + len(part))],
            *([None] * len(part) for _ in range(3)),
            single=part,
        )
        for start, part in (
            (start, vectors[start : start + BATCH]) for start in range(0, len(vectors), BATCH)
        )
    ]


def unit(random: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    """Return random directions, evenly spread."""
    vectors = random.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def tell(what: str, number: float, unit_name: str) -> None:
    """Log a figure."""
    logger.info("%-10s %10.3f %s", what, number, unit_name)


if __name__ == "__main__":
    main()
