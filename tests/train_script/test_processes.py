"""train.py as a user starts it: the demo, and several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_demo_finds_pictures_by_words_it_was_taught_and_leaves_other_tasks_alone(tmp_path):
    command = [sys.executable, "train.py", "--config", "examples/new_language/config.yaml"]
    command += ["--set", f"training.output_dir={tmp_path / 'out'}"]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    results = json.loads((tmp_path / "out/eval/after/metrics.json").read_text())["results"]
    changes = {
        result["reversed"]: result["difference"]["ndcg@10"]["low"]
        for result in results
        if (result["vectors"], result["size"]) == ("single", 192)
    }
    assert set(changes) == {False, True}
    assert min(changes.values()) > 0
    base, trained = (
        JinaEmbeddingsV4Model.from_pretrained(folder, dtype="float32")
        for folder in (ROOT / "data/tiny_jina", tmp_path / "out")
    )
    for task, is_equal in (("text-matching", True), ("code", True), ("retrieval", False)):
        vectors = (model.encode_text("kurbağa", task=task) for model in (base, trained))
        assert torch.equal(*vectors) == is_equal, task


@pytest.mark.slow
def test_two_processes_share_a_feature_cache_with_the_next_run(config, run, tmp_path):
    settings = ["--set", "data.vision_cache=disk"]
    alone = run(*settings, "--dry-run")[1]
    assert f"{tmp_path / 'cache' / 'vision'}" in alone
    assert "0 of 8 images known" in alone
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2"]
    two = ["--set", "training.per_device_train_batch_size=2"]
    command = [sys.executable, *launcher, ROOT / "train.py", "--config", config, *settings, *two]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(  # noqa: S603 - our own command
        command, env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    assert len([*(tmp_path / "cache" / "vision").rglob("*.features")]) == 3
    assert "8 of 8 images known" in run(*settings, "--overwrite")[1]


@pytest.mark.slow
def test_two_processes_train_the_adapter_that_one_trains(config, tmp_path):
    """Plain gradient descent without dropout, so that only the order of sums differs."""
    settings = json.loads(config.read_text())
    settings["lora"] = {"dropout": 0.0}
    settings["training"] |= {"optim": "sgd", "learning_rate": 0.05, "save_steps": 3}
    config.write_text(json.dumps(settings))

    settings["data"]["eval"] = settings["data"]["train"]
    settings["training"]["per_device_eval_batch_size"] = 4
    config.write_text(json.dumps(settings))

    def adapter(name, *launcher, batch_size):
        flags = {
            "training.output_dir": tmp_path / name,
            "training.per_device_train_batch_size": batch_size,
        }
        arguments = [part for key, value in flags.items() for part in ("--set", f"{key}={value}")]
        command = [sys.executable, *launcher, ROOT / "train.py", "--config", config, *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(  # noqa: S603 - our own command
            command, env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        assert f"in-batch negatives per query             {3}" in done.stdout
        assert done.stdout.count("step 3/3") == 1  # the first process speaks for both
        return load_file(tmp_path / name / "checkpoint-3/adapters/adapter_model.safetensors")

    two = adapter("two", "-m", "torch.distributed.run", "--nproc-per-node=2", batch_size=2)
    one = adapter("one", batch_size=4)
    start = load_file(settings["model"]["base_model_path"] + "/adapters/adapter_model.safetensors")
    assert max((one[name] - start[name]).abs().max() for name in one) > 1e-4
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-6)
    for file in ("eval/before/per_query.jsonl", "run/report.html"):
        assert (tmp_path / "two" / file).is_file()
    figures, others = (
        json.loads((tmp_path / name / "run/trainer_state.json").read_text())["log_history"][0]
        for name in ("one", "two")
    )
    ranked = {name: value for name, value in figures.items() if "ndcg" in name}
    assert ranked  # of the same weights, so to the bit
    assert ranked == {name: value for name, value in others.items() if "ndcg" in name}
    before, same = (tmp_path / name / "eval/before/per_query.jsonl" for name in ("one", "two"))
    assert before.read_bytes() == same.read_bytes()
