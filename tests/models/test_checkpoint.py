"""The official folder: read in every form it comes in, refused when damaged, written back whole."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from jina.models.checkpoint import CheckpointError, current_name

ROOT = Path(__file__).parents[2]
BASE = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
ADAPTERS = "adapters/adapter_model.safetensors"
ADAPTER_CONFIG = "adapters/adapter_config.json"
NORM = "model.norm.weight"
LORA = "base_model.model.multi_vector_projector.lora_A.code.weight"


# ---- reading -------------------------------------------------------------------------------


def to_new_names(folder, edit_tensors):
    edit_tensors(folder / BASE, lambda tensors: {current_name(k): v for k, v in tensors.items()})


def to_shards(folder, *_):
    tensors = load_file(folder / BASE)
    (folder / BASE).unlink()
    weight_map = {}
    for part in (0, 1):
        name = f"model-{part + 1:05}-of-00002.safetensors"
        weight_map |= dict.fromkeys(sorted(tensors)[part::2], name)
        save_file({k: tensors[k] for k in sorted(tensors)[part::2]}, folder / name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def to_new_names_in_shards(folder, edit_tensors):
    to_new_names(folder, edit_tensors)
    to_shards(folder)


def to_one_file_with_index(folder, _):
    (folder / INDEX).write_text(
        json.dumps({"weight_map": dict.fromkeys(load_file(folder / BASE), BASE)})
    )


@pytest.mark.parametrize(
    "change", [to_new_names, to_shards, to_new_names_in_shards, to_one_file_with_index]
)
def test_every_form_of_the_folder_is_the_same_model(
    folder_copy, edit_tensors, fresh_model, jina_model, is_equal, change
):
    change(folder_copy, edit_tensors)
    model = fresh_model(folder_copy)
    assert is_equal(model.state_dict(), jina_model.state_dict())
    assert not any(p.is_meta for p in [*model.parameters(), *model.buffers()])


def test_one_changed_number_is_another_model(
    folder_copy, edit_tensors, fresh_model, jina_model, is_equal
):
    edit_tensors(folder_copy / BASE, lambda tensors: tensors | {NORM: tensors[NORM] * 1.5})
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

    def damage(folder, edit_tensors, _):
        def change(stored):
            changed = {
                name: make(stored.get(name)) for name, make in changes.items() if make is not None
            }
            return {k: v for k, v in (stored | changed).items() if k not in changes or k in changed}

        edit_tensors(folder / file, change)

    return damage


def fields(file, **changes):
    """Damage a JSON file: set fields, `None` taking one out."""
    return lambda folder, _, edit_json: edit_json(folder / file, **changes)


def contents(file, text):
    """Put other bytes in the place of a file; `None` deletes it."""

    def damage(folder, *_):
        path = folder / file
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)

    return damage


def cut_short(file):
    """Truncate a file in the middle."""
    return lambda folder, *_: os.truncate(folder / file, (folder / file).stat().st_size // 2)


def escaping_index(folder, *_):
    """Point the index at a sound weight file outside the folder."""
    (folder / BASE).rename(folder.parent / "outside.safetensors")
    contents(INDEX, json.dumps({"weight_map": {NORM: "../outside.safetensors"}}))(folder)


def second_shard_lost(folder, *_):
    to_shards(folder)
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
    "base: stray weights": (contents("other.safetensors", ""), "other.safetensors"),
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
    "adapter: rank in words": (fields(ADAPTER_CONFIG, r="four"), "adapter_config.json"),
    "adapter: no rank": (fields(ADAPTER_CONFIG, r=None), "adapter_config.json.*r"),
    "adapter: no alpha": (
        fields(ADAPTER_CONFIG, lora_alpha=None),
        "adapter_config.json.*lora_alpha",
    ),
    "adapter: alpha in words": (fields(ADAPTER_CONFIG, lora_alpha="4"), "adapter_config.json"),
    "adapter: dropout above 1": (fields(ADAPTER_CONFIG, lora_dropout=1.5), "adapter_config.json"),
    "adapter: DoRA": (fields(ADAPTER_CONFIG, use_dora=True), "adapter_config.json.*use_dora"),
    "adapter: config gone": (contents(ADAPTER_CONFIG, None), "adapter_config.json"),
    "adapter: config a list": (contents(ADAPTER_CONFIG, "[]"), "adapter_config.json.*object"),
    "index: leaves the folder": (escaping_index, r"\.\./outside.safetensors"),
    "index: names a lost shard": (second_shard_lost, "model-00002-of-00002.safetensors"),
    "index: broken": (contents(INDEX, '{"weight_map": '), "index.json.*JSON"),
    "index: a list for a map": (contents(INDEX, '{"weight_map": ["x"]}'), "index.json"),
    "index: a list for a name": (contents(INDEX, '{"weight_map": {"x": ["y"]}}'), "index.json"),
    "config: gone": (contents(CONFIG, None), "config.json"),
    "config: broken": (contents(CONFIG, "{"), "config.json.*JSON"),
    "config: nested too deep": (contents(CONFIG, "[" * 99999), "config.json.*JSON"),
    "config: another model": (fields(CONFIG, architectures=["BertModel"]), "not a Jina.*Bert"),
    "config: null architecture": (contents(CONFIG, '{"architectures": null}'), "not a Jina"),
    "config: other tasks": (fields(CONFIG, task_names=["retrieval", "sts"]), "task_names.*sts"),
    "config: wrong type": (fields(CONFIG, matryoshka_dims="all"), "config.json.*matryoshka_dims"),
    "config: no such dtype": (fields(CONFIG, torch_dtype="float31"), "config.json.*dtype"),
    "config: integer dtype": (fields(CONFIG, torch_dtype="int8"), "config.json.*dtype"),
    "config: no text model": (fields(CONFIG, text_config=7), "config.json"),
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
def test_a_damaged_folder_is_refused_by_name(
    folder_copy, edit_tensors, edit_json, fresh_model, kind
):
    damage, message = DAMAGE[kind]
    damage(folder_copy, edit_tensors, edit_json)
    with pytest.raises(CheckpointError, match=message):
        fresh_model(folder_copy)


def test_all_damaged_tensors_are_named_at_once(folder_copy, edit_tensors, fresh_model):
    spoil = tensors(BASE, **{NORM: NAN, "multi_vector_projector.bias": None, "more": extra})
    spoil(folder_copy, edit_tensors, None)
    with pytest.raises(CheckpointError) as error:
        fresh_model(folder_copy)
    for name in ("model.norm.weight", "multi_vector_projector.bias", "more"):
        assert name in str(error.value)


@pytest.mark.parametrize("name", ["nowhere", "empty", "jinaai/jina-embeddings-v4"])
def test_a_folder_that_is_no_checkpoint_points_at_the_demo(tmp_path, fresh_model, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=f"{name}: .*make demo"):
        fresh_model(tmp_path / name)


class Payload:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.fixture
def booby_trapped(folder_copy, tmp_path):
    """A sound folder with pickles and code in it that leave a file behind when they run."""
    trap, sprung = pickle.dumps(Payload(tmp_path / "sprung")), tmp_path / "sprung"
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "x.pkl", "y.pickle"):
        (folder_copy / name).write_bytes(trap)
    (folder_copy / "adapters/adapter_model.bin").write_bytes(trap)
    code = f"open({str(sprung)!r}, 'w')\n"
    for name in ("modeling_jina_embeddings_v4.py", "configuration_jina_embeddings_v4.py"):
        (folder_copy / name).write_text(code)
    return SimpleNamespace(folder=folder_copy, trap=trap, code=code, sprung=sprung)


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


# ---- writing -------------------------------------------------------------------------------


def take_steps(model, sequences, embed, task="retrieval", *, count=1):
    """Optimizer steps on the trained adapter."""
    model.train()
    optimizer = torch.optim.AdamW(model.trained_parameters().values(), lr=1e-2)
    for _ in range(count):
        single, multi = embed(model, sequences.mixed, task)
        (single[:, 0].sum() + multi[:, 0].sum()).backward()
        optimizer.step()
    model.eval()


@pytest.fixture(scope="module")
def trained(fresh_model, sequences, embed, tmp_path_factory):
    """A model after one step, and the folder it was saved to."""
    model = fresh_model()
    model.train_adapter("retrieval", dropout=0.0)
    take_steps(model, sequences, embed)
    folder = tmp_path_factory.mktemp("trained") / "saved"
    model.save_pretrained(folder)
    return SimpleNamespace(model=model, folder=folder)


def embeddings_of(model, texts, images, task):
    """Every embedding of a model, single and multi, as one dictionary."""
    return {
        f"{method}.{multi}.{i}": vector
        for method, items in (("encode_text", texts), ("encode_image", images))
        for multi in (False, True)
        for i, vector in enumerate(getattr(model, method)(items, task, return_multivector=multi))
    }


def files_of(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_only_the_trained_tensors_differ_from_the_source(fixture_folder, trained):
    before, after = load_file(fixture_folder / ADAPTERS), load_file(trained.folder / ADAPTERS)
    assert list(before) == list(after)
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype == torch.bfloat16
        assert torch.equal(tensor, before[name]) == (".retrieval." not in name), name


def test_all_other_files_are_the_source_s_own(fixture_folder, trained):
    small = {f for f in files_of(fixture_folder) if not f.startswith("images/")} - {ADAPTERS}
    assert files_of(trained.folder) == small | {ADAPTERS}
    for name in small:
        assert (trained.folder / name).read_bytes() == (fixture_folder / name).read_bytes(), name
    assert (trained.folder / BASE).stat().st_ino == (fixture_folder / BASE).stat().st_ino


ENCODE_ELSEWHERE = """
import sys
import torch
from safetensors.torch import save_file
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model

torch.manual_seed(1234)
torch.set_num_threads(1)
folder, result, text, image = sys.argv[1:]
model = JinaEmbeddingsV4Model.from_pretrained(folder, device="cpu")
save_file({
    f"{multi}.{name}": encode(item, "retrieval", return_multivector=multi)
    for name, encode, item in (("t", model.encode_text, text), ("i", model.encode_image, image))
    for multi in (False, True)
}, result)
"""


def test_a_saved_model_embeds_alike_in_another_process(
    trained, golden, tmp_path, jina_model, is_equal
):
    text, image = golden.texts[1], golden.images[2]
    arguments = [trained.folder, tmp_path / "result", text, image]
    subprocess.run([sys.executable, "-c", ENCODE_ELSEWHERE, *arguments], cwd=ROOT, check=True)
    found = load_file(tmp_path / "result")

    def expected(model):
        return {
            f"{multi}.{name}": encode(item, "retrieval", return_multivector=multi)
            for name, encode, item in (
                ("t", model.encode_text, text), ("i", model.encode_image, image)
            )
            for multi in (False, True)
        }  # fmt: skip

    assert is_equal(found, expected(trained.model))
    for name, vector in expected(jina_model).items():
        assert (found[name] - vector).abs().max() > 1e-3, name


def test_the_model_at_hand_is_the_model_that_was_saved(trained, golden, fresh_model, is_equal):
    loaded = fresh_model(trained.folder)
    for task in ("retrieval", "code"):
        found, expected = (
            embeddings_of(m, golden.texts, golden.images, task) for m in (loaded, trained.model)
        )
        assert is_equal(found, expected)
    assert is_equal(loaded.state_dict(), trained.model.state_dict())


def test_saving_an_untrained_model_copies_it(folder_copy, tmp_path, fresh_model, is_equal):
    fresh_model(folder_copy).save_pretrained(tmp_path / "saved")
    assert files_of(tmp_path / "saved") == files_of(folder_copy)
    assert is_equal(load_file(tmp_path / "saved" / ADAPTERS), load_file(folder_copy / ADAPTERS))


def test_the_trained_adapter_can_be_written_in_another_type(
    fixture_folder, fresh_model, sequences, embed, tmp_path, is_equal
):
    model = fresh_model()
    model.train_adapter("code", dropout=0.0)
    take_steps(model, sequences, embed, "code")
    exact = {name: p.detach().clone() for name, p in model.trained_parameters().items()}
    model.save_pretrained(tmp_path, adapter_dtype=torch.float32)
    stored = load_file(tmp_path / ADAPTERS)
    before = load_file(fixture_folder / ADAPTERS)
    assert is_equal({name: stored.pop(name) for name in exact}, exact)
    assert is_equal(stored, {name: before[name] for name in stored})
    assert is_equal(fresh_model(tmp_path).state_dict(), model.state_dict())


def test_weights_are_copied_where_links_are_impossible(
    fixture_folder, fresh_model, tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    fresh_model().save_pretrained(tmp_path)
    source, copy = fixture_folder / BASE, tmp_path / BASE
    assert source.read_bytes() == copy.read_bytes()
    assert source.stat().st_ino != copy.stat().st_ino


def test_shards_and_their_index_are_carried_over(folder_copy, tmp_path, fresh_model, is_equal):
    to_shards(folder_copy)
    model = fresh_model(folder_copy)
    model.save_pretrained(tmp_path / "saved")
    assert files_of(tmp_path / "saved") == files_of(folder_copy)
    assert is_equal(fresh_model(tmp_path / "saved").state_dict(), model.state_dict())


def test_pickles_and_hidden_files_are_left_behind(booby_trapped, fresh_model, tmp_path):
    clean = files_of(booby_trapped.folder) - {
        "pytorch_model.bin", "training_args.bin", "optimizer.pt", "x.pkl", "y.pickle",
        "adapters/adapter_model.bin",
    }  # fmt: skip
    for name in (".secret", "adapters/.secret", ".git/config"):
        (booby_trapped.folder / name).parent.mkdir(exist_ok=True)
        (booby_trapped.folder / name).write_text("token")
    fresh_model(booby_trapped.folder).save_pretrained(tmp_path / "saved")
    assert files_of(tmp_path / "saved") == clean


def test_a_linked_cache_folder_is_saved_as_real_files(folder_copy, tmp_path, fresh_model):
    """Hugging Face's cache holds links to blobs; a checkpoint must outlive it."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for i, name in enumerate(sorted(files_of(folder_copy))):
        (folder_copy / name).rename(blobs / str(i))
        (folder_copy / name).symlink_to(blobs / str(i))
    fresh_model(folder_copy).save_pretrained(tmp_path / "saved")
    assert files_of(tmp_path / "saved") == files_of(folder_copy)
    assert not any(file.is_symlink() for file in (tmp_path / "saved").rglob("*"))
    shutil.rmtree(blobs)
    fresh_model(tmp_path / "saved")


def test_saving_onto_the_base_is_refused(folder_copy, tmp_path, fresh_model):
    model = fresh_model(folder_copy)
    (tmp_path / "link").symlink_to(folder_copy)
    before = {name: (folder_copy / name).read_bytes() for name in files_of(folder_copy)}
    for target in (folder_copy, str(folder_copy) + "/adapters/..", tmp_path / "link"):
        with pytest.raises(CheckpointError, match="can't save here.*base model itself"):
            model.save_pretrained(target)
    assert {name: (folder_copy / name).read_bytes() for name in files_of(folder_copy)} == before


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", BASE])
def test_saving_over_other_weights_is_refused(fresh_model, tmp_path, name):
    (tmp_path / name).write_bytes(b"somebody's own work")
    with pytest.raises(CheckpointError, match=name):
        fresh_model().save_pretrained(tmp_path)
    assert files_of(tmp_path) == {name}
    assert (tmp_path / name).read_bytes() == b"somebody's own work"


def test_saving_twice_leaves_what_saving_once_leaves(
    trained, fresh_model, sequences, embed, tmp_path, is_equal
):
    model = fresh_model()
    model.train_adapter("retrieval", dropout=0.0)
    model.save_pretrained(tmp_path / "saved")
    untrained = load_file(tmp_path / "saved" / ADAPTERS)
    take_steps(model, sequences, embed)
    model.save_pretrained(tmp_path / "saved")
    assert files_of(tmp_path / "saved") == files_of(trained.folder)
    found = load_file(tmp_path / "saved" / ADAPTERS)
    assert is_equal(found, load_file(trained.folder / ADAPTERS))
    assert not is_equal(found, untrained)


def test_a_model_without_a_checkpoint_cannot_be_saved(jina_model, tmp_path):
    model = type(jina_model)(jina_model.config)
    with pytest.raises(CheckpointError, match="from_pretrained"):
        model.save_pretrained(tmp_path)


# ---- new adapters --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rank", "alpha", "dtype"),
    [
        (2, None, None),
        (1, 5.0, None),
        (2, 3.0, torch.float32),
        (4, 6.0, None),
        (7, None, None),
        (8, 12.0, None),
        (8, 12.0, torch.float32),
    ],
    ids=str,
)
def test_a_new_adapter_of_any_rank_comes_back_as_it_was(
    fixture_folder, fresh_model, jina_model, sequences, embed, golden, tmp_path, rank, alpha, dtype
):
    torch.manual_seed(0)
    model = fresh_model()
    model.train_adapter("retrieval", fresh=True, rank=rank, alpha=alpha, dropout=0.0)
    take_steps(model, sequences, embed, count=2)  # after one all of B has the same size
    model.save_pretrained(tmp_path, adapter_dtype=dtype)
    loaded = fresh_model(tmp_path)
    for task in ("retrieval", "text-matching", "code"):
        found, expected, official = (
            embeddings_of(m, golden.texts[:1], golden.images[:1], task)
            for m in (loaded, model, jina_model)
        )
        for name, vector in expected.items():
            assert_close(found[name], vector, rtol=0, atol=1e-6)
            assert ((vector - official[name]).abs().max() > 1e-3) == (task == "retrieval")
    stored = json.loads((tmp_path / ADAPTER_CONFIG).read_text())
    source = json.loads((fixture_folder / ADAPTER_CONFIG).read_text())
    widened = {"r": rank, "lora_alpha": rank} if rank > 4 else {}
    assert stored == source | widened


def test_a_saved_wide_adapter_can_be_trained_and_saved_again(
    fresh_model, sequences, embed, tmp_path, is_equal
):
    model = fresh_model()
    model.train_adapter("retrieval", fresh=True, rank=8)
    model.save_pretrained(tmp_path / "first")
    second = fresh_model(tmp_path / "first")
    second.train_adapter("code", dropout=0.0)
    take_steps(second, sequences, embed, "code")
    second.save_pretrained(tmp_path / "second")
    assert is_equal(fresh_model(tmp_path / "second").state_dict(), second.state_dict())


def test_adapters_can_be_filled_from_a_file_of_their_own(fresh_model, trained, tmp_path, is_equal):
    stored = load_file(trained.folder / ADAPTERS)
    own = {name: tensor for name, tensor in stored.items() if ".retrieval." in name}
    save_file(own, tmp_path / "own.safetensors")
    model = fresh_model()
    before = {n: p.detach().clone() for n, p in model.state_dict().items()}
    model.load_adapters(tmp_path / "own.safetensors", "retrieval")
    assert is_equal(model.state_dict(), trained.model.state_dict())
    assert not is_equal(model.state_dict(), before)
    with pytest.raises(CheckpointError, match=r"text-matching.weight: missing"):
        model.load_adapters(tmp_path / "own.safetensors")
