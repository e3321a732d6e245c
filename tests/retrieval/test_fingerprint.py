"""Any changed weight or setting is another model; a copy under another name is the same."""

import os
import shutil

import pytest
from safetensors.torch import load_file, save_file

from jina.models.checkpoint import CheckpointError
from jina.retrieval import fingerprint
from jina.retrieval.fingerprint import DIGESTS, model_fingerprint


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def change_one_number(file, name=None):
    tensors = load_file(file)
    tensor = tensors[name or sorted(tensors)[-1]].view(-1)
    tensor[0] += 1
    save_file(tensors, file, {"format": "pt"})


def test_a_copy_under_another_name_has_the_same_fingerprint(tiny_folder, folder):
    assert model_fingerprint(folder) == model_fingerprint(tiny_folder)
    assert len(model_fingerprint(folder)) == 64


@pytest.mark.parametrize("part", ["model.safetensors", "adapters/adapter_model.safetensors"])
def test_one_changed_weight_changes_the_fingerprint(folder, tmp_path, part):
    before = model_fingerprint(folder, tmp_path / "cache")
    files = [folder / part] if (folder / part).exists() else sorted(folder.glob("*.safetensors"))
    change_one_number(files[0])
    assert model_fingerprint(folder, tmp_path / "cache") != before


@pytest.mark.parametrize("name", ["preprocessor_config.json", "config.json", "tokenizer.json"])
def test_a_changed_setting_changes_the_fingerprint(folder, name):
    before = model_fingerprint(folder)
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    assert model_fingerprint(folder) != before


def test_base_weights_are_read_once_and_adapters_each_time(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "SETTLED_NS", 0)
    before = model_fingerprint(folder, tmp_path / "cache")
    read = []
    original = fingerprint.sha256_of
    monkeypatch.setattr(fingerprint, "sha256_of", lambda f: read.append(f.name) or original(f))
    assert model_fingerprint(folder, tmp_path / "cache") == before
    assert "adapter_model.safetensors" in read
    assert not [name for name in read if name.startswith("model")]
    assert model_fingerprint(folder) == before  # without a cache everything is read


def test_weights_changed_under_the_old_size_and_time_are_noticed(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "SETTLED_NS", 0)
    before = model_fingerprint(folder, tmp_path / "cache")
    file = sorted(folder.glob("*.safetensors"))[0]
    status = file.stat()
    change_one_number(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert model_fingerprint(folder, tmp_path / "cache") != before


def test_weights_written_just_now_are_not_remembered(folder, tmp_path):
    model_fingerprint(folder, tmp_path / "cache")
    assert not (tmp_path / "cache" / DIGESTS).exists()


def test_a_damaged_memory_is_no_obstacle(folder, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / DIGESTS).write_text("{")
    assert model_fingerprint(folder, tmp_path / "cache") == model_fingerprint(folder)


def test_what_is_no_checkpoint_has_no_fingerprint(tmp_path):
    with pytest.raises(CheckpointError):
        model_fingerprint(tmp_path)
