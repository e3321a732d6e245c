"""What a run is about to do, said before the first step."""

from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

import numpy as np

from jina.data.item_lengths import Measures, vision_tokens
from jina.data.multimodal_dataset import MultimodalDataset
from jina.data.reporting.length_figures import text_lengths
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.training.jina_trainer import JinaEmbeddingTrainer
from jina.training.run_inputs import RunInputs
from jina.training.run_measures import measures_of
from jina.training.training_config import JinaTrainingConfig
from jina.training.vision_cache import describe_cache

MEASURED_ROWS = 500
PARTS = {
    "decoder attention": ".self_attn.",
    "decoder MLP": ".mlp.",
    "multi-vector projector": "multi_vector_projector",
    "vision tower": ".visual.",
}


def startup_facts(
    config: JinaTrainingConfig, inputs: RunInputs, trainer: JinaEmbeddingTrainer
) -> dict[str, list[tuple[str, str]]]:
    """Describe settings, data, model and batches of a run: titles, labels and values."""
    measures = measures_of(config.data, inputs.processor, str(inputs.base_model_path))
    return {
        "Settings that differ from the defaults": [
            (change.key, f"{change.value}  ({change.origin})")
            for change in config.changed_settings()
        ],
        "Data": [
            *describe_rows("train", inputs.train_set),
            *describe_rows("eval", inputs.eval_set),
            *token_counts(inputs.train_set, measures),
            *describe_cache(trainer.vision_cache, inputs.processor.image_settings),
        ],
        "Model": [*describe_model(trainer.model)],
        "Batches": [*describe_batches(trainer)],
    }


def startup_report(blocks: dict[str, list[tuple[str, str]]]) -> str:
    """Write the facts in aligned lines."""
    lines = []
    for title, rows in blocks.items():
        lines += ["", title, *(f"  {name:<40} {value}" for name, value in rows)]
    return "\n".join(lines)


def describe_rows(name: str, dataset: MultimodalDataset | None) -> Iterator[tuple[str, str]]:
    """Say how many rows and images there are, and of which shape, and what was left out."""
    if dataset is None:
        yield name, "none"
        return
    summary = dataset.summary
    shapes = ", ".join(f"{count:,} {shape}" for shape, count in summary.shapes.most_common())
    yield name, f"{summary.rows:,} rows, {summary.distinct_images:,} distinct images: {shapes}"
    if summary.skipped:
        yield f"{name}, bad rows skipped", f"{summary.skipped:,}, see python -m jina validate"
        yield from (("", reason) for reason in summary.skipped_because)


def token_counts(dataset: MultimodalDataset, measures: Measures) -> Iterator[tuple[str, str]]:
    """Measure the tokens of all images, and of texts in evenly spaced rows with their prompt."""
    sides = (dataset.index.queries, dataset.index.positives, dataset.index.negatives)
    count = measures.vision_tokens
    images = np.concatenate([vision_tokens(side, count) for side in sides])
    yield "vision tokens per image", _spread(images[images > 0].tolist())
    rows = range(0, len(dataset), max(1, len(dataset) // MEASURED_ROWS))
    texts = [*text_lengths(dataset, rows, measures)]
    cut = sum(text.tokens > text.room for text in texts)
    few = f", of {len(rows):,} rows" if len(rows) < len(dataset) else ""
    said = f"; {cut:,} of {len(texts):,} cut, for data.max_text_tokens {measures.max_text_tokens:,}"
    yield "tokens per text", _spread(text.tokens for text in texts) + few + said * bool(cut)


def describe_model(model: JinaEmbeddingsV4Model) -> Iterator[tuple[str, str]]:
    """Say how the model computes and what of it is trained."""
    attention = model.config.text_config._attn_implementation
    settings = model.adapter_settings[model.trained_tasks[0]]
    yield "base", f"{str(model.dtype).removeprefix('torch.')} on {model.device}, {attention}"
    yield (
        f"adapter {', '.join(model.trained_tasks)}",
        f"rank {settings.rank}, alpha {settings.alpha:g}, dropout {settings.dropout:g}",
    )
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for part, mark in PARTS.items():
        count = sum(p.numel() for name, p in trained.items() if mark in name)
        yield f"trainable, {part}", f"{count:,}"
    total = sum(p.numel() for p in model.parameters())
    yield "frozen", f"{total - sum(p.numel() for p in trained.values()):,}"


def describe_batches(trainer: JinaEmbeddingTrainer) -> Iterator[tuple[str, str]]:
    """Say how many steps there are and what a query is told apart from."""
    args, batch_sampler = trainer.args, trainer.batch_sampler
    accumulated, processes = args.gradient_accumulation_steps, args.world_size
    size = args.train_batch_size * processes
    steps = args.max_steps
    if steps <= 0:
        steps = int(max(1, len(batch_sampler) // accumulated) * args.num_train_epochs)
    yield "optimizer steps", f"{steps:,}"
    if batch_sampler.left_out:
        yield "rows of sources smaller than a batch, unused", f"{batch_sampler.left_out:,}"
    extra = " and the batch's hard negatives" if trainer.train_dataset.summary.has_negatives else ""
    of_all = f", of all {processes} processes" if processes > 1 else ""
    apart = "; accumulated batches add none" if accumulated > 1 else ""
    yield "in-batch negatives per query", f"{size - 1}{extra}{of_all}{apart}"
    yield (
        "loss",
        ", ".join(
            f"{weight:g} x {part}"
            for part, weight in trainer.loss.weights._asdict().items()
            if weight
        ),
    )
    if trainer.loss.weights.single:
        yield "sizes of single vectors", ", ".join(map(str, trainer.loss.sizes))


def _spread(counts: Iterable[int]) -> str:
    counts = sorted(counts)
    if not counts:
        return "none"
    return f"{counts[0]} to {counts[-1]}, median {median(counts):g}"


def usage_lines(folder: Any) -> str:
    """Return the three lines that use a finished model."""
    return "\n".join(
        [
            "from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model",
            f'model = JinaEmbeddingsV4Model.from_pretrained("{folder}")',
            'vectors = model.get_single_vector_embeddings(texts=["a red apple"], '
            'task_label="retrieval")',
        ]
    )
