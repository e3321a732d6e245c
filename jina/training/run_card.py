"""The model card of a trained model: how it was made, of what, and what it changed.

settings, data sets, eval/before and eval/after ─ write_card() ─► README.md of the saved model
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jina.data.multimodal_dataset import MultimodalDataset
from jina.export.model_card import CARD, model_card, read_base, template
from jina.models.configuration_jina_embeddings_v4 import read_config
from jina.retrieval.comparison import KEY_FIELDS, METRICS_FILE
from jina.retrieval.durable_files import publish
from jina.retrieval.report_page.run_record import AFTER, BEFORE
from jina.training.distributed import rank
from jina.training.run_identity import rows_digest
from jina.training.run_settings import resolved_settings
from jina.training.training_config import JinaTrainingConfig

SHOWN = {"ranking": ("ndcg@5", "ndcg@10", "recall@10"), "correlation": ("spearman", "pearson")}

Interval = tuple[float, float, float]


def write_card(
    config: JinaTrainingConfig, datasets: Mapping[str, MultimodalDataset | None], folder: Path
) -> None:
    """Write the card of a saved model; the first process does.

    Args:
        config: of the run.
        datasets: its rows under the key that names their files, such as `data.train`.
        folder: of the saved model; where it has evaluations, their figures are told.
    """
    if rank() > 0:
        return
    counts = {name: told for key, data in datasets.items() for name, told in _counts(key, data)}
    metrics = measured(folder) if datasets.get("data.eval") is not None else {}
    loading = template("official", task=config.lora.tasks[0])
    source = config.require_base_model_path()
    base = read_base(source, read_config(source).text_config.hidden_size)
    card = model_card(resolved_settings(config), counts, metrics, base, loading=loading)
    publish(folder / CARD, lambda file: file.write_text(card, encoding="utf-8"))


def measured(folder: Path) -> dict[str, dict[str, Interval]]:
    """Return the figures of a run's evaluations, before and after, each with its 95 % interval.

    Args:
        folder: of the run; without a complete evaluation after training there are none.
    """
    if not (folder / AFTER / METRICS_FILE).is_file():
        return {}
    before, after = (_figures(folder / name / METRICS_FILE) for name in (BEFORE, AFTER))
    return {
        name: {"before": before[name], "after": figure} if name in before else {"after": figure}
        for name, figure in after.items()
    }


def _figures(file: Path) -> dict[str, Interval]:
    """Read the main figures of an evaluation that are defined."""
    results = json.loads(file.read_text(encoding="utf-8"))["results"]
    several = len({result["task"] for result in results}) > 1
    found = {}
    for result in results:
        task, kind, direction, is_reversed, vectors, size = (result[key] for key in KEY_FIELDS)
        setup = f"{direction}{' reversed' if is_reversed else ''}, {vectors}-{size}"
        for name in SHOWN[kind]:
            interval = tuple(result["metrics"][name][end] for end in ("value", "low", "high"))
            if None not in interval:
                found[f"{f'{task}, ' if several else ''}{setup}, {name}"] = interval
    return found


def _counts(name: str, dataset: MultimodalDataset | None) -> Iterator[tuple[str, Any]]:
    """Say how many rows of which shape a data set has."""
    if dataset is None:
        return
    name, summary = name.removeprefix("data."), dataset.summary
    yield f"{name}: rows", summary.rows
    yield f"{name}: distinct images", summary.distinct_images
    for shape, count in summary.shapes.most_common():
        yield f"{name}: rows of {shape}", count
    if summary.skipped:
        yield f"{name}: bad rows left out", summary.skipped
    yield f"{name}: digest", rows_digest(dataset)
