"""The estimate of a step: its formula by hand, and sizes read off a checkpoint."""

import json

import pytest
import torch

from jina.models.checkpoint import Checkpoint
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.training.config_sections import LoraSection, ModelSection, TrainingSection
from jina.training.step_estimate import GIB, ModelSize, estimate_step
from jina.training.training_config import JinaTrainingConfig

TOKENS = {"queries": 268.0, "positives": 64.0, "negatives": 0.0}
ITEMS = {"queries": 1.0, "positives": 1.0, "negatives": 0.0}


def estimate(
    *, tokens=TOKENS, items=ITEMS, rows=5000, size=None, model=None, lora=None, **training
):
    config = JinaTrainingConfig(
        model=ModelSection(**model or {}),
        lora=LoraSection(**lora or {}),
        training=TrainingSection(**training),
    )
    return estimate_step(config, size or ModelSize(), rows=rows, tokens=tokens, items=items)


def test_a_pair_of_the_official_model_takes_what_the_performance_study_measured():
    step = estimate(per_device_train_batch_size=32, tokens_per_micro_batch=None)
    assert step["tokens"] == 32 * 332
    memory = step["memory_gib"]
    assert memory["activations"] / 32 == pytest.approx(1.83, abs=0.01)
    assert memory["weights"] == pytest.approx(6.99, abs=0.01)
    assert memory["adapters and optimizer"] == pytest.approx(59_936_768 * 24 / GIB)


def test_only_tokens_with_a_graph_take_memory_for_it():
    def activations(**training):
        step = estimate(**{"per_device_train_batch_size": 1024, **training})
        return step["memory_gib"]["activations"]

    cached = activations(tokens_per_micro_batch=1000)
    assert cached == activations(per_device_train_batch_size=2048, tokens_per_micro_batch=1000)
    kept = activations(tokens_per_micro_batch=1000, tokens_with_graph=5000)
    assert kept == pytest.approx(5 * cached)
    assert activations(tokens_per_micro_batch=None) > 300 * cached


def test_each_trained_adapter_has_an_optimizer_state_and_a_shared_one_has_one():
    one, two, shared = (
        estimate(lora=lora)["memory_gib"]["adapters and optimizer"]
        for lora in (
            {},
            {"tasks": ["retrieval", "code"]},
            {"tasks": ["retrieval", "code"], "init": "shared"},
        )
    )
    assert two - one == pytest.approx(59_936_768 * 12 / GIB)
    assert shared == one


def test_negatives_come_from_the_other_rows_and_from_all_hard_ones():
    step = estimate(
        items=ITEMS | {"positives": 2.0, "negatives": 1.5}, per_device_train_batch_size=8
    )
    assert step["in_batch_negatives_per_query"] == 14
    assert step["hard_negatives_per_query"] == 12


def test_a_batch_has_no_more_rows_than_there_are():
    few, none = (estimate(rows=rows, per_device_train_batch_size=8) for rows in (5, 0))
    assert (few["batch_size"], few["in_batch_negatives_per_query"]) == (5, 4)
    assert few["tokens"] == 5 * 332
    assert (none["batch_size"], none["in_batch_negatives_per_query"]) == (0, 0)


def test_each_setting_that_matters_changes_its_part():
    plain = estimate()["memory_gib"]
    float32 = estimate(model={"dtype": "float32"})["memory_gib"]
    assert float32["weights"] == 2 * plain["weights"]
    assert float32["activations"] == 2 * plain["activations"]
    checkpointed = estimate(gradient_checkpointing=True)["memory_gib"]
    assert checkpointed["activations"] < plain["activations"] / 15
    assert checkpointed["weights"] == plain["weights"]
    smaller = estimate(lora={"init": "new", "r": 16})["memory_gib"]
    assert plain["adapters and optimizer"] - smaller["adapters and optimizer"] == pytest.approx(
        59_936_768 * 6 / GIB
    )


def test_the_size_of_a_checkpoint_is_that_of_its_model(tiny_folder):
    size = ModelSize.of(Checkpoint.open(tiny_folder))
    model = JinaEmbeddingsV4Model.from_pretrained(tiny_folder, device="cpu")
    adapters = sum(p.numel() for name, p in model.named_parameters() if ".retrieval." in name)
    base = sum(p.numel() for name, p in model.named_parameters() if "lora" not in name)
    # The lengths of files count their headers, too.
    assert size.adapter_parameters == pytest.approx(adapters, rel=0.1)
    assert size.base_parameters == pytest.approx(base, rel=0.1)
    config = json.loads((tiny_folder / "config.json").read_text())
    assert (size.layers, size.rank, size.base_bytes) == (config["num_hidden_layers"], 32, 4)
    assert size.width == config["hidden_size"] + config["intermediate_size"]
    assert torch.float32.itemsize == 4
