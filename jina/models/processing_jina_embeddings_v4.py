"""From text and pixels to token sequences, exactly as the official processor does it.

    text  ─ "Query: " + text ─ tokenizer ──────────────────────────► TokenSequence
    image ─ resize (uint8, antialiased bicubic) ─ patches ──────────► TokenSequence

Two things differ on purpose. Special tokens typed in a user's text are text: they can't pose as an
image. And resizing needs no torchvision: torch's own uint8 interpolation gives the same bits.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import BatchFeature

from jina.data.checking.image_headers import ImageFacts
from jina.data.image_loading import load_image
from jina.models.packing import PackedBatch, TokenSequence, pack, rope_positions

MAX_TEXT_TOKENS = 32768
MAX_ASPECT_RATIO = 200
PROMPTS = {"query": "Query", "passage": "Passage"}
IMAGE_TEXT = "Describe the image."
CONTROL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
)


def prompt_for(task: str, prompt_name: str) -> str:
    """Return the word put before a text: `Query` or `Passage`.

    Text matching compares like with like, so both of its sides are queries.
    """
    return PROMPTS["query" if task == "text-matching" else prompt_name]


@dataclass(frozen=True)
class ImageSettings:
    """How an image becomes patches; read from `preprocessor_config.json`.

    Attributes:
        min_pixels: smaller images are enlarged to this area.
        max_pixels: larger images are shrunk to this area; 784 pixels are one token.
        square: side in pixels that every image is stretched to, aspect ratio lost; `None` keeps it.
        image_mean: mean of each channel, in [0, 1].
        image_std: deviation of each channel, in [0, 1].
        rescale_factor: brings a byte to [0, 1].
        patch_size: side of a patch in pixels.
        merge_size: patches along a side of one token.
        temporal_patch_size: frames of a patch; a still image is repeated.
    """

    min_pixels: int
    max_pixels: int
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    rescale_factor: float = 1 / 255
    patch_size: int = 14
    merge_size: int = 2
    temporal_patch_size: int = 2
    square: int | None = None

    def __post_init__(self) -> None:
        """Refuse settings no image can be cut by."""
        sizes = ("min_pixels", "max_pixels", "patch_size", "merge_size", "temporal_patch_size")
        wrong = [
            name
            for name in sizes
            if type(getattr(self, name)) is not int or getattr(self, name) < 1
        ]
        wrong += [n for n in ("image_mean", "image_std") if len(getattr(self, n)) != 3]
        if type(self.rescale_factor) is not float or self.rescale_factor <= 0:
            wrong.append("rescale_factor")
        for name in wrong:
            got = getattr(self, name)
            raise ValueError(f"{name}: out of range; got {got!r}; see the official file")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ImageSettings":
        """Read the fields of an official `preprocessor_config.json`."""
        size = values.get("size", {})
        return cls(
            min_pixels=values.get("min_pixels", size.get("shortest_edge")),
            max_pixels=values.get("max_pixels", size.get("longest_edge")),
            image_mean=tuple(map(float, values["image_mean"])),
            image_std=tuple(map(float, values["image_std"])),
            rescale_factor=values["rescale_factor"],
            patch_size=values["patch_size"],
            merge_size=values["merge_size"],
            temporal_patch_size=values["temporal_patch_size"],
        )

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height an image is resized to, multiples of one token's side.

        Python's rounding (half to even), a floor when shrinking and a ceiling when growing are
        Qwen2-VL's own and decide the number of tokens.

        Raises:
            ValueError: the longer side is over 200 times the shorter.
        """
        unit = self.patch_size * self.merge_size
        if self.square is not None:
            return self.square, self.square
        if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
            raise ValueError(
                f"image: sides differ by more than {MAX_ASPECT_RATIO}:1; got {width} x {height}; "
                "crop or pad it"
            )
        sides = [round(side / unit) * unit for side in (width, height)]
        if sides[0] * sides[1] > self.max_pixels:
            shrink = math.sqrt(width * height / self.max_pixels)
            sides = [max(unit, math.floor(s / shrink / unit) * unit) for s in (width, height)]
        elif sides[0] * sides[1] < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            sides = [math.ceil(s * grow / unit) * unit for s in (width, height)]
        return sides[0], sides[1]

    def grid(self, width: int, height: int) -> tuple[int, int, int]:
        """Return the patches of an image of this size in time, height and width."""
        width, height = self.resized(width, height)
        return 1, height // self.patch_size, width // self.patch_size

    def token_count(self, width: int, height: int) -> int:
        """Return how many vision tokens an image of this size becomes."""
        width, height = self.resized(width, height)
        return width * height // (self.patch_size * self.merge_size) ** 2

    def pixel_values(self, patches: Tensor) -> Tensor:
        """Normalise the colours of patches, and repeat them for each frame of a still image.

        Args:
            patches: (P, 588) uint8.

        Returns:
            (P, 1176) float32, on the same device.
        """
        mean, std = (
            torch.tensor(statistic, device=patches.device) * (1.0 / self.rescale_factor)
            for statistic in (self.image_mean, self.image_std)
        )
        colours = patches.view(len(patches), 3, 1, -1).float()
        colours = (colours - mean[:, None, None]) / std[:, None, None]
        return colours.expand(-1, -1, self.temporal_patch_size, -1).reshape(len(patches), -1)


def image_patches(
    image: Image.Image, settings: ImageSettings
) -> tuple[Tensor, tuple[int, int, int]]:
    """Resize an image and cut it into patches, in the order the vision tower expects.

    Args:
        image: upright RGB.
        settings: sizes.

    Returns:
        (P, 588) uint8 patches, each laid out as channel, row, column, neighbours of one token
        together, an eighth of what `ImageSettings.pixel_values` makes of them in memory; and the
        grid in time, height and width.
    """
    _, rows, columns = grid = settings.grid(*image.size)
    height, width = rows * settings.patch_size, columns * settings.patch_size
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0)  # (1, 3, H, W) uint8
    pixels = interpolate(pixels, (height, width), mode="bicubic", antialias=True)[0]
    patch, merge = settings.patch_size, settings.merge_size
    patches = pixels.view(3, rows // merge, merge, patch, columns // merge, merge, patch)
    patches = patches.permute(1, 4, 2, 5, 0, 3, 6)  # token grid, patches of a token, 3, p, p
    return patches.reshape(rows * columns, -1), grid


class JinaEmbeddingsV4Processor:
    """Tokenizer, prompts and image patches of a checkpoint.

    Args:
        tokenizer: byte-level BPE with Qwen's special tokens.
        image_settings: how images become patches.
    """

    def __init__(self, tokenizer: Tokenizer, image_settings: ImageSettings) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.tokenizer = tokenizer
        self.image_settings = image_settings
        control = {token: [tokenizer.token_to_id(token)] for token in CONTROL_TOKENS}
        self.pad_token_id = control["<|endoftext|>"][0]
        self.image_token_id = control["<|image_pad|>"][0]
        self._before_image = (
            control["<|im_start|>"] + self._ids("user\n") + control["<|vision_start|>"]
        )
        self._vision_end = control["<|vision_end|>"]
        self._after_text = control["<|im_end|>"] + self._ids("\n")

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "JinaEmbeddingsV4Processor":
        """Read `tokenizer.json` and `preprocessor_config.json` of a local checkpoint folder.

        Raises:
            ValueError: a file that can't be used, with its name.
        """
        settings_file = Path(path, "preprocessor_config.json")
        tokenizer_file = Path(path, "tokenizer.json")
        try:
            settings = ImageSettings.from_dict(json.loads(settings_file.read_text("utf-8")))
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            raise ValueError(_unusable(settings_file, error)) from error
        try:
            tokenizer = Tokenizer.from_file(str(tokenizer_file))
        except Exception as error:  # the only type that tokenizers raises
            raise ValueError(_unusable(tokenizer_file, error)) from error
        missing = [token for token in CONTROL_TOKENS if tokenizer.token_to_id(token) is None]
        if missing:
            raise ValueError(_unusable(tokenizer_file, f"no {', '.join(missing)}"))
        return cls(tokenizer, settings)

    @property
    def image_prompt_tokens(self) -> int:
        """How many tokens surround an image and its text."""
        return len(self._before_image) + len(self._vision_end) + len(self._after_text)

    def with_image_settings(self, **changes: int | None) -> "JinaEmbeddingsV4Processor":
        """Return a processor that differs in the named image settings; `None` means unchanged."""
        changed = {name: value for name, value in changes.items() if value is not None}
        return type(self)(self.tokenizer, replace(self.image_settings, **changed))

    def sequence(
        self,
        text: str | None,
        image: Image.Image | ImageFacts | None,
        *,
        task: str,
        prompt_name: str,
        max_length: int = MAX_TEXT_TOKENS,
        image_identity: bytes = b"",
    ) -> TokenSequence:
        """Turn one item, text or image or both, into a token sequence.

        Args:
            text: the item's text.
            image: upright RGB, or only its facts.
            task: the adapter it is meant for.
            prompt_name: `query` or `passage`, put before a text without image.
            max_length: tokens beyond this are cut off a text; an image is never cut.
            image_identity: see `TokenSequence`.

        Raises:
            ValueError: an image that leaves its text no room.
        """
        if image is not None:
            return self.image_sequence(
                image, text=text, max_length=max_length, identity=image_identity
            )
        prompt = prompt_for(task, prompt_name)
        return self.text_sequence(text or "", prompt=prompt, max_length=max_length)

    def pack(self, sequences: Sequence[TokenSequence]) -> PackedBatch:
        """Lay token sequences end to end."""
        return pack(sequences)

    def text_sequence(
        self, text: str, *, prompt: str | None = None, max_length: int = MAX_TEXT_TOKENS
    ) -> TokenSequence:
        """Tokenize a text behind its prompt; every token is pooled."""
        ids = self._ids(f"{prompt}: {text}" if prompt else text)[:max_length]
        pooled = (0, len(ids))
        return TokenSequence(
            torch.tensor(ids), rope_positions(len(ids)), pooled, content=_content(ids, pooled)
        )

    def image_sequence(
        self,
        image: Image.Image | ImageFacts,
        *,
        text: str | None = None,
        max_length: int = MAX_TEXT_TOKENS,
        identity: bytes = b"",
    ) -> TokenSequence:
        """Put an image into the fixed image prompt.

        The vision span, its two markers included, is pooled. A text takes the place of `Describe
        the image.` and is pooled too; it is cut where the whole would exceed `max_length`. An
        image of which only the facts are given has no patches.

        Raises:
            ValueError: an image that leaves its text no room.
        """
        if isinstance(image, ImageFacts):
            patches, grid = None, self.image_settings.grid(image.width, image.height)
            identity = image.identity
        else:
            patches, grid = image_patches(image, self.image_settings)
        merge = self.image_settings.merge_size
        merged = (grid[1] // merge, grid[2] // merge)
        start = len(self._before_image)
        vision_tokens = [self.image_token_id] * (merged[0] * merged[1])
        vision = self._before_image + vision_tokens + self._vision_end
        room = max_length - len(vision) - len(self._after_text)
        if text is not None and room < 1:
            raise ValueError(
                f"item with image and text: no room for the text; got {len(vision)} tokens of "
                f"image for a limit of {max_length}; raise max_text_tokens or lower max_pixels"
            )
        spoken = vision + (self._ids(IMAGE_TEXT) if text is None else self._ids(text)[:room])
        ids = spoken + self._after_text
        pooled = (start - 1, len(vision) if text is None else len(spoken))
        return TokenSequence(
            input_ids=torch.tensor(ids),
            position_ids=rope_positions(len(ids), start, merged),
            pooled=pooled,
            patches=patches,
            grid_thw=grid,
            vision_tokens=len(vision_tokens),
            image_identity=identity,
            content=_content(ids, pooled, identity, grid) if identity else b"",
        )

    def process_texts(
        self,
        texts: Sequence[str],
        max_length: int | None = None,
        prefix: str | None = None,
        padding: str | None = None,
    ) -> BatchFeature:
        """Tokenize texts into the official padded form.

        Args:
            texts: N strings.
            max_length: cut longer texts; at most 32768.
            prefix: `Query` or `Passage`, or none.
            padding: `longest` (the default) or `max_length`.

        Returns:
            `input_ids` and `attention_mask`, each (N, L) int64, padded on the right.
        """
        limit = min(max_length or MAX_TEXT_TOKENS, MAX_TEXT_TOKENS)
        sequences = [self.text_sequence(t, prompt=prefix, max_length=limit) for t in texts]
        return self._padded(sequences, limit if padding == "max_length" else 0)

    def process_images(self, images: Sequence[Image.Image]) -> BatchFeature:
        """Turn images into the official padded form.

        Args:
            images: N images, turned upright and to RGB as `load_image` does.

        Returns:
            `input_ids` and `attention_mask` (N, L), `pixel_values` (N, max patches, 1176) filled up
            with zeros, `image_grid_thw` (N, 3).
        """
        sequences = [self.image_sequence(load_image(image)) for image in images]
        batch = self._padded(sequences, 0)
        batch["pixel_values"] = torch.nn.utils.rnn.pad_sequence(
            [self.image_settings.pixel_values(s.patches) for s in sequences], batch_first=True
        )
        batch["image_grid_thw"] = torch.tensor([s.grid_thw for s in sequences])
        return batch

    def _ids(self, text: str) -> list[int]:
        # typed special tokens stay text; said each time, because a pickled tokenizer forgets it
        self.tokenizer.encode_special_tokens = True
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _padded(self, sequences: Sequence[TokenSequence], least: int) -> BatchFeature:
        length = max([least, *(len(s) for s in sequences)])
        input_ids = torch.full((len(sequences), length), self.pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        for row, sequence in enumerate(sequences):
            input_ids[row, : len(sequence)] = sequence.input_ids
            attention_mask[row, : len(sequence)] = 1
        return BatchFeature({"input_ids": input_ids, "attention_mask": attention_mask})


def _content(ids: Sequence[int], pooled: tuple[int, int], *image: object) -> bytes:
    """Return 16 bytes for all that the model sees of a sequence."""
    return hashlib.blake2b(repr((ids, pooled, image)).encode(), digest_size=16).digest()


def _unusable(file: Path, error: Exception | str) -> str:
    return f"{file}: can't be used; got {error}; fetch the file again"
