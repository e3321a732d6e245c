"""`evaluate_retrieval`: a few plain figures of a model in training, cheap on small sets."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jina.data.multimodal_dataset import MultimodalDataset
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.retrieval.evaluation import evaluate
from jina.retrieval.evaluation_plan import EvaluationSettings, plan_evaluation
from jina.retrieval.item_embedding import MAX_TEXT_TOKENS
from jina.retrieval.processes import Processes
from jina.retrieval.results import Result


def evaluate_retrieval(
    model: JinaEmbeddingsV4Model,
    dataset: MultimodalDataset,
    *,
    multi: bool = False,
    sizes: tuple[int, ...] = (),
    both: bool = False,
    max_text_tokens: int = MAX_TEXT_TOKENS,
    tokens_per_batch: int | None = None,
    folder: Path | None = None,
    processes: Processes | None = None,
) -> dict[str, float]:
    """Measure how well queries find their positives among all positives and hard negatives.

    Args:
        model: left as it is, in training or not.
        dataset: the rows, each embedded with the adapter of its task.
        multi: rank by multi vectors, too.
        sizes: smaller ones that single vectors are cut to and measured, too.
        both: rank queries for positives, too.
        max_text_tokens: longer texts are cut.
        tokens_per_batch: of a forward pass; `None` for what suits the device.
        folder: holds the vectors meanwhile; all processes see it. The machine's own for
            temporary files by default, which other machines don't.
        processes: that share the work; by default those the launcher started.

    Returns:
        Metrics of single vectors at full size as `ndcg@5`, cut to 128 numbers as `dim128_ndcg@5`,
        of multi vectors as `multi_ndcg@5`: means over the queries of all directions. Graded pairs
        give `spearman` and `pearson`.

    Raises:
        EvaluationError: there is no row to measure with, or the model has no such size.
    """
    processes = processes or Processes.current()
    whole = max(model.config.matryoshka_dims)
    settings = EvaluationSettings(
        vectors=("single", "multi") if multi else ("single",),
        sizes=(whole, *sizes),
        both=both,
        max_text_tokens=max_text_tokens,
        tokens_per_batch=tokens_per_batch,
    )
    plan, _ = plan_evaluation(dataset, settings)
    own = tempfile.mkdtemp(prefix="vectors-", dir=folder) if processes.is_first else ""
    scratch = Path(processes.exchange(own)[0])
    try:
        results = evaluate(model, dataset, plan, settings, scratch=scratch, processes=processes)
    finally:
        if processes.is_first:
            shutil.rmtree(scratch)
    found: dict[str, float] = {}
    for setup in settings.setups(model.config):
        prefix = "multi_" if setup.vectors == "multi" else f"dim{setup.size}_"
        own_results = (result for result in results if result.setup == setup)
        found |= _means(own_results, "" if setup == ("single", whole) else prefix)
    return found


def _means(results: Iterable[Result], prefix: str) -> dict[str, float]:
    """Average results of one setup, each query counting once."""
    chosen = [result for result in results if len(result.measured)]
    found: dict[str, float] = {}
    for kind in ("ranking", "correlation"):
        same = [result for result in chosen if result.kind == kind]
        sizes = [len(result.measured) for result in same]
        for name in same[0].names if same else ():
            means = [result.means()[name] for result in same]
            found[f"{prefix}{name}"] = float(np.average(means, weights=sizes))
    return found
