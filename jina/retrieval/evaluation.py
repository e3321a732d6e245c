"""Measure a model on checked rows: embed what is asked and found, rank, and compare with the rows.

    rows ─ directions ─► collections ─ Embedder ─► vectors on disk ─ rank ─► metrics of each query
       └─ graded pairs ──────────────────────────────────────────► similarity and score of each

For each task of the rows, direction, kind of vectors and Matryoshka dimension there is one
`Result` with the figures of each query, from which means, slices and intervals are taken. Several
processes share embedding and ranking, and each of them gets all results.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from jina.data.multimodal_dataset import MultimodalDataset
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.retrieval.evaluation_plan import EvaluationSettings, TaskPlan
from jina.retrieval.graded_pairs import GradedPairs
from jina.retrieval.item_collections import Collection, ItemReader, collection_of, needed
from jina.retrieval.item_embedding import Embedder
from jina.retrieval.judgements import Direction
from jina.retrieval.processes import Processes
from jina.retrieval.ranking import (
    Ranking,
    RankingError,
    Scorer,
    blocks,
    multi_scorer,
    rank,
    single_scorer,
)
from jina.retrieval.ranking_metrics import METRICS, DirectionMetrics
from jina.retrieval.results import Result, Setup
from jina.retrieval.stored_vectors import StoredVectors, store_vectors

QUERIES_PER_BLOCK = 256
TOKENS_PER_BLOCK = 2048  # of the queries, where every token is compared

# Called in every process with each block of rankings, in order.
Watch = Callable[[Direction, Setup, np.ndarray, Ranking], None]
Vectors = dict[Collection, StoredVectors]


def evaluate(
    model: JinaEmbeddingsV4Model,
    dataset: MultimodalDataset,
    plan: Sequence[TaskPlan],
    settings: EvaluationSettings,
    *,
    scratch: Path,
    watch: Watch | None = None,
    processes: Processes | None = None,
) -> list[Result]:
    """Measure a model.

    Args:
        model: to measure; left as it is.
        dataset: the rows.
        plan: what they ask, from `plan_evaluation`.
        settings: which vectors are compared, and in which portions.
        scratch: a folder that all processes see, for vectors; what is put there is left there.
        watch: is shown all rankings.
        processes: that share the work; by default those the launcher started.

    Raises:
        EvaluationError: the model lacks what the settings ask for.
        EmbeddingError: an image has turned bad since the rows were checked.
        RankingError: a score isn't finite.
    """
    processes = processes or Processes.current()
    setups = settings.setups(model.config)
    results: list[Result] = []
    for part in plan:
        evaluator = _TaskEvaluator(model, dataset, settings, part, processes)
        results += evaluator.results(setups, scratch / part.task, watch)
    return results


class _TaskEvaluator:
    """Measures one adapter on the rows of its task."""

    def __init__(
        self,
        model: JinaEmbeddingsV4Model,
        dataset: MultimodalDataset,
        settings: EvaluationSettings,
        plan: TaskPlan,
        processes: Processes,
    ) -> None:
        self.dataset, self.settings, self.plan, self.processes = dataset, settings, plan, processes
        # Apple's GPUs know no float64
        self.device = model.device if model.device.type == "cuda" else "cpu"
        self.embedder = Embedder(
            model,
            task=plan.task,
            multi="multi" in settings.vectors,
            max_text_tokens=settings.max_text_tokens,
            tokens_per_batch=settings.tokens_per_batch,
            items_per_shard=settings.items_per_shard,
            processes=processes,
        )

    def results(
        self, setups: Iterable[Setup], folder: Path, watch: Watch | None
    ) -> Iterator[Result]:
        """Yield the results of all directions, then those of graded pairs."""
        vectors = self._store(needed([*self.plan.directions, *self.plan.pairs]), folder)
        for direction in self.plan.directions:
            for setup in setups:
                yield self._ranked(direction, setup, vectors, watch)
        for pairs in self.plan.pairs:
            for setup in setups:
                tokens = self._query_sizes(pairs, setup, vectors)
                yield pairs.result(setup, self._scorer(pairs, setup, vectors), tokens)

    def _store(self, wanted: dict[Collection, np.ndarray], folder: Path) -> Vectors:
        """Embed all collections."""
        reader = ItemReader(self.dataset)
        return {
            name: store_vectors(
                self.embedder,
                reader.read(identities),
                name.role,
                identities=identities,
                folder=folder / f"{name.kind}-{name.role}",
            )
            for name, identities in wanted.items()
        }

    def _sides(self, pair: Direction | GradedPairs, vectors: Vectors) -> list[StoredVectors]:
        """Return the vectors of the queries and of the documents."""
        kinds = (pair.asked, "query"), (pair.found, "passage")
        return [vectors[collection_of(kind, role, task=self.plan.task)] for kind, role in kinds]

    def _scorer(self, pair: Direction | GradedPairs, setup: Setup, vectors: Vectors) -> Scorer:
        """Return a scorer of queries and documents by their place in the direction."""
        asked, found = self._sides(pair, vectors)
        queries, documents = asked.places(pair.queries), found.places(pair.documents)
        if setup.vectors == "multi":
            score = multi_scorer(asked, found, device=self.device)
        else:
            score = single_scorer(asked, found, size=setup.size, device=self.device)
        return lambda some, others: score(queries[some], documents[others])

    def _ranked(
        self, direction: Direction, setup: Setup, vectors: Vectors, watch: Watch | None
    ) -> Result:
        """Rank and measure one direction; blocks of queries are dealt to the processes."""
        measures = DirectionMetrics(direction)
        score = self._scorer(direction, setup, vectors)
        own = direction.own_copies()
        documents = np.arange(len(direction.documents))
        values = np.empty((len(direction.queries), len(METRICS)))

        def rank_block() -> tuple[np.ndarray, Ranking, np.ndarray] | None:
            """Rank what this process is dealt of the queries, and measure it."""
            if not mine:
                return None
            ranking = rank(
                score, mine[0], documents, own=own[mine[0]],
                depth=self.settings.depth, shard=self.settings.items_per_shard,
            )  # fmt: skip
            return mine[0], ranking, measures.measure(mine[0], ranking)

        todo = self._blocks(direction, setup, vectors)
        is_hidden = None if self.processes.is_first else True
        label = f"{direction.name} {setup.name}"
        with tqdm(total=len(values), desc=label, unit="", leave=False, disable=is_hidden) as bar:
            for start in range(0, len(todo), self.processes.count):
                mine = self.processes.mine(todo[start : start + self.processes.count])
                for made in self.processes.exchange_made(rank_block, failure=RankingError):
                    if made is None:
                        continue
                    block, ranking, values[made[0]] = made
                    bar.update(len(block))
                    if watch is not None:
                        watch(direction, setup, block, ranking)
        return Result.of_ranking(direction, setup, values)

    def _blocks(self, direction: Direction, setup: Setup, vectors: Vectors) -> list[np.ndarray]:
        """Cut the queries into portions of even work."""
        room = QUERIES_PER_BLOCK if setup.vectors == "single" else TOKENS_PER_BLOCK
        return list(blocks(self._query_sizes(direction, setup, vectors), room))

    def _query_sizes(
        self, pair: Direction | GradedPairs, setup: Setup, vectors: Vectors
    ) -> np.ndarray:
        """Return (Q,) how many vectors each query is compared by."""
        if setup.vectors == "single":
            return np.ones(len(pair.queries), int)
        asked, _ = self._sides(pair, vectors)
        return asked.lengths[asked.places(pair.queries)]
