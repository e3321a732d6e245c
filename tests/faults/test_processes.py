"""Several processes: one dies or hangs, all are asked to stop, their number changes.

The processes are forked from the tests', which have everything imported, and ended by them as
`torchrun` does it: when one fails, the others are asked to end and soon killed. One test has
`torchrun` itself.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file

import train
from jina.training.jina_trainer import JinaEmbeddingTrainer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
WORLD, ENDS_WITHIN, TIMEOUT = 2, 60, 240
STALL, GRACE = 15, 3  # seconds: for a process that hangs, for one that is asked to end
LAUNCHED = """
import sys
sys.path[:0] = [{root!r}]
import train
from tests.faults.test_processes import misbehave
misbehave()
sys.exit(train.main(sys.argv[1:]))
"""


def misbehave():
    """Do at the third step what the environment says, in the second process."""
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


def fork(arguments, log, environment):
    """Run train.py in a process of a group and return it."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ.update(environment)
        for number in (1, 2):
            os.dup2(log.fileno(), number)
        sys.stdout, sys.stderr = log, log
        logging.getLogger().handlers.clear()  # the tests'
        PartialState._reset_state()
        misbehave()
        code = train.main(arguments)
    except BaseException:
        traceback.print_exc(file=log)
    finally:
        log.flush()
        os._exit(code)


def wait(children):
    """Wait for processes as a launcher does; return the exit codes in the order of their ends."""
    running, codes, end = set(children), [], time.monotonic() + TIMEOUT
    while running:
        for child in list(running):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                running.remove(child)
                codes.append(os.waitstatus_to_exitcode(status))
                if codes[-1] != 0 and len(codes) == 1:
                    end = time.monotonic() + GRACE
                    for other in running:
                        os.kill(other, signal.SIGTERM)
        if time.monotonic() > end:
            for child in running:
                os.kill(child, signal.SIGKILL)
            end += TIMEOUT
        time.sleep(0.01)
    return codes


@pytest.fixture
def config(tmp_path, tiny_folder, rows, write_rows):
    """A configuration of five steps."""
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
    return tmp_path / "config.yaml"


@pytest.fixture
def launch(tmp_path, config):
    """Return a function that trains in several processes: exit codes, output and seconds."""

    def run(name, *arguments, misbehave="", world=WORLD):
        command = ["--config", str(config), *arguments]
        command += ["--set", f"training.output_dir={tmp_path / name}"]
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        group = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
        group |= {"MASTER_ADDR": "127.0.0.1", "MISBEHAVE": misbehave, "OMP_NUM_THREADS": 1}
        begin = time.monotonic()
        with (tmp_path / f"{name}.log").open("w+") as log:
            children = []
            for rank in map(str, range(world)):
                environment = {**group, "RANK": rank, "LOCAL_RANK": rank}
                text = {key: str(value) for key, value in environment.items()}
                children.append(fork(command, log, text))
            codes = wait(children)
            log.seek(0)
            return codes, log.read(), time.monotonic() - begin

    return run


@pytest.fixture
def adapter(tmp_path):
    """Return a function from a run to its adapters after the last step."""
    name = "checkpoint-5/adapters/adapter_model.safetensors"
    return lambda run: load_file(tmp_path / run / name)


def is_equal(one, other):
    return all(torch.equal(other[name], tensor) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("what", "first", "words"),
    [
        ("die", -signal.SIGKILL, "another process has ended or hangs; got"),
        ("hang", 4, "another process has ended or hangs; got"),
        ("stop", 143, "step 3: saved and stopped; got SIGTERM"),
    ],
)
def test_whatever_becomes_of_one_process_all_end_and_the_run_goes_on_bit_equal(
    launch, adapter, tmp_path, what, first, words
):
    codes, said, seconds = launch(what, misbehave=what)
    assert codes[0] == first
    assert len(codes) == WORLD
    assert words in said
    assert seconds < ENDS_WITHIN
    assert (tmp_path / what / "checkpoint-3").is_dir() is (what == "stop")
    codes, said, _ = launch(what)
    assert codes == [0, 0], said[-3000:]
    assert "Going on from" in said
    assert launch("whole")[0] == [0, 0]
    assert is_equal(adapter("whole"), adapter(what))


def test_torchrun_ends_a_group_of_which_one_process_has_died(tmp_path, config, launch):
    script = tmp_path / "launched.py"
    script.write_text(LAUNCHED.format(root=str(ROOT)))
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={WORLD}"]
    command += [
        str(script),
        "--config",
        str(config),
        "--set",
        f"training.output_dir={tmp_path}/out",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MISBEHAVE": "die"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 1
    assert "SIGKILL" in done.stderr
    codes, said, _ = launch("out")
    assert codes == [0, 0], said[-3000:]
    assert f"Going on from {tmp_path}/out/checkpoint-2" in said


def test_another_number_of_processes_is_refused_until_it_is_allowed(launch, adapter, tmp_path):
    assert launch("whole")[0] == [0, 0]
    assert launch("other", misbehave="stop")[0] == [143, 143]
    alone = ("--set", "training.per_device_train_batch_size=4")
    codes, said, _ = launch("other", *alone, world=1)
    assert codes == [2]
    assert "processes: was 2, is 1" in said
    allowed = ("processes", "training.per_device_train_batch_size")
    flags = [part for name in allowed for part in ("--allow-change", name)]
    codes, said, _ = launch("other", *alone, *flags, world=1)
    assert codes == [0], said[-3000:]
    assert "batches, their order and dropout are no longer" in said
    assert not is_equal(adapter("whole"), adapter("other"))


def test_the_real_script_ends_on_a_signal_to_its_process_with_the_code_of_that(tmp_path, config):
    """A single process, as a user or SLURM's srun starts it."""
    command = [sys.executable, "-u", "train.py", "--config", str(config)]
    command += ["--set", "training.max_steps=10000"]
    command += ["--set", f"training.output_dir={tmp_path / 'out'}"]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        with subprocess.Popen(  # noqa: S603 - our own command
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as process:  # fmt: skip
            for line in process.stdout:
                if " step " in line and "loss" in line:
                    break
            process.send_signal(number)
            rest = process.stdout.read()
        assert process.returncode == code
        assert "saved and stopped" in rest
