"""Export a checkpoint: write the folder, reload it, compare, and only then put it in place.

checkpoint ─┬─ reference vectors (model loaded, then dropped) ───────────────┐
            └─ folder in a staging place ─ reloaded in a fresh process ──────┴─ parity
parity within the bounds ─ model card ─► the folder gets its name
"""

import gc
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from jina.export.export_settings import Export, ExportError
from jina.export.merging import MergedWeights
from jina.export.model_card import CARD, model_card, read_base, read_card_facts, template
from jina.export.parity import ParityReport, compare
from jina.export.parity_items import (
    BOTH,
    IMAGE,
    IMAGE_IN_MIXED_LIST,
    ParityItem,
    Vectors,
    read_parity_items,
)
from jina.export.qwen_folder import PORTABLE, write_qwen_folder
from jina.export.reference import embed_items
from jina.export.reload import check_libraries, embed_in_fresh_process
from jina.export.sentence_transformers_folder import (
    write_multi_vector_folder,
    write_single_vector_folder,
)
from jina.export.source import Source
from jina.models.checkpoint import save_checkpoint
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.processing_jina_embeddings_v4 import prompt_for

logger = logging.getLogger("smartembed")


def export(settings: Export) -> ParityReport:
    """Export a checkpoint.

    Returns:
        The parity report, which the card holds, too.

    Raises:
        ExportError: options that don't fit, or a parity below the bounds.
        CheckpointError: the model isn't a sound checkpoint.
        DataError: rows that can't be used for the check.
        ReloadError: the exported folder can't be loaded, or a library is missing for it.
    """
    settings.check()
    check_libraries(settings.format)
    source = Source.open(settings.model)
    items = _items(settings)
    dtype, expected = _reference(settings, items)
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=settings.output.parent) as staging:
        folder, work = Path(staging, "model"), Path(staging, "work")
        work.mkdir()
        write_folder(settings, source, folder, dtype)
        got = _reloaded(settings, items, folder, work, dtype)
        told_only = () if settings.exact else (IMAGE_IN_MIXED_LIST, BOTH)
        report = compare(
            items,
            expected,
            got,
            dtype=dtype,
            minimum=settings.minimum,
            told_only=told_only if settings.format == "sentence-transformers" else (),
        )
        _refuse_loss(settings, report)
        _write_card(settings, source, folder, report, dtype)
        if settings.output.exists():
            settings.output.rmdir()
        folder.rename(settings.output)
    return report


def _items(settings: Export) -> list[ParityItem]:
    """Take the items of the check; sentence-transformers gets its images in a mixed list, too."""
    items = read_parity_items(settings.rows, settings.image_base_dir, settings.limit)
    if settings.format != "sentence-transformers":
        return items
    mixed = [ParityItem(IMAGE_IN_MIXED_LIST, image=i.image) for i in items if i.kind == IMAGE]
    return [*items, *mixed]


def _reference(settings: Export, items: Sequence[ParityItem]) -> tuple[torch.dtype, list[Vectors]]:
    """Embed the items with the checkpoint; the model is gone when this returns."""
    model = JinaEmbeddingsV4Model.from_pretrained(settings.model, dtype=settings.dtype)
    dtype, vectors = model.dtype, embed_items(model, items, settings.task)
    del model
    gc.collect()
    torch.cuda.empty_cache()  # the fresh process needs the room
    return dtype, vectors


def write_folder(settings: Export, source: Source, folder: Path, dtype: torch.dtype) -> None:
    """Write the exported folder, without its card."""
    if settings.format == "official":
        adapter = source.checkpoint.adapter_settings
        save_checkpoint(
            source.checkpoint, folder, {}, adapter, dtype=source.checkpoint.adapter_dtype
        )
        return
    weights = MergedWeights(source.checkpoint, settings.task, dtype)
    if settings.format == "sentence-transformers":
        write_single_vector_folder(
            source, weights, folder, task=settings.task, exact=settings.exact
        )
    elif settings.format == "multi-vector":
        write_multi_vector_folder(source, weights, folder, task=settings.task)
    else:
        write_qwen_folder(source, weights, folder, new_names=settings.new_names)
        save_file(weights.projector(), folder / "multi_vector_projector.safetensors")
        shutil.copyfile(PORTABLE / "embed.py", folder / "embed.py")


def _reloaded(
    settings: Export, items: Sequence[ParityItem], folder: Path, work: Path, dtype: torch.dtype
) -> list[Vectors]:
    return embed_in_fresh_process(
        items,
        folder,
        work,
        format=settings.format,
        task=settings.task,
        exact=settings.exact,
        dtype=str(dtype).removeprefix("torch."),
        prompts=_prompts(settings.task),
    )


def _prompts(task: str) -> dict[str, str]:
    return {name: f"{prompt_for(task, name)}: " for name in ("query", "passage")}


def _refuse_loss(settings: Export, report: ParityReport) -> None:
    losses = report.losses()
    for line in report.lines():
        logger.info("%s", line)
    if losses and not settings.allow_loss:
        raise ExportError(
            "\n".join(
                f"{settings.output}: the export isn't what the checkpoint is; got {loss}; "
                "check the versions in requirements-export.txt, or pass --allow-loss"
                for loss in losses
            )
        )


def _write_card(
    settings: Export, source: Source, folder: Path, report: ParityReport, dtype: torch.dtype
) -> None:
    loading = template(
        settings.format,
        task=settings.task,
        trust=", trust_remote_code=True" if settings.exact else "",
        pooling=template(f"pooling_{'exact' if settings.exact else 'stock'}"),
        dtype=str(dtype).removeprefix("torch."),
        **_prompts(settings.task),
    )
    facts = read_card_facts(source.checkpoint.path)
    if not facts["base"]:
        facts["base"] = read_base(source.checkpoint.path, source.config.text_config.hidden_size)
    card = model_card(
        **facts,
        loading=loading,
        format_=settings.format,
        parity=[*report.lines(), *(f"Accepted loss: {loss}." for loss in report.losses())],
    )
    (folder / CARD).write_text(card, encoding="utf-8")
