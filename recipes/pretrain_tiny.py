"""Pretrain the tiny Jina: every weight of a small model in the official layout, on a CPU.

    python -m recipes.pretrain_tiny --data DIR --output DIR [--seed 0] [--texts 500] [--steps 1500]

    1. texts:  the decoder learns what MiniLM makes of texts in 28 languages
    2. pairs:  tower and decoder learn what the teachers make of pictures, from ever new views, and
               to find them by captions
    3. again:  the same twice more, for a short while, with a learning rate that rises and falls,
               and each time half the way back

`python -m recipes.tiny_packages` fetches and builds the data. Every random number is drawn from the
seed and the number of the step, and the state is saved every few minutes: the same command goes on
where it stopped, to the same end. The result is DIR/tiny_jina.
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path

from recipes.tiny_batches import Batches
from recipes.tiny_data import TinySet
from recipes.tiny_evaluation import validate
from recipes.tiny_model import write_checkpoint
from recipes.tiny_pretraining import Pretraining, Stage

AGAIN = 0.12  # of the steps with pictures

logger = logging.getLogger("smartembed")


def main() -> None:
    """Train, with a line of losses every 20 steps."""
    parser = argparse.ArgumentParser(prog="python -m recipes.pretrain_tiny")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--texts", type=int, default=500, help="steps with texts alone")
    parser.add_argument("--steps", type=int, default=1500, help="steps with pictures")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--save-every", type=int, default=40)
    parser.add_argument("--validate-every", type=int, default=100)
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stdout, level=logging.INFO)
    options.output.mkdir(parents=True, exist_ok=True)
    data = TinySet.read(options.data)
    again = Stage(round(AGAIN * options.steps), 1.5e-3, True, grown=0.6, is_averaged=True)
    stages = [Stage(options.texts, 5e-3, False), Stage(options.steps, 3e-3, True), again, again]
    run = Pretraining(data, options.output, stages, options.seed)
    run.resume()
    train(run, Batches(data, options.batch), options)
    run.save()
    write_checkpoint(options.output / "start", run.weights, options.output / "tiny_jina")


def train(run: Pretraining, batches: Batches, options: argparse.Namespace) -> None:
    """Go through all steps that are left."""
    totals: dict[str, float] = {}
    started = time.process_time()
    for stage, step in run.plan():
        for name, value in run.learn(stage, step, batches).items():
            totals[name] = totals.get(name, 0.0) + value
        if run.step % 20 == 0:
            figures = {name: round(value / 20, 3) for name, value in totals.items()}
            spent = time.process_time() - started
            logger.info("%d %s %.0f CPU seconds", run.step, json.dumps(figures), spent)
            totals = {}
        if run.step % options.validate_every == 0:
            logger.info("%d %s", run.step, json.dumps(validate(run.model, run.data)))
        if run.step % options.save_every == 0:
            run.save()


if __name__ == "__main__":
    main()
