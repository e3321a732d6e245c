"""`python -m jina doctor`: what is there, what will be used, how much it takes."""

import json
import re

import pytest
import torch

from jina.__main__ import main
from jina.training import machine_report


@pytest.fixture
def doctor(caplog, tmp_path, tiny_folder, rows, write_rows):
    """Return a function that runs the command for the eight rows: exit code and what it said."""

    def run(*, base=tiny_folder, **training):
        settings = {
            "model": {"base_model_path": str(base)},
            "data": {"train": str(write_rows(rows)), "eval": None},
            "training": {"per_device_train_batch_size": 4, "use_cpu": True, **training},
        }
        file = tmp_path / "config.yaml"
        file.write_text(json.dumps(settings))  # JSON is YAML
        return main(["doctor", "--config", str(file)]), caplog.text

    return run


def test_without_a_configuration_only_the_machine_is_described(caplog):
    assert main(["doctor"]) == 0
    assert torch.__version__ in caplog.text
    assert "Run" not in caplog.text


def test_a_run_is_described_with_its_memory_and_speed(doctor):
    code, said = doctor()
    assert code == 0
    assert "cpu, weights in float32" in said
    assert "packed_sdpa" in said
    assert re.search(r"pairs a batch +4, about \d+ tokens", said)
    assert re.search(r"speed +perhaps [\d.e+]+ pairs/s", said)


def test_micro_batches_are_counted_and_cost_another_forward_pass(doctor, monkeypatch, caplog):
    monkeypatch.setattr(machine_report, "measured_tflops", lambda _: 1.0)
    whole, cut = doctor()[1], None
    caplog.clear()
    cut = doctor(tokens_per_micro_batch=40)[1]
    assert re.search(r"micro-batches +1\n", whole)
    assert re.search(r"micro-batches +[2-9] of up to 40 tokens", cut)
    speeds = [float(re.search(r"perhaps ([\d.e+]+)", said)[1]) for said in (whole, cut)]
    assert speeds[1] == pytest.approx(speeds[0] * 3 / 4, rel=0.02)


def test_a_base_model_that_is_none_is_told(doctor, tmp_path):
    code, said = doctor(base=tmp_path)
    assert code == 2
    assert "not a Jina Embeddings V4 checkpoint" in said


def test_all_that_is_said_can_be_had_as_json(caplog, tmp_path):
    assert main(["doctor", "--json", str(tmp_path / "said.json")]) == 0
    said = json.loads((tmp_path / "said.json").read_text(encoding="utf-8"))
    assert list(said) == ["machine"]
    assert said["machine"]["torch"] == torch.__version__
    assert all(f"{name:<28} {value}" in caplog.text for name, value in said["machine"].items())
