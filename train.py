"""Fine-tune Jina Embeddings V4 on your own pairs: `python train.py [--set section.key=value] …`.

Reads project_config.yaml, checks every row and image, trains adapters and writes a complete
checkpoint. `torchrun train.py` does it on several GPUs. Exit codes: 0 done, 2 bad configuration or
data, 3 training went wrong, 4 saved but not pushed.
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import set_seed

from jina.commands.option_parser import OptionParser
from jina.data.data_collator import ContrastiveDataCollator
from jina.data.image_loading import ImageError
from jina.data.multimodal_dataset import DataError
from jina.export.model_card import CARD
from jina.models.checkpoint import CheckpointError
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.retrieval.evaluation_plan import EvaluationError
from jina.retrieval.item_embedding import EmbeddingError
from jina.retrieval.ranking import RankingError
from jina.training.callbacks import DivergedError
from jina.training.global_batch import BatchError
from jina.training.hub import HubError, HubPush, model_files
from jina.training.jina_trainer import JinaEmbeddingTrainer
from jina.training.run_card import write_card
from jina.training.run_evaluation import RunEvaluation
from jina.training.run_inputs import check_inputs
from jina.training.startup_report import startup_facts, startup_report, usage_lines
from jina.training.tracking import keep_machine_private, tracked_settings
from jina.training.training_config import ConfigError, JinaTrainingConfig, load_config

logger = logging.getLogger("smartembed")

BAD_INPUT, DIVERGED, FAULT = 2, 3, 4
BAD_INPUTS = (
    ConfigError,
    DataError,
    ImageError,
    CheckpointError,
    BatchError,
    EmbeddingError,
    EvaluationError,
)
ONE_STEP = {
    "max_steps": 1,
    "logging_steps": 1,
    "warmup_steps": 0,
    "save_strategy": "no",
    "eval_strategy": "no",
    "eval_on_start": False,
    "load_best_model_at_end": False,
    "report_to": "none",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = parse_options(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    # ours; libraries only warn
    logger.setLevel(logging.INFO if is_first_process() else logging.ERROR)
    try:
        train(load_config(options.config, options.set), options)
    except BAD_INPUTS as error:
        logger.error("%s", error)
        return BAD_INPUT
    except (DivergedError, RankingError) as error:
        logger.error("%s", error)
        return DIVERGED
    except HubError as error:
        logger.error("%s", error)
        return FAULT
    return 0


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OptionParser(prog="train.py", description=__doc__)
    parser.add_argument(
        "--config",
        default="project_config.yaml",
        metavar="FILE",
        help="the settings (default: project_config.yaml)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="a setting in place of the file's; may be given several times",
    )
    parser.add_argument("--dry-run", action="store_true", help="take one step, save nothing")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    words = sys.argv[1:] if argv is None else argv
    parser.refuse_unknown_options(words)
    return parser.parse_args(words)


def is_first_process() -> bool:
    """Whether this process is the first of several, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def train(config: JinaTrainingConfig, options: argparse.Namespace) -> None:
    """Inputs, model, adapter, trainer; then train and save."""
    inputs = check_inputs(config, resume=options.resume)
    datasets = {"train": inputs.train_set, "eval": inputs.eval_set}
    push = None if options.dry_run else HubPush.of(config)
    if push is not None and is_first_process():
        push.claim()
    model = JinaEmbeddingsV4Model.from_pretrained(
        inputs.base_model_path,
        dtype=config.model.dtype,
        attn_implementation=config.model.attn_implementation,
        device="cpu" if config.training.use_cpu else None,
    )
    model.processor = inputs.processor  # rows are ranked at the sizes they are trained at
    is_bf16 = model.dtype == torch.bfloat16 and model.device.type == "cuda"
    args = config.training_arguments(bf16=is_bf16)
    keep_machine_private()
    args.track(tracked_settings(config, {f"data.{name}": data for name, data in datasets.items()}))
    evaluation = None
    if inputs.eval_set is not None and not options.dry_run:
        evaluation = RunEvaluation(config, inputs.eval_set, Path(args.output_dir))
        evaluation.measure_before(model)
    set_seed(args.seed)  # before a new adapter is drawn
    lora = config.lora
    model.train_adapters(
        *lora.tasks,
        fresh=lora.init == "new",
        shared=lora.init == "shared",
        rank=lora.r,
        alpha=lora.alpha,
        dropout=lora.dropout,
    )
    with tempfile.TemporaryDirectory() as nowhere:
        if options.dry_run:
            args = replace(args, output_dir=nowhere, **ONE_STEP)
        trainer = JinaEmbeddingTrainer(
            model,
            args,
            loss=config.loss,
            data=config.data,
            micro_batches=config.training,
            train_dataset=inputs.train_set,
            eval_dataset=inputs.eval_set,
            data_collator=ContrastiveDataCollator(
                inputs.processor, max_text_tokens=config.data.max_text_tokens
            ),
        )
        facts = startup_facts(config, inputs, trainer)
        logger.info("%s\n", startup_report(facts))
        trainer.train(resume_from_checkpoint=options.resume or None)
    if options.dry_run:
        logger.info("Dry run: one step done, nothing saved.")
        return
    trainer.save_model()
    if is_first_process():
        write_card(config, datasets, Path(args.output_dir))  # stays if measuring fails
    if evaluation is not None:
        evaluation.finish(model, trainer.state, facts)
    if is_first_process():
        write_card(config, datasets, Path(args.output_dir))
    logger.info("Saved. Use it:\n\n%s\n", usage_lines(args.output_dir))
    if push is not None and is_first_process():
        push.upload(Path(args.output_dir), model_files(model.checkpoint, CARD))
        logger.info("Pushed to %s.", push.repo)


if __name__ == "__main__":
    sys.exit(main())
