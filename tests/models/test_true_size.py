"""The real model's size and names, built without memory on the meta device."""

import json
import re
from collections import Counter

import pytest
import torch

from jina.models import tiny_checkpoint
from jina.models.adapters import AdapterSettings, adapter_parameters, add_adapter, lora_layers
from jina.models.checkpoint import current_name, official_name
from jina.models.configuration_jina_embeddings_v4 import TASK_NAMES, config_from_dict
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model

ROPE = {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"}
TEXT = {
    "hidden_size": 2048,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "intermediate_size": 11008,
    "vocab_size": 151936,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": ROPE,
    "attention_dropout": 0.0,
    "max_position_embeddings": 128000,
    "max_window_layers": 70,
    "use_sliding_window": False,
    "tie_word_embeddings": True,
}
CONFIG = {
    "architectures": ["JinaEmbeddingsV4Model"],
    "auto_map": {"AutoModel": "modeling_jina_embeddings_v4.JinaEmbeddingsV4Model"},
    "_attn_implementation": "flash_attention_2",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.52.0",
    **TEXT,
    "sliding_window": 32768,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "vision_token_id": 151654,
    "task_names": ["retrieval", "text-matching", "code"],
    "matryoshka_dims": [128, 256, 512, 1024, 2048],
    "truncate_dim": None,
    "single_vector_pool_strategy": "mean",
    "multi_vector_projector_dim": 128,
    "text_config": {"model_type": "qwen2_5_vl_text", **TEXT, "sliding_window": None},
    "vision_config": {
        "model_type": "qwen2_5_vl",
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "out_hidden_size": 2048,
        "in_channels": 3,
        "in_chans": 3,
        "tokens_per_second": 2,
    },
}
PROJECTIONS = [
    *(f"self_attn.{p}_proj" for p in "qkvo"),
    *(f"mlp.{p}_proj" for p in ("gate", "up", "down")),
]


@pytest.fixture(scope="module")
def bare_names():
    """Names and shapes of the base parameters before any adapter is injected."""
    with torch.device("meta"):
        model = JinaEmbeddingsV4Model(config_from_dict(CONFIG))
    return {name: parameter.shape for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module")
def true_model():
    """The model with its three adapters."""
    with torch.device("meta"):
        model = JinaEmbeddingsV4Model(config_from_dict(CONFIG))
    for task in TASK_NAMES:
        add_adapter(model, task, AdapterSettings(32, 32, 0.1), empty=True)
    return model


def official_base_names():
    """The names in the header of the official base files, written out by rule."""
    layer = [
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
        *(f"self_attn.{p}_proj.{kind}" for p in "qkv" for kind in ("weight", "bias")),
        "self_attn.o_proj.weight",
        *(f"mlp.{p}_proj.weight" for p in ("gate", "up", "down")),
    ]
    block = [
        "norm1.weight",
        "norm2.weight",
        *(f"attn.{p}.{kind}" for p in ("qkv", "proj") for kind in ("weight", "bias")),
        *(f"mlp.{p}_proj.{k}" for p in ("gate", "up", "down") for k in ("weight", "bias")),
    ]
    return {
        "model.embed_tokens.weight",
        "model.norm.weight",
        *(f"model.layers.{i}.{name}" for i in range(36) for name in layer),
        "visual.patch_embed.proj.weight",
        *(f"visual.blocks.{i}.{name}" for i in range(32) for name in block),
        "visual.merger.ln_q.weight",
        *(f"visual.merger.mlp.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")),
        "multi_vector_projector.weight",
        "multi_vector_projector.bias",
    }


def official_adapter_names(task):
    """The names of one task in the header of the official adapter file."""
    layers = [f"model.language_model.layers.{i}.{name}" for i in range(36) for name in PROJECTIONS]
    return {
        f"base_model.model.{layer}.lora_{factor}.{task}.weight"
        for layer in [*layers, "multi_vector_projector"]
        for factor in "AB"
    }


def test_the_base_has_the_published_number_of_parameters(true_model):
    base = [p.numel() for name, p in true_model.named_parameters() if ".lora_" not in name]
    assert sum(base) == 3_754_885_248


def test_each_adapter_has_the_published_number_of_parameters(true_model):
    for task in TASK_NAMES:
        parameters = adapter_parameters(true_model, task).values()
        assert sum(p.numel() for p in parameters) == 59_936_768
    everything = sum(p.numel() for p in true_model.parameters())
    assert everything == 3_754_885_248 + 3 * 59_936_768 == 3_934_695_552


def test_the_base_names_are_the_official_826(true_model):
    names = true_model.base_tensor_names()
    assert len(names) == len(set(names)) == 826
    assert set(names) == official_base_names()
    assert sum(n.startswith("visual.") and n.endswith(".bias") for n in names) == 162


def test_the_adapter_names_are_the_official_1518(true_model):
    found = {task: set(adapter_parameters(true_model, task)) for task in TASK_NAMES}
    assert found == {task: official_adapter_names(task) for task in TASK_NAMES}
    assert sum(map(len, found.values())) == 1518


def test_tensors_have_the_official_shapes(true_model, bare_names):
    assert bare_names["model.language_model.embed_tokens.weight"] == (151936, 2048)
    assert bare_names["model.visual.patch_embed.proj.weight"] == (1280, 3, 2, 14, 14)
    assert bare_names["multi_vector_projector.weight"] == (128, 2048)
    assert bare_names["multi_vector_projector.bias"] == (128,)
    shapes = {name: p.shape for name, p in adapter_parameters(true_model, "code").items()}
    down = "base_model.model.model.language_model.layers.35.mlp.down_proj"
    assert shapes[f"{down}.lora_A.code.weight"] == (32, 11008)
    assert shapes[f"{down}.lora_B.code.weight"] == (2048, 32)


def test_no_layer_of_the_vision_tower_has_an_adapter(true_model):
    layers = lora_layers(true_model)
    kinds = Counter(re.sub(r"\d+", "N", layer) for layer in layers)
    projections = {f"model.language_model.layers.N.{name}": 36 for name in PROJECTIONS}
    assert kinds == {**projections, "multi_vector_projector": 1}


def test_names_survive_the_way_to_the_file_and_back(bare_names, true_model):
    injected = {n for n, _ in true_model.named_parameters() if ".lora_" not in n}
    assert injected != set(bare_names)  # PEFT puts `.base_layer` in
    assert {current_name(official_name(name)) for name in injected} == set(bare_names)
    for name in bare_names:
        assert current_name(official_name(name)) == name
        assert current_name(name) == name  # a file with new names
        assert official_name(current_name(official_name(name))) == official_name(name)


def test_the_true_size_of_tiny_checkpoint_is_this_one(tmp_path, bare_names, monkeypatch):
    monkeypatch.setattr(tiny_checkpoint, "write_random_weights", lambda *_, **__: None)
    shape = tiny_checkpoint.TRUE_SIZE
    tiny_checkpoint.build_tiny_checkpoint(tmp_path / "true", ["a cat"], seed=0, shape=shape)
    config = json.loads((tmp_path / "true/config.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = JinaEmbeddingsV4Model(config_from_dict(config))
    assert {name: parameter.shape for name, parameter in model.named_parameters()} == bare_names
    for section in ("text_config", "vision_config"):
        own = {name: config[section][name] for name in CONFIG[section]}
        assert own == CONFIG[section]
        assert config[section]["torch_dtype"] == "bfloat16"
    for name in ("matryoshka_dims", "multi_vector_projector_dim", "torch_dtype"):
        assert config[name] == CONFIG[name]
    assert shape.dtype == torch.bfloat16
    assert (tiny_checkpoint.ADAPTER.rank, shape.max_pixels) == (32, 602112)
