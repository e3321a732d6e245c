"""The set that the tiny Jina is pretrained on, built once: pictures, texts, what the teachers say.

    packages ─ tiny_sources ─► pictures.npy, set.json ─ tiny_teachers ─► *_features.npy
                                        │
                                        └──────────── TinySet.read ─► TinySet

All of it lies in memory while training: a picture is 64 KiB, decoded.

Shapes: N pictures, M English texts.
"""

import json
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipes.tiny_sources import plain, read_pictures, read_texts
from recipes.tiny_teachers import picture_features, text_features

VALIDATION = "openclipart"  # pictures of this set are held out, for choosing
NUM_VALIDATION = 200


@dataclass(frozen=True)
class TinySet:
    """Everything to learn from.

    Attributes:
        pixels: (N, side, side, 4) uint8 RGBA.
        origins: the set each picture comes from.
        keys: what pictures of the same thing share.
        captions: of each picture, by language.
        picture_features: (N, 768) of the image teacher.
        texts: M English texts, captions among them.
        translations: texts in other languages, each with the place of its English one.
        text_features: (M, 384) of the text teacher.
    """

    pixels: np.ndarray
    origins: list[str]
    keys: list[str]
    captions: list[dict[str, str]]
    picture_features: Tensor
    texts: list[str]
    translations: list[tuple[str, int]]
    text_features: Tensor

    @classmethod
    def read(cls, folder: Path) -> "TinySet":
        """Read what `build_set` wrote."""
        values = json.loads((folder / "set.json").read_text(encoding="utf-8"))
        features = {
            name: torch.from_numpy(np.load(folder / f"{name}.npy")).float()
            for name in ("picture_features", "text_features")
        }
        return cls(pixels=np.load(folder / "pictures.npy"), **values, **features)

    def caption_places(self) -> Tensor:
        """Return (N,) the place of each picture's English caption among the texts."""
        places = {text: place for place, text in enumerate(self.texts)}
        return torch.tensor([places[captions["en"]] for captions in self.captions])

    def held_out(self) -> list[int]:
        """Return the pictures for choosing: clip art whose captions no other picture has."""
        counts: dict[str, int] = {}
        for captions in self.captions:
            counts[plain(captions["en"])] = counts.get(plain(captions["en"]), 0) + 1
        unique = [
            place
            for place, captions in enumerate(self.captions)
            if self.origins[place] == VALIDATION
            and counts[plain(captions["en"])] == 1
            and " " in captions["en"]
        ]
        step = max(1, len(unique) // NUM_VALIDATION)
        return unique[::step][:NUM_VALIDATION]


def build_set(unpacked: Path, vit: Path, minilm: Path, folder: Path, left_out: Set[str]) -> None:
    """Write the set into a folder; what is there already isn't made again.

    Args:
        unpacked: the packages.
        vit: file of the image teacher.
        minilm: folder of the text teacher.
        folder: where to.
        left_out: captions, as `plain` writes them, and codes of emoji that are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "set.json").exists():
        _write_set(unpacked, folder, left_out)
    values = json.loads((folder / "set.json").read_text(encoding="utf-8"))
    if not (folder / "text_features.npy").exists():
        found = text_features(minilm, values["texts"])
        np.save(folder / "text_features.npy", found.numpy().astype(np.float16))
    if not (folder / "picture_features.npy").exists():
        found = picture_features(vit, np.load(folder / "pictures.npy", mmap_mode="r"))
        np.save(folder / "picture_features.npy", found.numpy().astype(np.float16))


def _write_set(unpacked: Path, folder: Path, left_out: Set[str]) -> None:
    pictures = list(read_pictures(unpacked, left_out))
    np.save(folder / "pictures.npy", np.stack([np.array(p.pixels) for p in pictures]))
    captions = [picture.captions for picture in pictures]
    english = [found["en"] for found in captions]
    texts = list(dict.fromkeys([*english, *read_texts(unpacked)]))
    places = {text: place for place, text in enumerate(texts)}
    translations = {
        (text, places[found["en"]])
        for found in captions
        for language, text in found.items()
        if language != "en"
    }
    values = {
        "origins": [picture.origin for picture in pictures],
        "keys": [picture.key for picture in pictures],
        "captions": captions,
        "texts": texts,
        "translations": sorted(translations),
    }
    (folder / "set.json").write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
