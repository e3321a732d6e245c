"""What will be measured, settled before the model is loaded: settings, directions, graded pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jina.data.multimodal_dataset import MultimodalDataset
from jina.data.records import TASKS
from jina.models.configuration_jina_embeddings_v4 import JinaEmbeddingsV4Config
from jina.retrieval.graded_pairs import GradedPairs, graded_pairs_of, read_grades
from jina.retrieval.item_embedding import ITEMS_PER_SHARD, MAX_TEXT_TOKENS
from jina.retrieval.judgements import Direction, directions_of
from jina.retrieval.results import Setup

DEPTH = 100  # what recall@100 needs; a run file of 5,000 queries has 32 MB


class EvaluationError(ValueError):
    """Rows or settings that nothing can be measured with."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured, and in which portions.

    Attributes:
        task: whose rows count; `None` for all, each with its own adapter.
        vectors: `single`, `multi` or both.
        sizes: dimensions that single vectors are cut to; `None` for all the model was trained for.
        both: measure reversed directions, too.
        depth: how many documents are ranked for each query; average precision looks no deeper.
        max_text_tokens: longer texts are cut.
        tokens_per_batch: of a forward pass; `None` for what suits the device.
        items_per_shard: that are embedded, or ranked, together.
    """

    task: str | None = None
    vectors: tuple[str, ...] = ("single",)
    sizes: tuple[int, ...] | None = None
    both: bool = False
    depth: int = DEPTH
    max_text_tokens: int = MAX_TEXT_TOKENS
    tokens_per_batch: int | None = None
    items_per_shard: int = ITEMS_PER_SHARD

    def setups(self, config: JinaEmbeddingsV4Config) -> list[Setup]:
        """Return the vectors to compare.

        Raises:
            EvaluationError: the model has no such vectors, or a number is out of range.
        """
        known = sorted(config.matryoshka_dims, reverse=True)
        sizes = known if self.sizes is None else self.sizes
        problems = [
            f"{name}: not known; got {got}; choose from {', '.join(map(str, choices))}"
            for name, choices, wanted in (
                ("vectors", ("single", "multi"), self.vectors or ("nothing",)),
                ("dims", known, sizes or ("nothing",)),
                ("task", TASKS, () if self.task is None else (self.task,)),
            )
            for got in wanted
            if got not in choices
        ]
        if self.depth < 1:
            problems.append(f"depth: out of range; got {self.depth}; pass a number above 0")
        if problems:
            raise EvaluationError("\n".join(problems))
        multi = Setup("multi", config.multi_vector_projector_dim)
        single = [Setup("single", size) for size in dict.fromkeys(sizes)]
        return [s for s in (*single, multi) if s.vectors in self.vectors]


@dataclass(frozen=True)
class TaskPlan:
    """What the rows of one task ask.

    Attributes:
        task: the adapter.
        directions: what is ranked.
        pairs: what is compared with scores.
    """

    task: str
    directions: Sequence[Direction]
    pairs: Sequence[GradedPairs]


def plan_evaluation(
    dataset: MultimodalDataset, settings: EvaluationSettings
) -> tuple[list[TaskPlan], list[str]]:
    """Return what the rows ask, task by task, and which rows are left out.

    Raises:
        DataError: a score that is no relevance.
        EvaluationError: there is nothing to measure.
    """
    grades = read_grades(dataset)
    counts = np.bincount(dataset.index.tasks, minlength=len(TASKS))
    plans, problems = [], []
    for task, count in zip(TASKS, counts.tolist(), strict=True):
        if settings.task not in (None, task) and count:
            problems.append(f"task: {count:,} rows of {task} are left out")
        elif count:
            directions = directions_of(dataset.index, grades, task=task, both=settings.both)
            pairs = graded_pairs_of(dataset, grades, task=task)
            plans.append(TaskPlan(task, list(directions), pairs))
    if not plans:
        raise EvaluationError(
            f"task: nothing to measure; got no row of {settings.task}; name another task or file"
        )
    return plans, problems
