"""Several processes: one dies or hangs, all are asked to stop, their number changes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
WORLD, ENDS_WITHIN, STALL = 2, 90, 8

# A training script of which one process misbehaves at its third step; the rest is train.py's own.
SCRIPT = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
import train
from jina.training.jina_trainer import JinaEmbeddingTrainer

step, do = JinaEmbeddingTrainer.training_step, os.environ.get("MISBEHAVE", "")

def stepping(self, *args, **kwargs):
    if self.state.global_step == 2 and os.environ["RANK"] == "1":
        if do == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if do == "hang":
            time.sleep(600)
        if do == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
    return step(self, *args, **kwargs)

JinaEmbeddingTrainer.training_step = stepping
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.fixture
def launch(tmp_path, tiny_folder, rows, write_rows):
    """Return a function that runs the script in two processes: exit code, output and seconds."""
    settings = {
        "model": {"base_model_path": str(tiny_folder)},
        "data": {"train": str(write_rows(rows)), "eval": None},
        "training": {
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-3,
            "max_steps": 5,
            "save_steps": 1,
            "save_total_limit": None,
            "ddp_timeout": STALL,
            "use_cpu": True,
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    script = tmp_path / "misbehaving.py"
    script.write_text(SCRIPT.format(root=str(ROOT)))

    def run(name, *arguments, misbehave="", world=WORLD):
        launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={world}"]
        command = [sys.executable, *launcher, str(script)]
        command += ["--config", str(tmp_path / "config.yaml"), *arguments]
        command += ["--set", f"training.output_dir={tmp_path / name}"]
        begin = time.monotonic()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MISBEHAVE": misbehave}
        environment["PYTHONUNBUFFERED"] = "1"
        done = subprocess.run(  # noqa: S603 - our own command
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        return done.returncode, done.stdout + done.stderr, time.monotonic() - begin

    return run


@pytest.fixture
def adapter(tmp_path):
    """Return a function from a run to its adapters after the last step."""
    name = "checkpoint-5/adapters/adapter_model.safetensors"
    return lambda run: load_file(tmp_path / run / name)


def is_equal(one, other):
    return all(torch.equal(other[name], tensor) for name, tensor in one.items())


def test_whatever_becomes_of_one_process_all_end_and_the_run_goes_on_bit_equal(
    launch, adapter, tmp_path
):
    assert launch("whole")[0] == 0
    for misbehave, words in (("die", "SIGKILL"), ("hang", "ended or hangs"), ("stop", "step 3: ")):
        code, said, seconds = launch(misbehave, misbehave=misbehave)
        assert code != 0
        assert words in said
        assert seconds < ENDS_WITHIN
        assert (tmp_path / misbehave / "checkpoint-3").is_dir() is (misbehave == "stop")
        code, said, _ = launch(misbehave)
        assert code == 0, said[-3000:]
        assert "Going on from" in said
        assert is_equal(adapter("whole"), adapter(misbehave))


def test_another_number_of_processes_is_refused_until_it_is_allowed(launch, adapter, tmp_path):
    assert launch("whole")[0] == 0
    assert launch("other", misbehave="stop")[0] != 0
    alone = ("--set", "training.per_device_train_batch_size=4")
    code, said, _ = launch("other", *alone, world=1)
    assert code != 0
    assert "processes: was 2, is 1" in said
    allowed = ("processes", "training.per_device_train_batch_size")
    flags = [part for name in allowed for part in ("--allow-change", name)]
    code, said, _ = launch("other", *alone, *flags, world=1)
    assert code == 0, said[-3000:]
    assert "batches, their order and dropout are no longer" in said
    assert not is_equal(adapter("whole"), adapter("other"))


def test_the_real_script_ends_on_a_signal_to_its_process_with_the_code_of_that(launch, tmp_path):
    """A single process, as a user or SLURM's srun starts it."""
    config = json.loads((tmp_path / "config.yaml").read_text())
    config["training"] |= {"max_steps": 10_000, "output_dir": str(tmp_path / "out")}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    command = [sys.executable, "-u", "train.py", "--config", str(tmp_path / "config.yaml")]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        with subprocess.Popen(  # noqa: S603 - our own command
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as process:  # fmt: skip
            for line in process.stdout:
                if "  step " in line or " step " in line and "loss" in line:
                    break
            process.send_signal(number)
            rest = process.stdout.read()
        assert process.returncode == code
        assert "saved and stopped" in rest
