"""Fine-tune Jina Embeddings V4 on your own pairs: `python train.py [--set section.key=value] …`.

Reads project_config.yaml, checks every row and image, trains adapters and writes a complete
checkpoint, and with held-out rows a report. `torchrun train.py` does it on several GPUs. Started
again, it goes on where it was interrupted. Exit codes: 0 done, 2 bad configuration or data, 3
training went wrong, 4 something around it broke, 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from jina.commands.console import speak
from jina.commands.train_options import parse_options
from jina.data.data_collator import ContrastiveDataCollator
from jina.data.image_loading import ImageError
from jina.data.multimodal_dataset import DataError
from jina.export.model_card import CARD
from jina.models.checkpoint import CheckpointError
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.retrieval.evaluation_plan import EvaluationError
from jina.retrieval.item_embedding import EmbeddingError
from jina.retrieval.ranking import RankingError
from jina.training import distributed
from jina.training.callbacks import DivergedError
from jina.training.checkpointing import SaveError, StoredCheckpoint
from jina.training.global_batch import BatchError
from jina.training.hub import HubError, model_files
from jina.training.jina_trainer import JinaEmbeddingTrainer
from jina.training.output_folder import StartOptions, choose_start, held, prepare
from jina.training.run_card import write_card
from jina.training.run_evaluation import RunEvaluation
from jina.training.run_identity import run_identity
from jina.training.run_inputs import RunInputs, check_inputs
from jina.training.startup_report import startup_facts, startup_report, usage_lines
from jina.training.stopping import FaultError, StopOnSignal, StoppedError, faults_explained
from jina.training.tracked_arguments import TrackedArguments
from jina.training.tracking import tracked_run, tracked_settings
from jina.training.training_config import ConfigError, JinaTrainingConfig, load_config
from jina.training.vision_cache import open_vision_cache

logger = logging.getLogger("smartembed")

BAD_INPUT, DIVERGED, FAULT, KILLED = 2, 3, 4, 130
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
    options = parse_options(argv, __doc__)
    speak()
    is_first = os.environ.get("RANK", "0") == "0"  # of several processes, or the only one
    logger.setLevel(logging.INFO if is_first else logging.ERROR)  # ours; libraries only warn
    try:
        train(load_config(options.config, options.set), options)
    except BAD_INPUTS as error:
        logger.error("%s", error)
        return BAD_INPUT
    except (DivergedError, RankingError) as error:
        logger.error("%s", error)
        return DIVERGED
    except (SaveError, FaultError, HubError) as error:
        logger.error("%s", error)
        return FAULT
    except StoppedError as stop:
        logger.warning("%s", stop)
        return stop.exit_code
    except KeyboardInterrupt:
        return KILLED
    return 0


def train(config: JinaTrainingConfig, options: argparse.Namespace) -> None:
    """Check the inputs, see where to start, then train and save."""
    chosen = StartOptions(options.resume, options.overwrite, tuple(options.allow_change))
    inputs = check_inputs(config, None if options.dry_run else chosen)
    if options.dry_run:
        try_one_step(config, inputs)
        return
    folder = Path(config.training.output_dir)
    with held(folder):
        with config.training_arguments(bf16=False).main_process_first(desc="digest of the model"):
            run = run_identity(
                config, inputs.base_model_path, inputs.datasets, processes=distributed.world_size()
            )
        start = choose_start(folder, run, chosen)
        distributed.wait_for_all()  # what they choose from is deleted next
        if distributed.rank() == 0:
            if inputs.push is not None:
                inputs.push.claim()
            prepare(folder, start)
        with faults_explained(folder), tracked_run(config, step=start.step if start else 0):
            train_from(start, run, config, inputs)


def train_from(
    start: StoredCheckpoint | None,
    run: dict[str, Any],
    config: JinaTrainingConfig,
    inputs: RunInputs,
) -> None:
    """Load the model, train on from a checkpoint or from the start, save, measure and push."""
    model, args = load_model(config, inputs)
    evaluation, table = None, []
    if inputs.eval_set is not None:
        evaluation = RunEvaluation(config, inputs.eval_set, Path(args.output_dir))
        if start is None or not evaluation.is_begun:
            table = evaluation.measure_before(model)
    if start is not None:
        args.eval_on_start = False  # it has been, before the first step
    trainer = build_trainer(config, inputs, model, args, run)
    facts = startup_facts(config, inputs, trainer)
    logger.info("%s\n", "\n".join([startup_report(facts), "", *table]))
    with StopOnSignal() as stop:
        trainer.add_callback(stop)
        trainer.train(None if start is None else str(start.path))
        trainer.save_model()
    write_card(config, inputs.datasets, Path(args.output_dir))  # stays if measuring fails
    if evaluation is not None:
        evaluation.finish(model, trainer.state, facts)
        write_card(config, inputs.datasets, Path(args.output_dir))
    logger.info("Saved. Use it:\n\n%s\n", usage_lines(args.output_dir))
    if inputs.push is not None and distributed.rank() == 0:
        inputs.push.upload(Path(args.output_dir), model_files(model.checkpoint, CARD))


def try_one_step(config: JinaTrainingConfig, inputs: RunInputs) -> None:
    """Take a single step and save nothing."""
    model, args = load_model(config, inputs)
    with tempfile.TemporaryDirectory() as nowhere:
        args = replace(args, output_dir=nowhere, **ONE_STEP)
        trainer = build_trainer(config, inputs, model, args, {})
        logger.info("%s\n", startup_report(startup_facts(config, inputs, trainer)))
        trainer.train()
    logger.info("Dry run: one step done, nothing saved.")


def load_model(
    config: JinaTrainingConfig, inputs: RunInputs
) -> tuple[JinaEmbeddingsV4Model, TrackedArguments]:
    """Load the base model, and settle what depends on it."""
    model = JinaEmbeddingsV4Model.from_pretrained(
        inputs.base_model_path,
        dtype=config.model.dtype,
        attn_implementation=config.model.attn_implementation,
        device="cpu" if config.training.use_cpu else None,
    )
    model.processor = inputs.processor  # rows are ranked at the sizes they are trained at
    is_bf16 = model.dtype == torch.bfloat16 and model.device.type == "cuda"
    args = config.training_arguments(bf16=is_bf16)
    args.track(tracked_settings(config, inputs.datasets))
    return model, args


def build_trainer(
    config: JinaTrainingConfig,
    inputs: RunInputs,
    model: JinaEmbeddingsV4Model,
    args: TrackedArguments,
    run: dict[str, Any],
) -> JinaEmbeddingTrainer:
    """Make adapters trainable, and put everything together."""
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
    return JinaEmbeddingTrainer(
        model,
        args,
        run=run,
        loss=config.loss,
        data=config.data,
        micro_batches=config.training,
        train_dataset=inputs.train_set,
        eval_dataset=inputs.eval_set,
        vision_cache=open_vision_cache(config, model, inputs, args),
        data_collator=ContrastiveDataCollator(
            inputs.processor, max_text_tokens=config.data.max_text_tokens
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
