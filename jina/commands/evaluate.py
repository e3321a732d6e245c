"""Measure how well a checkpoint finds what your rows say it should find.

Each row's query is ranked against every positive and hard negative of the same kind. Writes figures
with intervals, rankings and judgements for trec_eval, and the figures of each query. Under
`accelerate launch` several processes share the work; the output folder must be one they all see.
"""

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import jina
from jina.commands.option_parser import listed, positive, positives
from jina.data.multimodal_dataset import DataError, MultimodalDataset
from jina.data.records import TASKS
from jina.models.checkpoint import Checkpoint, CheckpointError
from jina.models.configuration_jina_embeddings_v4 import read_config
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.placement import CPU_TOKENS, GPU_TOKENS
from jina.retrieval.comparison import Comparison
from jina.retrieval.evaluation_files import require_new
from jina.retrieval.evaluation_folder import evaluate_to_folder
from jina.retrieval.evaluation_plan import (
    DEPTH,
    EvaluationError,
    EvaluationSettings,
    TaskPlan,
    plan_evaluation,
)
from jina.retrieval.evaluation_report import report_lines
from jina.retrieval.item_embedding import (
    ITEMS_PER_SHARD,
    MAX_TEXT_TOKENS,
    EmbeddingError,
)
from jina.retrieval.processes import Processes
from jina.retrieval.ranking import RankingError

BAD_INPUT = (CheckpointError, DataError, EmbeddingError, EvaluationError, RankingError)

DTYPES = ("auto", "float32", "bfloat16", "float16")

logger = logging.getLogger("smartembed")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate`."""
    parser.add_argument(
        "--model", type=Path, required=True, metavar="DIR", help="a checkpoint folder"
    )
    parser.add_argument(
        "--data", type=Path, required=True, nargs="+", metavar="FILE", help="rows to measure on"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--baseline", type=Path, metavar="DIR", help="earlier output to compare to")
    parser.add_argument(
        "--image-base-dir", type=Path, metavar="DIR", help="where relative image paths start"
    )
    parser.add_argument("--task", choices=TASKS, help="count only its rows (default: all rows)")
    parser.add_argument(
        "--vectors", type=listed, default=("single", "multi"), metavar="KINDS",
        help="single, multi or single,multi (default: single,multi)",
    )  # fmt: skip
    parser.add_argument(
        "--dims", type=positives, metavar="N,…", help="of single vectors (default: all trained)"
    )
    parser.add_argument(
        "--direction",
        choices=("forward", "both"),
        default="forward",
        help="both: the reverse, too (default: forward)",
    )
    for name, default, what in (
        ("--depth", DEPTH, "documents kept of each ranking"),
        ("--max-text-tokens", MAX_TEXT_TOKENS, "longer texts are cut"),
        ("--items-per-shard", ITEMS_PER_SHARD, "in memory together"),
    ):
        help_text = f"{what} (default: {default})"
        parser.add_argument(name, type=positive, default=default, metavar="N", help=help_text)
    parser.add_argument(
        "--tokens-per-batch", type=positive, metavar="N",
        help=f"of a forward pass (default: {CPU_TOKENS} on a CPU, {GPU_TOKENS} elsewhere)",
    )  # fmt: skip
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="larger images shrink (default: the model's)",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help="of the weights (default: auto, the checkpoint's)",
    )


def run(options: argparse.Namespace) -> int:
    """Measure the checkpoint."""
    settings = EvaluationSettings(
        task=options.task,
        vectors=options.vectors,
        sizes=options.dims,
        both=options.direction == "both",
        depth=options.depth,
        max_text_tokens=options.max_text_tokens,
        tokens_per_batch=options.tokens_per_batch,
        items_per_shard=options.items_per_shard,
    )
    with Processes.joined() as processes:
        if not processes.is_first:
            logger.setLevel(logging.CRITICAL)  # the first speaks for all

        def check() -> Inputs | None:
            """Check in the first process, which reads everything."""
            return check_inputs(options, settings) if processes.is_first else None

        inputs = processes.exchange_made(check, failure=EvaluationError)[0]
        _measure(options, settings, inputs, processes)
    return 0


@dataclass(frozen=True)
class Inputs:
    """What passed all checks.

    Attributes:
        dataset: the rows.
        plan: what they ask.
        problems: which rows are left out.
        comparison: the baseline, if one was named.
    """

    dataset: MultimodalDataset
    plan: list[TaskPlan]
    problems: list[str]
    comparison: Comparison | None


def check_inputs(options: argparse.Namespace, settings: EvaluationSettings) -> Inputs:
    """Open everything the options name, but the weights.

    Raises:
        EvaluationError: with all there is to mend.
    """
    problems: list[str] = []
    dataset, plan, left_out, comparison = None, [], [], None
    with _collected(problems):
        settings.setups(read_config(Checkpoint.open(options.model).path))
    with _collected(problems):
        require_new(options.output)
    with _collected(problems):
        dataset = MultimodalDataset(options.data, image_base_dir=options.image_base_dir)
        plan, left_out = plan_evaluation(dataset, settings)
    with _collected(problems):
        if options.baseline is not None:
            comparison = Comparison.read(options.baseline)
            if plan:
                comparison.require_same_rows(plan)
    if problems or dataset is None:
        raise EvaluationError("\n".join(problems))
    return Inputs(dataset, plan, left_out, comparison)


@contextmanager
def _collected(problems: list[str]) -> Iterator[None]:
    """Note what is wrong and go on to the next check."""
    try:
        yield
    except ValueError as error:
        problems.append(str(error))


def _measure(
    options: argparse.Namespace, settings: EvaluationSettings, inputs: Inputs, processes: Processes
) -> None:
    """Embed, rank, write and report."""
    model = JinaEmbeddingsV4Model.from_pretrained(options.model, dtype=options.dtype)
    model.processor = model.processor.with_image_settings(max_pixels=options.max_pixels)
    results, problems = evaluate_to_folder(
        model,
        inputs.dataset,
        inputs.plan,
        settings,
        options.output,
        about=_about(options, settings),
        left_out=inputs.problems,
        comparison=inputs.comparison,
        processes=processes,
    )
    if processes.is_first:
        for line in report_lines(results, problems, inputs.comparison):
            logger.info("%s", line)
        logger.info("Wrote %s: metrics.json, rankings and judgements.", options.output)


def _about(options: argparse.Namespace, settings: EvaluationSettings) -> dict[str, object]:
    """Return what the figures are figures of."""
    return {
        "smartembed": jina.__version__,
        "model": str(options.model),
        "data": [str(file) for file in options.data],
        "baseline": None if options.baseline is None else str(options.baseline),
        "max_pixels": options.max_pixels,
        "dtype": options.dtype,
        "settings": asdict(settings),
    }
