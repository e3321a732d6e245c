"""Exported folders in the real libraries: fresh process, offline, no remote code unless exact."""

import json
from pathlib import Path

import pytest
import torch

from jina.export.parity import compare
from jina.export.parity_items import Vectors, read_parity_items
from jina.export.reference import embed_items
from jina.export.reload import ReloadError, embed_in_fresh_process
from tests.export.conftest import ROOT, ROWS

pytestmark = pytest.mark.slow


def lowest(report):
    return {(row.kind, row.vectors): row.lowest for row in report.kinds}


def test_stock_sentence_transformers_embeds_texts_and_images_as_we_do(exported):
    _, report = exported("sentence-transformers")
    found = lowest(report)
    for kind in ("query", "passage", "image"):
        assert found[kind, "single"] >= 0.999999
    assert report.top10_overlap["single"] == 1
    assert found["image in a mixed list", "single"] < 0.99  # the loss the card tells of


def test_the_exact_export_loses_nothing_anywhere(exported):
    _, report = exported("sentence-transformers", exact=True)
    assert len(report.kinds) == 5
    assert min(lowest(report).values()) >= 0.999999


def test_the_multi_vector_export_scores_as_we_do(exported):
    _, report = exported("multi-vector")
    assert min(lowest(report).values()) >= 0.999999
    assert 0 <= report.maxsim_difference <= 1e-4


@pytest.mark.parametrize("new_names", [False, True])
def test_the_merged_export_embeds_as_we_do_by_its_own_embed_py(exported, new_names):
    _, report = exported("merged", new_names=new_names)
    assert {row.vectors for row in report.kinds} == {"single", "multi"}
    assert min(lowest(report).values()) >= 0.999999
    assert report.maxsim_difference <= 1e-4


def test_16_bit_exports_stay_within_their_bound(exported):
    _, report = exported("sentence-transformers", dtype="bfloat16")
    assert 0.999 <= lowest(report)["image", "single"] < 1


def test_the_official_export_is_read_back_to_the_same_vectors(exported):
    _, report = exported("official")
    assert min(lowest(report).values()) >= 0.9999999
    assert report.maxsim_difference == 0


@pytest.fixture
def in_that_environment(fresh_environment, monkeypatch):
    for name, value in fresh_environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("in_that_environment")
def test_another_adapter_would_be_noticed(exported, jina_model, tmp_path, monkeypatch):
    folder, _ = exported("multi-vector")
    items = read_parity_items(ROWS, None, 3)
    monkeypatch.chdir(tmp_path)
    got = embed_in_fresh_process(
        items, folder, Path(), format="multi-vector", task="retrieval", exact=False
    )
    expected = embed_items(jina_model, items, "code")
    expected = [Vectors(None, vectors.multi) for vectors in expected]
    assert compare(items, expected, got, dtype=torch.float32).losses()


def test_short_vectors_sides_and_prompts(exported, fresh_process, jina_model, tmp_path):
    folder, _ = exported("sentence-transformers")
    image = tmp_path / "image.png"
    read_parity_items(ROWS, None, 2)[4].image.save(image)
    code = """
import json, sys
from PIL import Image
from sentence_transformers import SentenceTransformer
folder, image = sys.argv[1:]
model = SentenceTransformer(folder, truncate_dim=16)
image = Image.open(image).convert("RGB")
print(json.dumps({
    "short": model.encode(["hello world"], normalize_embeddings=True).tolist(),
    "as query": model.encode_query([image]).tolist(),
    "as document": model.encode_document([image]).tolist(),
    "as dict": model.encode([{"image": image}]).tolist(),
    "prompts": model.prompts,
    "modules": [type(module).__module__.split(".")[0] for module in model.modules()],
}))
"""
    told = json.loads(fresh_process(code, folder, image).splitlines()[-1])
    expected = jina_model.encode_text(["hello world"], "retrieval", truncate_dim=16)
    torch.testing.assert_close(
        torch.tensor(told["short"]), torch.stack(expected), atol=1e-5, rtol=0
    )
    assert told["as query"] == told["as document"] == told["as dict"]
    assert told["prompts"]["query"] == "Query: "
    assert told["prompts"]["passage"] == told["prompts"]["document"] == "Passage: "
    assert set(told["modules"]) == {"sentence_transformers", "torch", "transformers"}


def test_our_pooling_asks_for_trust(exported, fresh_process):
    folder, _ = exported("sentence-transformers", exact=True)
    code = """
import sys
from sentence_transformers import SentenceTransformer
try:
    SentenceTransformer(sys.argv[1])
except ValueError as error:
    print("refused", error)
"""
    said = fresh_process(code, folder)
    assert "refused" in said
    assert "trust_remote_code" in said


@pytest.mark.usefixtures("in_that_environment")
def test_a_broken_folder_is_an_error_that_says_why(tmp_path):
    items = read_parity_items(ROWS, None, 2)
    with pytest.raises(ReloadError, match="can't be loaded by the libraries it is made for"):
        embed_in_fresh_process(
            items, tmp_path / "none", tmp_path, format="merged", task="retrieval", prompts={}
        )


@pytest.mark.parametrize("format_", ["sentence-transformers", "multi-vector", "merged", "official"])
def test_the_tiny_jina_embeds_as_we_do_in_every_format(exported, format_):
    dtype = "auto" if format_ == "official" else "float32"  # official keeps the file's
    _, report = exported(format_, model=ROOT / "data/tiny_jina", dtype=dtype)
    found = lowest(report)
    assert min(v for (kind, _), v in found.items() if "list" not in kind) >= 0.9999
    assert report.maxsim_difference is None or report.maxsim_difference <= 1e-4
