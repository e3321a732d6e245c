"""What an export writes, when it refuses, and that nothing half-done is left."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from jina.export import exporting
from jina.export.export_settings import ExportError
from jina.export.exporting import export
from jina.export.model_card import model_card
from jina.export.parity_items import Vectors
from jina.export.reload import ReloadError, check_libraries
from jina.models.checkpoint import CheckpointError
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model

FORMATS = ["sentence-transformers", "multi-vector", "merged", "official"]


@pytest.fixture
def reloaded(monkeypatch):
    """Stand in for the fresh process; `reloaded.vectors` turns the reference into its answer."""

    class Reloaded:
        def vectors(self, found):
            return found

        def check(self, format_):
            self.asked = format_

        def embed(self, items, folder, work, **request):
            self.folder, self.request = folder, request
            return [self.vectors(found) for found in self.reference]

    double = Reloaded()
    embed_items = exporting.embed_items

    def remembered(*arguments):
        double.reference = embed_items(*arguments)
        return double.reference

    monkeypatch.setattr(exporting, "embed_items", remembered)
    monkeypatch.setattr(exporting, "check_libraries", double.check)
    monkeypatch.setattr(exporting, "embed_in_fresh_process", double.embed)
    return double


def names(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def tensor_types(file):
    with safe_open(file, "pt") as reader:
        return {name: reader.get_tensor(name).dtype for name in reader.keys()}  # noqa: SIM118


@pytest.mark.parametrize("format_", FORMATS)
def test_a_sound_export_is_put_in_place_with_its_card(tmp_path, settings, reloaded, format_):
    output = tmp_path / "deep" / "model"
    report = export(settings(output, format_))
    card = (output / "README.md").read_text()
    assert all(line in card for line in report.lines())
    assert "${" not in card
    assert format_ in card
    assert str(tmp_path) not in card
    assert reloaded.asked == format_ == reloaded.request["format"]
    assert [file.name for file in output.parent.iterdir()] == ["model"]


def test_official_is_the_same_files_byte_for_byte_but_for_the_card(
    tmp_path, settings, reloaded, fixture_folder
):
    output = tmp_path / "model"
    export(settings(output, "official"))
    model_files = {name for name in names(fixture_folder) if not name.startswith("images/")}
    assert names(output) == model_files
    for name in model_files - {"README.md"}:
        copy, original = output / name, fixture_folder / name
        if name.endswith(".safetensors"):
            assert tensor_types(copy) == tensor_types(original)
        else:
            assert copy.read_bytes() == original.read_bytes()
    assert (output / "model.safetensors").read_bytes() == (
        fixture_folder / "model.safetensors"
    ).read_bytes()


def test_a_trained_adapter_is_what_official_holds(tmp_path, settings, reloaded, fresh_model):
    model = fresh_model()
    model.train_adapters("retrieval")
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter.add_(0.01)
    trained = tmp_path / "trained"
    model.save_pretrained(trained)
    export(settings(tmp_path / "model", "official", model=trained))
    name = "adapters/adapter_model.safetensors"
    with (
        safe_open(tmp_path / "model" / name, "pt") as copy,
        safe_open(trained / name, "pt") as original,
    ):
        assert all(
            torch.equal(copy.get_tensor(n), original.get_tensor(n))
            for n in original.keys()  # noqa: SIM118
        )
    loaded = JinaEmbeddingsV4Model.from_pretrained(tmp_path / "model", device="cpu")
    assert set(loaded.config.task_names) == {"retrieval", "text-matching", "code"}


def test_the_card_of_a_trained_folder_is_told_again(
    tmp_path, settings, reloaded, tiny_folder, fresh_model
):
    trained = tmp_path / "trained"
    fresh_model(tiny_folder).save_pretrained(trained)
    card = model_card({"lora": {"task": "retrieval"}}, {"rows to train on": 679})
    (trained / "README.md").write_text(card, encoding="utf-8")
    export(settings(tmp_path / "model", "merged", model=trained))
    exported = (tmp_path / "model/README.md").read_text()
    assert "fine-tuned" in exported
    assert "| rows to train on | 679 |" in exported


def test_another_embedding_is_refused_and_leaves_nothing(tmp_path, settings, reloaded):
    reloaded.vectors = lambda found: Vectors(-found.single, None)
    output = tmp_path / "model"
    with pytest.raises(ExportError, match=r"query, single vectors: cosine -1\.0"):
        export(settings(output, "sentence-transformers"))
    assert not list(tmp_path.iterdir())


def test_an_accepted_loss_is_told_in_the_card(tmp_path, settings, reloaded):
    reloaded.vectors = lambda found: Vectors(found.single.roll(1, 0), None)
    report = export(settings(tmp_path / "model", "sentence-transformers", allow_loss=True))
    assert report.losses()
    assert "Accepted loss: query, single vectors" in (tmp_path / "model/README.md").read_text()


def test_a_known_loss_of_stock_pooling_is_no_reason_to_refuse(tmp_path, settings, reloaded):
    turned = iter(range(10**6))

    def worse_at_the_end(found):
        return Vectors(found.single if next(turned) < 18 else -found.single, None)

    reloaded.vectors = worse_at_the_end  # 6 queries, 6 passages, 6 images; then what is only told
    export(settings(tmp_path / "model", "sentence-transformers"))
    turned = iter(range(10**6))
    with pytest.raises(ExportError, match="image with text"):
        export(settings(tmp_path / "exact", "sentence-transformers", exact=True))


def test_options_that_do_not_fit_are_all_named_before_any_work(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(exporting, "check_libraries", None)  # not even these are looked for
    (tmp_path / "file").write_text("mine")
    wrong = settings(tmp_path, "official", exact=True, new_names=True, dtype="float16", limit=1)
    with pytest.raises(ExportError) as error:
        export(wrong)
    options = [line.split(":")[0] for line in str(error.value).splitlines()]
    assert options == ["--output", "--exact", "--tensor-names", "--dtype", "--parity-items"]
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_folder_may_be_the_output(tmp_path, settings, reloaded):
    (tmp_path / "model").mkdir()
    export(settings(tmp_path / "model", "merged"))
    assert (tmp_path / "model/embed.py").is_file()


def test_a_relative_output_starts_where_the_user_is(tmp_path, settings, reloaded, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export(settings(Path("model"), "merged"))
    assert (tmp_path / "model/embed.py").is_file()


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path, settings, reloaded):
    with pytest.raises(CheckpointError, match="not a Jina Embeddings V4 checkpoint"):
        export(settings(tmp_path / "model", "merged", model=tmp_path))


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr("jina.export.reload.LIBRARIES", {"merged": ("no-such-library", "torch")})
    with pytest.raises(ReloadError, match=r"got no no-such-library; pip install -r"):
        check_libraries("merged")
    monkeypatch.setattr("jina.export.reload.LIBRARIES", {"merged": ("torch",)})
    check_libraries("merged")


def test_16_bit_exports_are_written_and_compared_in_16_bits(tmp_path, settings, reloaded):
    report = export(settings(tmp_path / "model", "merged", dtype="bfloat16"))
    types = set(tensor_types(tmp_path / "model/model.safetensors").values())
    assert types == {torch.bfloat16}
    assert json.loads((tmp_path / "model/config.json").read_text())["torch_dtype"] == "bfloat16"
    assert report.minimum == 0.999
    assert 'dtype="bfloat16"' in (tmp_path / "model/README.md").read_text()


def test_the_text_matching_export_knows_one_prompt(tmp_path, settings, reloaded):
    export(settings(tmp_path / "model", "sentence-transformers", task="text-matching"))
    stored = json.loads((tmp_path / "model/config_sentence_transformers.json").read_text())
    assert set(stored["prompts"].values()) == {"Query: "}
