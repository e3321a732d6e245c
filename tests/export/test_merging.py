"""Merged weights compute what base and adapter compute, one task at a time."""

import pytest
import torch
from peft.tuners.lora import LoraLayer

from jina.export.merging import MergedWeights


def lora_layers(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, LoraLayer)}


@pytest.mark.parametrize("task", ["retrieval", "text-matching", "code"])
def test_every_adapted_tensor_is_base_plus_what_peft_would_add(source, jina_model, task):
    weights = MergedWeights(source.checkpoint, task, torch.float32)
    parts = weights.projector()
    for name, layer in lora_layers(jina_model).items():
        expected = layer.get_base_layer().weight + layer.get_delta_weight(task)
        is_projector = name == "multi_vector_projector"
        got = parts["weight"] if is_projector else weights[f"{name}.weight"]
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_another_task_gives_other_weights(source, weights):
    other = MergedWeights(source.checkpoint, "code", torch.float32)
    adapted = [name for name in weights.names if "q_proj.weight" in name]
    assert adapted
    assert not any(torch.equal(weights[name], other[name]) for name in adapted)
    assert not torch.equal(weights.projector()["weight"], other.projector()["weight"])


def test_what_has_no_adapter_is_untouched(weights, jina_model):
    base = dict(jina_model.named_parameters())
    untouched = [name for name in weights.names if name in base]
    assert any("visual" in name for name in untouched)
    assert any(name.endswith("layernorm.weight") for name in untouched)
    assert all(torch.equal(weights[name], base[name]) for name in untouched)
    assert torch.equal(weights.projector()["bias"], base["multi_vector_projector.base_layer.bias"])


def test_names_are_the_models_without_its_adapters(weights, jina_model):
    names = {n.replace(".base_layer.", ".") for n, _ in jina_model.named_parameters()}
    expected = {n for n in names if ".lora_" not in n and not n.startswith("multi_vector")}
    assert set(weights.names) == expected
    assert weights.names == sorted(weights.names)


def test_16_bit_weights_are_rounded_once_after_merging(source, weights):
    short = MergedWeights(source.checkpoint, "retrieval", torch.bfloat16)
    name = next(name for name in weights.names if "gate_proj.weight" in name)
    assert torch.equal(short[name], weights[name].bfloat16())
    rounded_before = weights[name] - weights[name].bfloat16().float()
    assert rounded_before.abs().max() > 0
    assert short.projector()["weight"].dtype == torch.float32


def test_shapes_foretell_the_tensors(weights):
    shapes = weights.shapes()
    assert list(shapes) and set(shapes) == set(weights.names)
    assert all(shapes[name].shape == weights[name].shape for name in weights.names)
    assert all(tensor.is_meta for tensor in shapes.values())
