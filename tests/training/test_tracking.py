"""What trackers are told: the settings without paths, digests, and nothing of the machine."""

import dataclasses
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from jina.data.multimodal_dataset import MultimodalDataset
from jina.training.config_sections import DataSection, TrainingSection
from jina.training.tracked_arguments import TrackedArguments
from jina.training.tracking import (
    PRIVACY,
    events_folder,
    tracked_run,
    tracked_settings,
)
from jina.training.training_config import JinaTrainingConfig

ROOT = Path(__file__).parents[2]


def test_arguments_tell_trackers_nothing_until_it_is_chosen(tmp_path):
    args = TrackedArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    assert args.to_dict() == {}
    args.track({"lora.r": 8})
    assert json.loads(args.to_json_string()) == {"lora.r": 8}
    assert args.to_sanitized_dict()["lora.r"] == 8
    assert not [value for value in args.to_sanitized_dict().values() if str(tmp_path) in str(value)]


def test_a_copy_with_other_arguments_tells_nothing_either(tmp_path):
    args = TrackedArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    args.track({"lora.r": 8})
    assert dataclasses.replace(args, max_steps=1).to_dict() == {}


def test_settings_are_flat_and_paths_cut_to_their_last_part(rows, write_rows):
    file = write_rows(rows)
    config = JinaTrainingConfig(
        data=DataSection(train=str(file)),
        training=TrainingSection(output_dir="/somewhere/out", max_steps=3),
    )
    told = tracked_settings(config, {"data.train": MultimodalDataset(file), "data.eval": None})
    assert told["training.output_dir"] == "out"
    assert told["training.max_steps"] == 3
    assert told["data.train"] == "train.jsonl"
    assert told["data.train.rows"] == 8
    assert "data.eval.digest" not in told
    assert not any("/" in str(value) for value in told.values())


@pytest.fixture
def environment(monkeypatch):
    """An environment that says nothing to trackers."""
    for name in (*PRIVACY, "TENSORBOARD_LOGGING_DIR", "WANDB_RUN_ID", "WANDB_RESUME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def config_of(folder, report_to="tensorboard"):
    section = TrainingSection(output_dir=str(folder), report_to=report_to)
    return JinaTrainingConfig(training=section)


def test_what_the_user_has_set_for_a_tracker_stays_and_the_rest_is_taken_back(environment):
    environment.setenv("WANDB_CONSOLE", "wrap")
    with tracked_run(config_of("nowhere", "none"), step=0):
        assert os.environ["WANDB_CONSOLE"] == "wrap"
        assert os.environ["WANDB_X_DISABLE_META"] == "true"
        assert "WANDB_RUN_ID" not in os.environ
    assert os.environ["WANDB_CONSOLE"] == "wrap"
    assert "WANDB_X_DISABLE_META" not in os.environ


def test_trackers_go_on_in_the_run_that_is_resumed_and_begin_one_that_is_new(environment, tmp_path):
    def run_id(step):
        with tracked_run(config_of(tmp_path, "wandb"), step=step):
            assert os.environ["WANDB_RESUME"] == "allow"
            assert Path(os.environ["TENSORBOARD_LOGGING_DIR"]).name == os.environ["WANDB_RUN_ID"]
            return os.environ["WANDB_RUN_ID"]

    first = run_id(0)
    assert run_id(5) == first
    assert run_id(0) != first


def test_of_several_runs_the_newest_goes_on(tmp_path):
    for name in ("20260102-030405-ffff", "20270102-030405-0000", "20260202-030405-8888"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert events_folder(tmp_path, is_new=False).name == "20270102-030405-0000"


def test_steps_after_the_checkpoint_that_were_done_twice_are_shown_once(
    environment, fresh_events, tmp_path
):
    """A run is killed in step 4, after the checkpoint of step 2; the control isn't told of it."""

    def steps(step_it_says):
        folder = tmp_path / str(step_it_says)
        for after, done, loss in ((0, (1, 2, 3), 1.0), (step_it_says, (3, 4), 0.0)):
            with tracked_run(config_of(folder), step=after):
                events = events_folder(folder, is_new=False)
                with SummaryWriter(str(events)) as writer:
                    for step in done:
                        writer.add_scalar("loss", loss, step)
        scalars = EventAccumulator(str(events)).Reload().Scalars("loss")
        return [(event.step, event.value) for event in scalars]

    assert steps(2) == [(1, 1.0), (2, 1.0), (3, 0.0), (4, 0.0)]
    assert steps(0) != steps(2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "tracker",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                find_spec(name) is None, reason=f"{name} isn't installed: many packages, see README"
            ),
        )
        for name in ("wandb", "mlflow")
    ],
)
def test_other_trackers_write_metrics_and_settings_but_neither_path_nor_key(
    tracker, tmp_path, tiny_folder, rows, write_rows
):
    key = "0123456789abcdef0123456789abcdef01234567"
    tracked = tmp_path / "tracked"
    tracked.mkdir()
    settings = {
        "model.base_model_path": tiny_folder,
        "data.train": write_rows(rows),
        "data.eval": "null",
        "training.output_dir": tmp_path / "out",
        "training.per_device_train_batch_size": 4,
        "training.max_steps": 2,
        "training.use_cpu": "true",
        "training.report_to": tracker,
    }
    command = [sys.executable, str(ROOT / "train.py")]
    command += [word for k, v in settings.items() for word in ("--set", f"{k}={v}")]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tracked),
        "WANDB_API_KEY": key,
        "MLFLOW_TRACKING_URI": (tracked / "store").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_TRACKING_PASSWORD": key,
    }
    subprocess.run(command, env=environment, cwd=ROOT, check=True, timeout=300)
    # not wandb's own log, which is never sent, nor where mlflow's store says that it is
    local = ("debug.log", "debug-internal.log", "meta.yaml")
    files = [f for f in tracked.rglob("*") if f.is_file() and f.name not in local]
    seen = b"".join(f.name.encode() + f.read_bytes() for f in files)
    for word in ("single_loss_16", "data.train.digest", "training.max_steps"):
        assert word.encode() in seen
    for word in (key, str(tmp_path), str(ROOT), str(tiny_folder)):
        assert word.encode() not in seen
