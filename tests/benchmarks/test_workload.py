"""The benchmarks' workload: chosen lengths, stock weights that are ours, the order of train.py."""

import json

import pytest
import torch
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from benchmarks.workload import build_workload
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model


@pytest.fixture(scope="module")
def uniform(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "uniform"
    build_workload(folder, "uniform", rows=8, batch_size=4, seed=0)
    return folder


def test_uniform_rows_need_no_padding(uniform):
    batches = json.loads((uniform / "batches.json").read_text())
    assert batches["padding_factor"] == 1
    assert len({pair["text"] for pair in batches["pairs"]}) == 8


def test_the_stock_tokenizer_gives_the_same_ids(uniform):
    model = JinaEmbeddingsV4Model.from_pretrained(uniform / "model", device="cpu")
    stock = AutoTokenizer.from_pretrained(uniform / "stock")
    text = json.loads((uniform / "batches.json").read_text())["pairs"][0]["text"]
    ours = model.processor.text_sequence(text).input_ids.tolist()
    assert len(ours) == 64
    assert stock(text)["input_ids"] == ours


def test_the_stock_folder_holds_the_same_weights(uniform):
    ours = JinaEmbeddingsV4Model.from_pretrained(uniform / "model", device="cpu").model
    stock = Qwen2_5_VLForConditionalGeneration.from_pretrained(uniform / "stock").model
    for name, tensor in stock.state_dict().items():
        module, _, leaf = name.rpartition(".")
        own = ours.get_submodule(module)
        own = getattr(own, "base_layer", own)
        assert torch.equal(getattr(own, leaf), tensor), name
