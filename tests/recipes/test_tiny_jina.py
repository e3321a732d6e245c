"""The shipped tiny Jina is what its card says, loads in silence, and tells things apart."""

import hashlib
import json
import re
import warnings
from pathlib import Path

import numpy as np

from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model

FOLDER = Path(__file__).parents[2] / "data/tiny_jina"
DEMO = Path(__file__).parents[2] / "data/demo"
TWELVE_MEGABYTES = 12_000_000


def test_the_card_has_the_digest_of_every_file():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", card, re.MULTILINE))
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    found = {
        digest: file.relative_to(FOLDER).as_posix()
        for file in files
        if file.name != "README.md"
        for digest in [hashlib.sha256(file.read_bytes()).hexdigest()]
    }
    assert found == stated
    assert sum(file.stat().st_size for file in files) < TWELVE_MEGABYTES


def test_it_loads_without_a_warning_and_finds_pictures_it_never_saw_better_than_chance():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = JinaEmbeddingsV4Model.from_pretrained(FOLDER, dtype="float32")
    lines = (DEMO / "eval.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row["query_image"]: row for row in map(json.loads, reversed(lines))}.values()
    texts = model.encode_text([row["positive"] for row in rows], "retrieval", return_numpy=True)
    images = model.encode_image(
        [DEMO / row["query_image"] for row in rows], "retrieval", return_numpy=True
    )
    scores = texts @ images.T
    places = (scores > scores.diagonal()[:, None]).sum(1)
    assert (places < 10).mean() > 2 * 10 / len(rows)


def test_adapters_change_nothing_until_they_are_trained():
    model = JinaEmbeddingsV4Model.from_pretrained(FOLDER)

    def vector(task):
        return model.encode_text("a dog", task=task, return_numpy=True)

    np.testing.assert_array_equal(vector("code"), vector("retrieval"))
    for name, weight in model.named_parameters():
        if ".lora_B.retrieval" in name:
            weight.data += 0.1
    assert not np.array_equal(vector("code"), vector("retrieval"))
