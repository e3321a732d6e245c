"""A configuration of three quick steps, and train.py run with it."""

import json

import pytest

import train


@pytest.fixture
def config(tmp_path, tiny_folder, rows, write_rows):
    """A configuration of three quick steps on eight rows."""
    settings = {
        "model": {"base_model_path": str(tiny_folder)},
        "data": {"train": str(write_rows(rows)), "eval": None},
        "training": {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-3,
            "max_steps": 3,
            "use_cpu": True,
        },
    }
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(settings))  # JSON is YAML
    return file


@pytest.fixture
def run(config, caplog):
    """Return a function that runs train.py in this process: exit code and what it said."""

    def run_script(*arguments):
        caplog.clear()
        code = train.main(["--config", str(config), *arguments])
        return code, caplog.text

    return run_script


@pytest.fixture
def held_out(write_rows, rows):
    """Flags of a run with held-out rows."""
    file = write_rows(rows, "eval.jsonl")
    return ("--set", f"data.eval={file}", "--set", "training.per_device_eval_batch_size=4")
