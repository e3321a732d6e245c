"""Recall in both directions, and which stamps of Tux Paint it is measured on."""

import torch
from PIL import Image

from recipes.tiny_evaluation import recalls, tuxpaint_rows


def test_recall_counts_what_is_ahead_of_the_right_one():
    texts, images = torch.eye(4), torch.eye(4)
    assert set(recalls(texts, images).values()) == {1.0}
    found = recalls(texts, images[[1, 0, 2, 3]])
    assert found["t2i@1"] == found["i2t@1"] == 0.5
    assert found["t2i@10"] == 1.0


def test_each_caption_has_one_stamp_and_letters_are_left_out(tmp_path):
    for name, caption in (
        ("animals/dog", "A dog."),
        ("animals/dog2", "A dog."),
        ("symbols/alphabets/a", "The letter A."),
        ("animals/cat", "A cat."),
    ):
        file = tmp_path / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{caption}\nde.utf8=anders\n", encoding="utf-8")
        Image.new("RGB", (4, 4)).save(file.with_suffix(".png"))
    rows = list(tuxpaint_rows(tmp_path))
    found = {row["query"]: row["positive_image"] for row in rows}
    assert found == {"A dog.": "animals/dog.png", "A cat.": "animals/cat.png"}
    assert list(tuxpaint_rows(tmp_path)) == rows
