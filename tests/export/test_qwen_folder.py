"""A plain Qwen2.5-VL folder: stock transformers loads it, its template gives the raw prompts."""

import json

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch.nn.functional import cosine_similarity, normalize
from transformers import AutoModel, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from jina.export import qwen_folder
from jina.export.merging import MergedWeights
from jina.export.qwen_folder import write_qwen_folder
from jina.models.packing import pack

TEXTS = [
    "hello world",
    "  leading, trailing and\n\nblank lines \t",
    "{{ braces }} {% if %} {# comments #}",
    "Straße ガチョウ 🙂 é",
    "Query: Query: 123",
    "'quotes' \"and\" \\n backslashes",
    "",
]


@pytest.fixture(scope="module")
def folder(source, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen") / "model"
    write_qwen_folder(source, weights, folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Qwen2Tokenizer.from_pretrained(folder)


def load(cls, folder, **options):
    model, report = cls.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(report.values()), report
    return model.eval()


def rendered(tokenizer, prompt, content):
    turns = [{"role": "system", "content": prompt}, {"role": "user", "content": content}]
    return tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"]


@torch.no_grad()
def stock_vector(model, sequence, processor):
    """Embed one token sequence with nothing but transformers' own forward pass."""
    ids = sequence.input_ids[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if sequence.patches is not None:
        inputs["pixel_values"] = processor.image_settings.pixel_values(sequence.patches)
        inputs["image_grid_thw"] = torch.tensor([sequence.grid_thw])
        inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    start, end = sequence.pooled
    states = model.model(**inputs, use_cache=False).last_hidden_state[0].float()
    return normalize(states[start:end].mean(dim=0), dim=0)


def sequences(processor):
    image = Image.linear_gradient("L").convert("RGB").resize((140, 84))
    return [
        *(processor.text_sequence(text, prompt="Query") for text in TEXTS[:5]),
        processor.image_sequence(image),
        processor.image_sequence(image, text="a gradient"),
    ]


def ours(jina_model, sequence, task):
    with jina_model.inference():
        batch = pack([sequence])
        return jina_model.single_vectors(jina_model.hidden_states(batch, task), batch)[0]


@pytest.mark.parametrize("new_names", [False, True])
def test_stock_transformers_embeds_as_we_do(source, weights, tmp_path, jina_model, new_names):
    write_qwen_folder(source, weights, tmp_path / "model", new_names=new_names)
    model = load(Qwen2_5_VLForConditionalGeneration, tmp_path / "model")
    for sequence in sequences(jina_model.processor):
        expected = ours(jina_model, sequence, "retrieval")
        got = stock_vector(model, sequence, jina_model.processor)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
        other = ours(jina_model, sequence, "code")
        assert (got - other).abs().max() > 1e-3


def test_16_bit_weights_stay_close(source, tmp_path, jina_model):
    weights = MergedWeights(source.checkpoint, "retrieval", torch.bfloat16)
    write_qwen_folder(source, weights, tmp_path / "model")
    model = load(Qwen2_5_VLForConditionalGeneration, tmp_path / "model")
    assert model.dtype == torch.bfloat16
    for sequence in sequences(jina_model.processor):
        expected = ours(jina_model, sequence, "retrieval")
        assert (
            cosine_similarity(stock_vector(model, sequence, jina_model.processor), expected, dim=0)
            >= 0.999
        )


def test_the_base_model_class_loads_old_names(folder, weights):
    model = load(AutoModel, folder)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[f"model.{name}"])


def test_tensors_are_named_as_in_qwens_own_files(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert "model.layers.0.self_attn.q_proj.weight" in names
    assert "visual.patch_embed.proj.weight" in names
    assert not [name for name in names if "multi_vector" in name or "lora" in name]


def test_large_models_are_sharded(source, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(qwen_folder, "SHARD_SIZE", "300KB")
    write_qwen_folder(source, weights, tmp_path / "model")
    index = json.loads((tmp_path / "model/model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    model = load(Qwen2_5_VLForConditionalGeneration, tmp_path / "model")
    state = model.state_dict()
    assert all(torch.equal(state[name], weights[name]) for name in weights.names)


@pytest.mark.parametrize("prompt", ["Query", "Passage"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_chat_with_a_text_has_the_raw_prompts_ids(tokenizer, source, prompt, text):
    expected = source.processor.text_sequence(text, prompt=prompt).input_ids.tolist()
    assert rendered(tokenizer, f"{prompt}: ", text) == expected
    structured = [{"type": "text", "text": text}]
    assert rendered(tokenizer, f"{prompt}: ", structured) == expected


@pytest.mark.parametrize("text", [None, "a title", "two\nlines"])
@pytest.mark.parametrize("prompt", ["Query: ", "Passage: "])
def test_a_chat_with_an_image_has_the_fixed_prompts_ids(tokenizer, source, prompt, text):
    sequence = source.processor.image_sequence(Image.new("RGB", (28, 28)), text=text)
    pad = source.processor.image_token_id
    expected = sequence.input_ids.tolist()
    one_pad = [t for i, t in enumerate(expected) if t != pad or expected[i - 1] != pad]
    content = [{"type": "image"}] + ([{"type": "text", "text": text}] if text else [])
    assert rendered(tokenizer, prompt, content) == one_pad
    assert rendered(tokenizer, prompt, content[::-1]) == one_pad


def test_a_chat_with_anything_else_is_refused(tokenizer):
    with pytest.raises(Exception, match="only texts and images can be embedded; got video"):
        rendered(tokenizer, "Query: ", [{"type": "video"}])


def test_no_remote_code_is_named_anywhere(folder):
    for file in folder.glob("*.json"):
        assert "auto_map" not in file.read_text(encoding="utf-8")
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "qwen2_5_vl"
    assert "_attn_implementation" not in config


def test_the_tokenizer_cuts_where_we_do(tokenizer):
    assert tokenizer.model_max_length == 32768
