"""Inference: texts and images in, vectors out, in the caller's order.

Work is ordered by length and embedded in batches of similar size; results leave the GPU as they
are made. The signatures are the official ones, with the official meaning.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from tqdm.auto import tqdm

from jina.data.image_loading import image_size, load_image
from jina.models.packing import TokenSequence, pack
from jina.models.processing_jina_embeddings_v4 import (
    MAX_TEXT_TOKENS,
    PROMPTS,
    JinaEmbeddingsV4Processor,
    prompt_for,
)

LONG_JOB = 16  # batches from which a progress bar is shown


class Encoder:
    """The `encode_*` methods of the model; the model supplies the engine they run on."""

    processor: JinaEmbeddingsV4Processor
    _active_task: str | None

    def encode_text(
        self,
        texts: str | Sequence[str],
        task: str | None = None,
        max_length: int = MAX_TEXT_TOKENS,
        batch_size: int = 8,
        return_multivector: bool = False,
        return_numpy: bool = False,
        truncate_dim: int | None = None,
        prompt_name: str | None = None,
    ) -> Any:
        """Embed texts.

        Args:
            texts: one text or several.
            task: adapter to use; `model.task` if `None`.
            max_length: tokens beyond this are cut, the prompt counted; at most 32768.
            batch_size: texts of one forward pass; they are grouped by length.
            return_multivector: one vector a token instead of one a text.
            return_numpy: numpy arrays instead of tensors.
            truncate_dim: length of a single vector, one of `config.matryoshka_dims`.
            prompt_name: `query` (the default) or `passage`; always `query` for text matching.

        Returns:
            For one text its vector (D,) or token vectors (L, D). For a list, a list of these in the
            caller's order; with `return_numpy` one (N, D) array, or a list of arrays (L, D) of
            token vectors. All float32, on the CPU.

        Raises:
            ValueError: an unknown task, prompt or dimension.
        """
        task = self._known_task(self.task if task is None else task)
        prompt_name = prompt_name or "query"
        if prompt_name not in PROMPTS:
            raise ValueError(
                f"prompt_name: unknown; got {prompt_name!r}; use {' or '.join(PROMPTS)}"
            )
        max_length = MAX_TEXT_TOKENS if max_length is None else max_length
        _check_at_least_one(max_length=max_length, batch_size=batch_size)
        prompt, limit = prompt_for(task, prompt_name), min(max_length, MAX_TEXT_TOKENS)
        listed = [texts] if isinstance(texts, str) else list(texts)
        _check_texts(listed)
        sequences = [
            self.processor.text_sequence(text, prompt=prompt, max_length=limit) for text in listed
        ]
        vectors = self._encode(
            sequences, [len(s) for s in sequences], lambda s: s,
            task=task, batch_size=batch_size, multi=return_multivector, truncate_dim=truncate_dim,
        )  # fmt: skip
        size = None if return_multivector else self._vector_size(truncate_dim)
        return _as_asked(vectors, isinstance(texts, str), as_numpy=return_numpy, size=size)

    def encode_image(
        self,
        images: Any,
        task: str | None = None,
        batch_size: int = 8,
        return_multivector: bool = False,
        return_numpy: bool = False,
        truncate_dim: int | None = None,
        max_pixels: int | None = None,
    ) -> Any:
        """Embed images.

        Args:
            images: a PIL image or local path, or several.
            task: adapter to use; `model.task` if `None`.
            batch_size: images of one forward pass; they are grouped by size.
            return_multivector: one vector a token instead of one an image.
            return_numpy: numpy arrays instead of tensors.
            truncate_dim: length of a single vector, one of `config.matryoshka_dims`.
            max_pixels: shrink larger images to this area, in this call only.

        Returns:
            As `encode_text`.

        Raises:
            ValueError: an unknown task or dimension.
            ImageError: an image that can't be read; URLs are refused.
        """
        task = self._known_task(self.task if task is None else task)
        _check_at_least_one(batch_size=batch_size, max_pixels=max_pixels)
        processor = self.processor.with_image_settings(max_pixels=max_pixels)
        is_one = isinstance(images, (str, Path, Image.Image))
        listed = [images] if is_one else list(images)
        vectors = self._encode(
            listed,
            [processor.image_settings.token_count(*image_size(image)) for image in listed],
            lambda image: processor.image_sequence(load_image(image)),
            task=task, batch_size=batch_size, multi=return_multivector, truncate_dim=truncate_dim,
        )  # fmt: skip
        size = None if return_multivector else self._vector_size(truncate_dim)
        return _as_asked(vectors, is_one, as_numpy=return_numpy, size=size)

    def get_single_vector_embeddings(
        self,
        texts: Sequence[str] | None = None,
        images: Sequence[Any] | None = None,
        task_label: str = "retrieval",
        prompt_name: str = "query",
        truncate_dim: int | None = None,
    ) -> Tensor:
        """Embed texts or images, one vector each: (N, D) float32, on the CPU."""
        options = {"truncate_dim": truncate_dim, "return_numpy": True}
        return torch.from_numpy(
            self._embed_either(texts, images, task_label, prompt_name, **options)
        )

    def get_multi_vector_embeddings(
        self,
        texts: Sequence[str] | None = None,
        images: Sequence[Any] | None = None,
        task_label: str = "retrieval",
        prompt_name: str = "query",
    ) -> list[Tensor]:
        """Embed texts or images, one vector a token: N tensors (L, D) float32, on the CPU."""
        return self._embed_either(texts, images, task_label, prompt_name, return_multivector=True)

    def _embed_either(
        self,
        texts: Sequence[str] | None,
        images: Sequence[Any] | None,
        task: str,
        prompt_name: str,
        **options: Any,
    ) -> Any:
        if (texts is None) == (images is None):
            raise ValueError("texts, images: give one of the two")
        if texts is not None:
            listed = [texts] if isinstance(texts, str) else texts
            return self.encode_text(listed, task, prompt_name=prompt_name, **options)
        listed = [images] if isinstance(images, (str, Path, Image.Image)) else images
        return self.encode_image(listed, task, **options)

    def _encode(
        self,
        items: Sequence[Any],
        lengths: Sequence[int],
        to_sequence: Callable[[Any], TokenSequence],
        *,
        task: str,
        batch_size: int,
        multi: bool,
        truncate_dim: int | None,
    ) -> list[Tensor]:
        """Embed items longest first, so that a batch is even and too large a job fails at once."""
        size = self._vector_size(truncate_dim)
        order = sorted(range(len(items)), key=lambda i: -lengths[i])
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        vectors: dict[int, Tensor] = {}
        with self.inference(), tqdm(total=len(items), disable=len(batches) < LONG_JOB) as bar:
            for chosen in batches:
                batch = pack([to_sequence(items[i]) for i in chosen]).to(self.device)
                states = self.hidden_states(batch, task)
                if multi:
                    found = self.multi_vectors(states).cpu().split(batch.lengths)
                else:
                    found = self.single_vectors(states, batch)
                    if size < found.shape[1]:
                        found = normalize(found[:, :size], dim=-1)
                    found = found.cpu()
                vectors |= zip(chosen, found, strict=True)
                bar.update(len(chosen))
        return [vectors[i] for i in range(len(items))]

    def _vector_size(self, truncate_dim: int | None) -> int:
        """Return the length of a single vector."""
        dim = self.config.truncate_dim if truncate_dim is None else truncate_dim
        if dim is None:
            return self.config.text_config.hidden_size
        if dim not in self.config.matryoshka_dims:
            raise ValueError(
                f"truncate_dim: not a Matryoshka dimension; got {dim}; "
                f"use one of {list(self.config.matryoshka_dims)}"
            )
        return dim

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Embed in here: no gradients, no dropout, no autocast; afterwards all is as it was."""
        was_training, was_active = self.training, self._active_task
        self.eval()
        try:
            # the model's own types decide, whatever the caller's autocast
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                yield
        finally:
            self.train(was_training)
            if was_active is not None:
                self.activate(was_active)


def _as_asked(vectors: list[Tensor], is_one: bool, *, as_numpy: bool, size: int | None) -> Any:
    """Return one result for one input, a list for several, an array for several of one `size`."""
    results = [vector.numpy() for vector in vectors] if as_numpy else vectors
    if is_one:
        return results[0]
    if as_numpy and size is not None:
        return np.stack(results) if results else np.zeros((0, size), dtype=np.float32)
    return results


def _check_at_least_one(**arguments: int | None) -> None:
    for name, value in arguments.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name}: out of range; got {value!r}; pass a whole number above 0")


def _check_texts(texts: Sequence[Any]) -> None:
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts: item {index} is not a text; got {text!r}; pass strings")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"texts: item {index} holds half a character; got {text!r}; mend it")
