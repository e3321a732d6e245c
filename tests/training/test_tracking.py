"""What trackers are told: the settings without paths, digests, and nothing of the machine."""

import dataclasses
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from jina.data.multimodal_dataset import MultimodalDataset
from jina.training.config_sections import DataSection, TrainingSection
from jina.training.tracked_arguments import TrackedArguments
from jina.training.tracking import (
    PRIVACY,
    keep_machine_private,
    rows_digest,
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


def test_a_digest_is_of_what_the_rows_hold_not_of_where_they_are(rows, write_rows):
    first = rows_digest(MultimodalDataset(write_rows(rows)))
    assert first == rows_digest(MultimodalDataset(write_rows(rows, name="moved.jsonl")))
    changed = [*rows[:-1], {**rows[-1], "positive": "a square"}]
    assert first != rows_digest(MultimodalDataset(write_rows(changed)))
    assert first != rows_digest(MultimodalDataset(write_rows(rows[:-1])))
    assert first != rows_digest(MultimodalDataset(write_rows(rows[::-1])))


def test_what_the_user_has_set_for_a_tracker_stays(monkeypatch):
    for name in PRIVACY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_CONSOLE", "wrap")
    keep_machine_private()
    assert os.environ["WANDB_CONSOLE"] == "wrap"
    assert os.environ["WANDB_X_DISABLE_META"] == "true"
    for name in PRIVACY:
        monkeypatch.delenv(name)


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
