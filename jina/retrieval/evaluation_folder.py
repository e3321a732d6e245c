"""One way from a model to a complete evaluation on disk, for `evaluate` and for training runs.

model, rows ─ evaluate ─► results ─► folder (what it holds: evaluation_files)
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jina.data.multimodal_dataset import MultimodalDataset
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.retrieval.comparison import Comparison
from jina.retrieval.evaluation import evaluate
from jina.retrieval.evaluation_files import (
    RunWriter,
    complete_folder,
    write_judgements,
    write_results,
)
from jina.retrieval.evaluation_plan import EvaluationSettings, TaskPlan
from jina.retrieval.item_collections import ItemReader
from jina.retrieval.processes import Processes
from jina.retrieval.results import Result

VECTORS = "vectors"  # a folder that is there only while the evaluation runs


def evaluate_to_folder(
    model: JinaEmbeddingsV4Model,
    dataset: MultimodalDataset,
    plan: Sequence[TaskPlan],
    settings: EvaluationSettings,
    target: Path,
    *,
    about: dict[str, Any],
    left_out: Sequence[str] = (),
    comparison: Comparison | None = None,
    processes: Processes | None = None,
) -> tuple[list[Result], list[str]]:
    """Measure a model and write all there is to know of it.

    Args:
        model: to measure; left as it is.
        dataset: the rows.
        plan: what they ask, from `plan_evaluation`.
        settings: which vectors are compared, and in which portions.
        target: a new folder that all processes see; it is there when it is complete.
        about: what the figures are figures of.
        left_out: which rows the plan doesn't have.
        comparison: an earlier evaluation of the same rows.
        processes: that share the work; by default those the launcher started.

    Returns:
        The results, and what the figures don't show.

    Raises:
        EvaluationError: the model lacks what the settings ask for.
        EmbeddingError: an image has turned bad since the rows were checked.
        RankingError: a score isn't finite.
    """
    processes = processes or Processes.current()
    is_first = processes.is_first
    with complete_folder(target, is_first=is_first) as folder:
        results = evaluate(
            model,
            dataset,
            plan,
            settings,
            scratch=folder / VECTORS,
            watch=RunWriter(folder).watch if is_first else None,
            processes=processes,
        )
        problems = [*left_out, *dict.fromkeys(p for r in results for p in r.problems())]
        if is_first:
            shutil.rmtree(folder / VECTORS)
            write_judgements(folder, plan, ItemReader(dataset))
            write_results(
                folder,
                results,
                dataset.index,
                about=about,
                problems=problems,
                comparison=comparison,
            )
    return results, problems
