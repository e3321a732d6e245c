"""A set to pretrain on that is made here: coloured squares with their names."""

import numpy as np
import pytest
import torch

from jina.models.adapters import AdapterSettings
from jina.models.tiny_checkpoint import Shape
from recipes import tiny_model
from recipes.tiny_data import TinySet

COLOURS = {"red": (255, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 255), "black": (0, 0, 0)}
SMALL = Shape(
    text={"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
          "num_attention_heads": 2, "num_key_value_heads": 1},
    vision={"hidden_size": 32, "intermediate_size": 32, "depth": 1, "num_heads": 1,
            "fullatt_block_indexes": [0]},
    max_pixels=224 * 224,
    byte_pairs=300,
    vectors={"matryoshka_dims": [16, 64], "multi_vector_projector_dim": 16},
    adapter=AdapterSettings(rank=2, alpha=2, dropout=0.1),
)  # fmt: skip


def squares():
    """One square a colour and set, in the middle of what is transparent."""
    pixels = np.zeros((2 * len(COLOURS), 128, 128, 4), dtype=np.uint8)
    for place, colour in enumerate([*COLOURS.values()] * 2):
        inner = 16 + 8 * (place // len(COLOURS))
        pixels[place, inner:-inner, inner:-inner] = (*colour, 255)
    return pixels


@pytest.fixture(scope="session")
def tiny_set():
    """Squares in four colours, by two artists, named in two languages."""
    names = list(COLOURS)
    texts = [*names, "a colour that no square has"]
    generator = torch.Generator().manual_seed(0)
    return TinySet(
        pixels=squares(),
        origins=["noto"] * len(names) + ["twemoji"] * len(names),
        keys=names * 2,
        captions=[{"en": name, "de": f"{name} auf Deutsch"} for name in names * 2],
        picture_features=torch.randn(2 * len(names), 8, generator=generator),
        texts=texts,
        translations=[(f"{name} auf Deutsch", place) for place, name in enumerate(names)],
        text_features=torch.randn(len(texts), 80, generator=generator),
    )


@pytest.fixture(scope="session")
def start_folder(tmp_path_factory):
    """A checkpoint to pretrain from; not to be written to."""
    folder = tmp_path_factory.mktemp("tiny") / "start"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_model, "SHAPE", SMALL)
        tiny_model.new_checkpoint(folder, ["red green blue black"], seed=0)
    return folder
