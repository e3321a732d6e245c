"""The tiny checkpoint: the same bytes from the same seed, the official layout and its quirks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jina.__main__ import main
from jina.commands import tiny_checkpoint as command
from jina.models.checkpoint import INDEX, CheckpointError
from jina.models.tiny_checkpoint import SPECIAL_TOKENS, Shape, build_tiny_checkpoint

ROOT = Path(__file__).parents[2]
WEIGHTS = {"model.safetensors", "adapters/adapter_model.safetensors"}
CORPUS = [
    "A dog runs across the green field.",
    "Two children don't play in the snow, 3 do!",
    "Eine Überraschung: 図\n\n  und Leerzeichen",
] * 3


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Return a function that builds a folder from a seed."""

    def build_folder(seed, corpus=CORPUS):
        folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
        build_tiny_checkpoint(folder, corpus, seed=seed)
        return folder

    return build_folder


@pytest.fixture(scope="module")
def tiny(build):
    """A folder built with seed 0; not to be written to."""
    return build(0)


@pytest.fixture(scope="module")
def tiny_config(tiny):
    """Its config.json."""
    return json.loads((tiny / "config.json").read_text(encoding="utf-8"))


def bytes_of(folder):
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_one_seed_gives_the_same_bytes(tiny, build):
    assert bytes_of(build(0)) == bytes_of(tiny)


def test_another_seed_gives_other_weights_and_nothing_else(tiny, build):
    first, second = bytes_of(tiny), bytes_of(build(1))
    assert {name for name in first if first[name] != second[name]} == WEIGHTS
    assert len(first) == 9


@pytest.mark.slow
def test_another_process_gives_the_same_bytes(tiny, tmp_path):
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, '.');"
        "from jina.models.tiny_checkpoint import build_tiny_checkpoint as build;"
        "build(Path(sys.argv[1]), sys.argv[2:], seed=0)"
    )
    subprocess.run(
        [sys.executable, "-c", script, tmp_path / "there", *CORPUS],
        cwd=ROOT, check=True, env={**os.environ, "PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "3"},
    )  # fmt: skip
    assert bytes_of(tmp_path / "there") == bytes_of(tiny)


def test_it_loads_and_embeds(tiny, fresh_model, golden):
    model = fresh_model(tiny)
    texts = model.encode_text(golden.texts, "retrieval")
    images = model.encode_image(golden.images, "code")
    vectors = torch.stack([*texts, *images])
    assert vectors.shape == (13, 128)
    assert torch.pdist(vectors).min() > 1e-3
    tokens = model.encode_image(golden.images, "text-matching", return_multivector=True)
    assert all(vectors.isfinite().all() and vectors.shape[1] == 32 for vectors in tokens)
    other_task = torch.stack(model.encode_text(golden.texts, "code"))
    assert (other_task - torch.stack(texts)).abs().amax(1).min() > 1e-3  # adapters are not empty
    text = "Überraschung: 図 \n  don't 123"
    ids = model.processor.text_sequence(text).input_ids.tolist()
    assert model.processor.tokenizer.decode(ids) == text


def test_it_can_be_trained_and_saved(tiny, fresh_model, tmp_path):
    model = fresh_model(tiny)
    model.train_adapters("retrieval")
    model.save_pretrained(tmp_path / "saved")
    assert bytes_of(tmp_path / "saved").keys() == bytes_of(tiny).keys()


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("work of years")
    with pytest.raises(CheckpointError, match="not empty"):
        build_tiny_checkpoint(tmp_path, CORPUS, seed=0)
    assert set(bytes_of(tmp_path)) == {"thesis.txt"}
    (tmp_path / "empty").mkdir()
    build_tiny_checkpoint(tmp_path / "empty", CORPUS, seed=0)


def test_the_config_has_the_official_quirks(tiny_config):
    assert "model_type" not in tiny_config
    assert tiny_config["_attn_implementation"] == "flash_attention_2"
    assert set(tiny_config["auto_map"]) == {"AutoConfig", "AutoModel"}
    assert tiny_config["task_names"] == ["retrieval", "text-matching", "code"]
    assert tiny_config["text_config"]["model_type"] == "qwen2_5_vl_text"
    assert tiny_config["vision_config"]["model_type"] == "qwen2_5_vl"
    for section in (tiny_config, tiny_config["text_config"]):  # a flat copy for old loaders
        assert section["hidden_size"] == 128
        assert section["rope_scaling"]["type"] == section["rope_scaling"]["rope_type"] == "default"
        assert "rope_parameters" not in section


def test_the_token_ids_are_the_tokenizer_s(tiny_config, tiny, fresh_model):
    tokenizer = fresh_model(tiny).processor.tokenizer
    expected = {
        "image_token_id": "<|image_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
        "bos_token_id": "<|endoftext|>",
        "eos_token_id": "<|im_end|>",
    }
    for field, token in expected.items():
        assert tiny_config[field] == tokenizer.token_to_id(token), field
    ids = [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS]
    assert len(set(ids)) == len(SPECIAL_TOKENS)
    assert max(ids) < tiny_config["text_config"]["vocab_size"]


def test_the_weights_have_the_official_names(tiny):
    base = load_file(tiny / "model.safetensors")
    adapters = load_file(tiny / "adapters/adapter_model.safetensors")
    assert {name.split(".")[0] for name in base} == {"model", "visual", "multi_vector_projector"}
    assert "model.layers.0.self_attn.q_proj.bias" in base
    assert "lm_head.weight" not in base
    assert len(adapters) == 3 * 2 * (3 * 7 + 1)
    layer = "base_model.model.model.language_model.layers.2.mlp.down_proj"
    assert f"{layer}.lora_A.text-matching.weight" in adapters
    assert all(tensor.any() for tensor in adapters.values())


# ---- large ones ----------------------------------------------------------------------------

IN_FILES = Shape(dtype=torch.bfloat16, file_bytes=60_000)


def test_a_large_one_is_written_in_several_files(tiny, fresh_model, tmp_path):
    build_tiny_checkpoint(tmp_path / "large", CORPUS, seed=0, shape=IN_FILES)
    index = json.loads((tmp_path / "large" / INDEX).read_text(encoding="utf-8"))
    stored = {f.name: load_file(f) for f in (tmp_path / "large").glob("*.safetensors")}
    assert len(stored) > 5
    assert index["weight_map"] == {n: f for f, tensors in stored.items() for n in tensors}
    sizes = [[t.nbytes for t in tensors.values()] for tensors in stored.values()]
    assert index["metadata"]["total_size"] == sum(map(sum, sizes))
    assert all(sum(own) <= IN_FILES.file_bytes or len(own) == 1 for own in sizes)
    assert any(sum(own) > IN_FILES.file_bytes for own in sizes)  # the token embeddings

    found = {name: t for tensors in stored.values() for name, t in tensors.items()}
    one_file = load_file(tiny / "model.safetensors")
    assert found.keys() == one_file.keys()
    assert all(torch.equal(found[name], one_file[name].bfloat16()) for name in found)
    assert fresh_model(tmp_path / "large", dtype="auto").dtype == torch.bfloat16


def test_the_command_writes_the_true_size_when_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "TRUE_SIZE", IN_FILES)
    assert main(["tiny-checkpoint", "--output", str(tmp_path / "true"), "--true-size"]) == 0
    assert main(["tiny-checkpoint", "--output", str(tmp_path / "tiny")]) == 0
    dtypes = [
        json.loads((tmp_path / name / "config.json").read_text())["torch_dtype"]
        for name in ("true", "tiny")
    ]
    assert dtypes == ["bfloat16", "float32"]
