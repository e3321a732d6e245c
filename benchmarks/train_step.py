"""How fast `train.py` trains, against named rivals: `python -m benchmarks.train_step`.

Each variant trains the same LoRA (rank 4 on the decoder's linears) of the same model on the same
batches in a process of its own, by its own package's trainer, reading of images included; ours is
`train.py` itself. Prints pairs per CPU second, the ratio to the plain way, and by how much memory
rose above the loaded model at most. Rivals' packages are in an environment of their own, see
benchmarks/README.md; without `--python` and `--colpali-python` only ours and the plain way run.
"""

import argparse
import importlib.metadata
import json
import logging
import platform
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measuring import (
    errand_of_this_process,
    interleave,
    read_batches,
    run_errand,
    summary,
    table,
    watch_trainer,
)
from benchmarks.workload import KINDS, build_workload
from train import main as train

SPEED, BASELINE = "pairs_per_cpu_second", "naive"
TEMPERATURE, RANK, MICRO_BATCH = 0.02, 4, 1024
SAME_LOSS = 1e-3  # how far first losses of what should be the same may lie apart


class Variant(NamedTuple):
    """One way to train: the module to run, our settings, and whether features are cached."""

    module: str
    settings: tuple[str, ...] = ()
    is_second_epoch: bool = False


OURS = "benchmarks.train_step"
STOCK = "benchmarks.rivals.stock_trainer"
ST = "benchmarks.rivals.sentence_transformer"
COLPALI = "benchmarks.rivals.colpali_engine_trainer"
CACHING = f"training.tokens_per_micro_batch={MICRO_BATCH}"
KEPT_GRAPHS = (CACHING, "training.tokens_with_graph=1000000")
FEATURES = "data.vision_cache=memory"
VARIANTS = {
    "naive": Variant(STOCK),
    "naive, checkpointing": Variant(STOCK),
    "ST": Variant(ST),
    "ST, cached loss": Variant(ST),
    "colpali-engine": Variant(COLPALI),
    "ours, one graph": Variant(OURS, ("training.tokens_per_micro_batch=null",)),
    "ours, graphs kept": Variant(OURS, KEPT_GRAPHS),
    "ours, gradient caching": Variant(OURS, (CACHING,)),
    "ours, graphs kept, features cached": Variant(
        OURS, (*KEPT_GRAPHS, FEATURES), is_second_epoch=True
    ),
    "ours, gradient caching, features cached": Variant(
        OURS, (CACHING, FEATURES), is_second_epoch=True
    ),
}
SAME = ("naive", "naive, checkpointing", *(name for name in VARIANTS if name.startswith("ours")))


def main() -> None:
    """Build the workload, run the variants in turns, print the table."""
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        train_ours(errand_of_this_process())
        return
    options = parse_options()
    with tempfile.TemporaryDirectory() as scratch:
        workload = Path(scratch, "workload")
        build_workload(
            workload, options.rows, rows=(options.steps + 2) * options.batch_size,
            batch_size=options.batch_size, seed=options.seed,
        )  # fmt: skip
        facts = read_batches(workload)
        variants = [name for name in options.variants if python_of(name, options)]
        runs = interleave(variants, options.repeats, partial(run, workload, facts, options))
    rows = summary(runs, speed=SPEED, baseline=BASELINE)
    del facts["pairs"], facts["image_prompt"]
    sys.stdout.write(f"rows {options.rows}: {json.dumps(facts)}\n")
    sys.stdout.write(table(rows, speed=SPEED, baseline=BASELINE) + "\n")
    for line in differing_losses(rows):
        sys.stdout.write(f"{line}\n")
    if options.json:
        versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
        report = {"rows": options.rows, **facts, "machine": platform.processor(), **versions}
        report |= {"variants": rows}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", choices=KINDS, default="mixed")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--python", help="of the environment with sentence-transformers")
    parser.add_argument("--colpali-python", help="of the environment with colpali-engine")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=2, help="timed ones; one more goes before")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="OUT")
    return parser.parse_args(argv)


def python_of(name: str, options: argparse.Namespace) -> str | None:
    """Return the interpreter that runs a variant, `None` if there is none.

    Where sentence-transformers' is given, it runs all but colpali-engine, so that all have the
    same torch.
    """
    module = VARIANTS[name].module
    if module == COLPALI:
        return options.colpali_python
    return options.python or (None if module == ST else sys.executable)


def run(
    workload: Path, facts: dict[str, Any], options: argparse.Namespace, name: str
) -> dict[str, float]:
    """Run one variant once."""
    variant = VARIANTS[name]
    # features are cached from the second epoch on, whose first step isn't counted either
    warm_steps = 1 + (facts["batches"] if variant.is_second_epoch else 0)
    errand = {
        "variant": name,
        "workload": str(workload),
        "result": str(workload.with_name("result.json")),
        "batch_size": facts["batch_size"],
        "warm_steps": warm_steps,
        "steps": warm_steps + options.steps,
        "temperature": TEMPERATURE,
        "rank": RANK,
        "settings": variant.settings,
    }
    figures = run_errand(python_of(name, options), variant.module, errand)
    sys.stderr.write(f"{name}: {figures}\n")
    return figures


def train_ours(errand: dict[str, Any]) -> None:
    """Run `train.py` with the settings of a variant."""
    workload = Path(errand["workload"])
    watch_trainer(errand)
    logging.getLogger("smartembed").addHandler(RefuseWarnings(logging.WARNING))
    with tempfile.TemporaryDirectory(dir=workload.parent) as output:
        code = train(train_arguments(errand, output))
    if code:
        raise SystemExit(code)


class RefuseWarnings(logging.Handler):
    """Ends a run that `train.py` warns of: it wouldn't measure what its variant says."""

    def emit(self, record: logging.LogRecord) -> None:
        """Stop, with the warning."""
        raise SystemExit(record.getMessage())


def train_arguments(errand: dict[str, Any], output: str) -> list[str]:
    """Return the command line of `train.py`: single vectors only, as the rivals train."""
    workload = Path(errand["workload"])
    settings = [
        f"model.base_model_path={workload / 'model'}",
        "lora.init=new",
        f"lora.r={errand['rank']}",
        f"lora.alpha={errand['rank']}",
        "lora.dropout=0.0",
        f"data.train={workload / 'rows.jsonl'}",
        "data.eval=null",
        "data.image_base_dir=/",
        f"loss.temperature={errand['temperature']}",
        "loss.weights={single: 1, multi: 0, kl: 0}",
        "loss.matryoshka_dims=[]",
        f"training.output_dir={output}/finetuned",
        f"training.per_device_train_batch_size={errand['batch_size']}",
        f"training.max_steps={errand['steps']}",
        "training.save_strategy=no",
        "training.use_cpu=true",
        *errand["settings"],
    ]
    return [argument for setting in settings for argument in ("--set", setting)]


def differing_losses(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say which first losses differ that should be equal: same weights, tokens and batch."""
    losses = {row["variant"]: row["first_loss"] for row in rows}
    told = []
    for group in (SAME, ("ST", "ST, cached loss")):
        found = {name: losses[name] for name in group if name in losses}
        if found and max(found.values()) - min(found.values()) > SAME_LOSS:
            told.append(f"NOT THE SAME COMPUTATION, first losses differ: {found}")
    return told


if __name__ == "__main__":
    main()
