"""Reading the official folder: in every form it comes in, and refused by name when damaged."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file

from jina.models.checkpoint import CheckpointError, current_name

BASE = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
ADAPTERS = "adapters/adapter_model.safetensors"
ADAPTER_CONFIG = "adapters/adapter_config.json"
NORM = "model.norm.weight"
LORA = "base_model.model.multi_vector_projector.lora_A.code.weight"


# ---- reading -------------------------------------------------------------------------------


def to_new_names(folder, edit):
    edit.tensors(folder / BASE, lambda stored: {current_name(k): v for k, v in stored.items()})


def to_shards(folder, edit):
    edit.to_shards(folder)


def to_new_names_in_shards(folder, edit):
    to_new_names(folder, edit)
    to_shards(folder, edit)


def to_one_file_with_index(folder, _):
    weight_map = dict.fromkeys(load_file(folder / BASE), BASE)
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize(
    "change", [to_new_names, to_shards, to_new_names_in_shards, to_one_file_with_index]
)
def test_every_form_of_the_folder_is_the_same_model(
    folder_copy, edit, fresh_model, jina_model, is_equal, change
):
    change(folder_copy, edit)
    model = fresh_model(folder_copy)
    assert is_equal(model.state_dict(), jina_model.state_dict())
    assert not any(p.is_meta for p in [*model.parameters(), *model.buffers()])


def test_one_changed_number_is_another_model(folder_copy, edit, fresh_model, jina_model, is_equal):
    edit.tensors(folder_copy / BASE, lambda tensors: tensors | {NORM: tensors[NORM] * 1.5})
    assert not is_equal(fresh_model(folder_copy).state_dict(), jina_model.state_dict())


def test_weights_are_held_in_the_type_asked_for_and_adapters_in_float32(
    fixture_folder, fresh_model
):
    model = fresh_model(fixture_folder, dtype="bfloat16")
    types = {".lora_" in name: p.dtype for name, p in model.named_parameters()}
    assert types == {False: torch.bfloat16, True: torch.float32}
    assert {b.dtype for n, b in model.named_buffers() if "inv_freq" in n} == {torch.float32}
    assert fresh_model(dtype="auto").dtype == torch.float32  # as config.json says
    assert fresh_model(dtype=torch.float64).dtype == torch.float64


def test_a_bfloat16_model_comes_close_to_the_float32_one(golden, fresh_model, jina_model):
    model = fresh_model(dtype="bfloat16")
    for method, items in (("encode_text", golden.texts), ("encode_image", golden.images)):
        found = torch.stack(getattr(model, method)(items, "retrieval"))
        expected = torch.stack(getattr(jina_model, method)(items, "retrieval"))
        assert found.dtype == torch.float32
        assert (found * expected).sum(1).min() > 0.999
        assert (found - expected).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype: .*int8"),
        ({"dtype": "float31"}, "dtype: .*float31"),
        ({"dtype": torch.int64}, "dtype: .*int64"),
        ({"dtype": "load"}, "dtype: .*load"),
        ({"dtype": None}, "dtype: .*None"),
        ({"dtype": "float8_e4m3fn"}, "dtype: .*float8"),
        ({"attn_implementation": "eager"}, "attn_implementation: .*eager"),
        ({"attn_implementation": None}, "attn_implementation: .*None"),
        ({"attn_implementation": "flash_attention_2"}, "attn_implementation: .*flash"),
        ({"device": "warp"}, "device: .*warp"),
        ({"device": "cuda:99"}, "device: .*cuda:99"),
        ({"device": "meta"}, "device: .*meta"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_by_name(fresh_model, options, message):
    with pytest.raises(ValueError, match=message):
        fresh_model(**options)


# ---- damage --------------------------------------------------------------------------------


def tensors(file, **changes):
    """Damage tensors: `None` takes one out, a function changes it."""

    def change(stored):
        kept = {name: t for name, t in stored.items() if name not in changes}
        return kept | {name: make(stored.get(name)) for name, make in changes.items() if make}

    return lambda folder, edit: edit.tensors(folder / file, change)


def fields(file, **changes):
    """Damage a JSON file: set fields, `None` taking one out."""
    return lambda folder, edit: edit.fields(folder / file, **changes)


def contents(file, text):
    """Put other bytes in the place of a file; `None` deletes it."""

    def damage(folder, _):
        (folder / file).unlink(missing_ok=True)
        if text is not None:
            (folder / file).write_text(text)

    return damage


def cut_short(file):
    """Truncate a file in the middle."""
    return lambda folder, _: os.truncate(folder / file, (folder / file).stat().st_size // 2)


def escaping_index(folder, _):
    """Point the index at a sound weight file outside the folder."""
    (folder / BASE).rename(folder.parent / "outside.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": {NORM: "../outside.safetensors"}}))


def second_shard_lost(folder, edit):
    edit.to_shards(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def extra(_):
    return torch.ones(2)


def poisoned(value):
    def change(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[3] = value
        return tensor

    return change


NAN, INF = poisoned(torch.nan), poisoned(-torch.inf)
VISION_LORA = "base_model.model.model.visual.blocks.0.attn.qkv.lora_A.retrieval.weight"
DAMAGE = {
    "base: missing tensor": (tensors(BASE, **{NORM: None}), "language_model.norm.weight: missing"),
    "base: extra tensor": (tensors(BASE, **{"lm_head.weight": extra}), "lm_head.weight"),
    "base: misshapen": (tensors(BASE, **{NORM: extra}), r"model.norm.weight: wrong shape.*\(2,\)"),
    "base: NaN": (tensors(BASE, **{NORM: NAN}), "model.norm.weight.*finite"),
    "base: infinity": (tensors(BASE, **{NORM: INF}), "model.norm.weight.*finite"),
    "base: integers": (tensors(BASE, **{NORM: torch.Tensor.int}), "model.norm.weight.*int32"),
    "base: under both names": (
        tensors(BASE, **{"model.language_model.norm.weight": lambda _: torch.ones(64)}),
        "norm.weight: stored twice",
    ),
    "base: cut short": (cut_short(BASE), "model.safetensors: unreadable"),
    "base: gone": (contents(BASE, None), "weight files"),
    "base: text": (contents(BASE, "git-lfs pointer"), "model.safetensors: unreadable"),
    "base: stray weights": (contents("other.safetensors", ""), "match.*other.safetensors"),
    "adapter: missing tensor": (tensors(ADAPTERS, **{LORA: None}), f"{LORA}: missing"),
    "adapter: extra tensor": (tensors(ADAPTERS, **{VISION_LORA: extra}), VISION_LORA),
    "adapter: misshapen": (tensors(ADAPTERS, **{LORA: extra}), f"{LORA}: wrong shape"),
    "adapter: NaN": (tensors(ADAPTERS, **{LORA: NAN}), f"{LORA}.*finite"),
    "adapter: infinity": (tensors(ADAPTERS, **{LORA: INF}), f"{LORA}.*finite"),
    "adapter: integers": (tensors(ADAPTERS, **{LORA: torch.Tensor.int}), f"{LORA}.*int32"),
    "adapter: cut short": (cut_short(ADAPTERS), "adapter_model.safetensors: unreadable"),
    "adapter: gone": (contents(ADAPTERS, None), "adapter_model.safetensors"),
    "adapter: other rank": (fields(ADAPTER_CONFIG, r=5), "wrong shape.*4.*expected.*5"),
    "adapter: rank zero": (fields(ADAPTER_CONFIG, r=0), "adapter_config.json"),
    "adapter: no rank": (fields(ADAPTER_CONFIG, r=None), "adapter_config.json.*r"),
    "adapter: no alpha": (
        fields(ADAPTER_CONFIG, lora_alpha=None),
        "adapter_config.json.*lora_alpha",
    ),
    "adapter: DoRA": (fields(ADAPTER_CONFIG, use_dora=True), "adapter_config.json.*use_dora"),
    "adapter: config gone": (contents(ADAPTER_CONFIG, None), "adapter_config.json"),
    "adapter: config a list": (contents(ADAPTER_CONFIG, "[]"), "adapter_config.json.*object"),
    "index: leaves the folder": (escaping_index, r"\.\./outside.safetensors"),
    "index: names a lost shard": (second_shard_lost, "model-00002-of-00002.safetensors"),
    "index: broken": (contents(INDEX, '{"weight_map": '), "index.json.*JSON"),
    "index: a list for a map": (contents(INDEX, '{"weight_map": ["x"]}'), "index.json"),
    "index: a list for a name": (contents(INDEX, '{"weight_map": {"x": ["y"]}}'), "index|match"),
    "config: gone": (contents(CONFIG, None), "config.json"),
    "config: broken": (contents(CONFIG, "{"), "config.json.*JSON"),
    "config: nested too deep": (contents(CONFIG, "[" * 99999), "config.json.*JSON"),
    "config: another model": (fields(CONFIG, architectures=["BertModel"]), "not a Jina.*Bert"),
    "config: null architecture": (contents(CONFIG, '{"architectures": null}'), "not a Jina"),
    "config: other tasks": (fields(CONFIG, task_names=["retrieval", "sts"]), "task_names.*sts"),
    "config: wrong type": (fields(CONFIG, matryoshka_dims="all"), "config.json.*matryoshka_dims"),
    "config: no such dtype": (fields(CONFIG, torch_dtype="float31"), "config.json.*float31"),
    "config: integer dtype": (fields(CONFIG, torch_dtype="int8"), "config.json.*dtype"),
    "config: no text model": (fields(CONFIG, text_config=7), "config.json"),
    "config: no such layers": (
        fields(CONFIG, vision_config={"hidden_size": -80}),
        "config.json: describes no model",
    ),
    "tokenizer: gone": (contents("tokenizer.json", None), "tokenizer.json"),
    "tokenizer: broken": (contents("tokenizer.json", "{}"), "tokenizer.json"),
    "processor: gone": (contents("preprocessor_config.json", None), "preprocessor_config.json"),
    "processor: a list": (contents("preprocessor_config.json", "[]"), "preprocessor_config.json"),
    "processor: patch size": (
        fields("preprocessor_config.json", patch_size="14"),
        "preprocessor_config.json",
    ),
    "processor: mean of one": (
        fields("preprocessor_config.json", image_mean=[0.5]),
        "preprocessor_config.json",
    ),
    "processor: pixels below 0": (
        fields("preprocessor_config.json", max_pixels=-1),
        "preprocessor_config.json",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_folder_is_refused_by_name(folder_copy, edit, fresh_model, kind):
    damage, message = DAMAGE[kind]
    damage(folder_copy, edit)
    with pytest.raises(CheckpointError, match=message):
        fresh_model(folder_copy)


def test_all_damaged_tensors_are_named_at_once(folder_copy, edit, fresh_model):
    spoil = tensors(BASE, **{NORM: NAN, "multi_vector_projector.bias": None, "more": extra})
    spoil(folder_copy, edit)
    with pytest.raises(CheckpointError) as error:
        fresh_model(folder_copy)
    for name in ("model.norm.weight", "multi_vector_projector.bias", "more"):
        assert name in str(error.value)


@pytest.mark.parametrize("name", ["nowhere", "empty", "jinaai/jina-embeddings-v4"])
def test_a_folder_that_is_no_checkpoint_points_at_the_demo(tmp_path, fresh_model, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=f"{name}: .*make demo"):
        fresh_model(tmp_path / name)


def test_pickles_and_code_in_the_folder_are_never_run(booby_trapped, fresh_model, tmp_path):
    model = fresh_model(booby_trapped.folder)
    model.encode_text("a cat", "retrieval")
    model.save_pretrained(tmp_path / "saved")
    assert not booby_trapped.sprung.exists()
    for spring in (
        lambda: pickle.loads(booby_trapped.trap),  # noqa: S301 - shows that the trap works
        lambda: exec(booby_trapped.code),  # noqa: S102
    ):
        spring()
        assert booby_trapped.sprung.exists()
        booby_trapped.sprung.unlink()
