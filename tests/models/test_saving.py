"""Writing the official folder: whole, with only the trained task's tensors changed."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from jina.models.checkpoint import CheckpointError

ROOT = Path(__file__).parents[2]
BASE = "model.safetensors"
ADAPTERS = "adapters/adapter_model.safetensors"
ADAPTER_CONFIG = "adapters/adapter_config.json"


def take_steps(model, sequences, embed, task="retrieval", *, count=1):
    """Optimizer steps on the trained adapter."""
    model.train()
    optimizer = torch.optim.AdamW(model.trained_parameters().values(), lr=1e-2)
    for _ in range(count):
        single, multi = embed(model, sequences.mixed, task)
        (single[:, 0].sum() + multi[:, 0].sum()).backward()
        optimizer.step()
    model.eval()


def files_of(folder):
    """The files of a folder by their paths in it."""
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def trained(fresh_model, sequences, embed, tmp_path_factory):
    """A model after one step, and the folder it was saved to."""
    model = fresh_model()
    model.train_adapters("retrieval", dropout=0.0)
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


@pytest.mark.slow
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
    model.train_adapters("code", dropout=0.0)
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


def test_shards_and_their_index_are_carried_over(
    folder_copy, edit, tmp_path, fresh_model, is_equal
):
    edit.to_shards(folder_copy)
    model = fresh_model(folder_copy)
    model.save_pretrained(tmp_path / "saved")
    assert files_of(tmp_path / "saved") == files_of(folder_copy)
    assert is_equal(fresh_model(tmp_path / "saved").state_dict(), model.state_dict())


def test_pickles_and_hidden_files_are_left_behind(booby_trapped, fresh_model, tmp_path):
    clean = files_of(booby_trapped.folder) - booby_trapped.pickles
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


def test_weights_that_differ_at_their_end_only_are_not_taken_for_the_base(
    fixture_folder, fresh_model, tmp_path
):
    """Two models of one family share sizes, headers and the first layers."""
    base = (fixture_folder / BASE).read_bytes()
    other = base[:-4] + bytes(4)
    assert other != base
    (tmp_path / BASE).write_bytes(other)
    with contextlib.suppress(CheckpointError):  # refusing is right, replacing too
        fresh_model().save_pretrained(tmp_path)
        assert (tmp_path / BASE).read_bytes() == base


def test_saving_twice_leaves_what_saving_once_leaves(
    trained, fresh_model, sequences, embed, tmp_path, is_equal
):
    model = fresh_model()
    model.train_adapters("retrieval", dropout=0.0)
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
    model.train_adapters("retrieval", fresh=True, rank=rank, alpha=alpha, dropout=0.0)
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
    model.train_adapters("retrieval", fresh=True, rank=8)
    model.save_pretrained(tmp_path / "first")
    second = fresh_model(tmp_path / "first")
    second.train_adapters("code", dropout=0.0)
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
