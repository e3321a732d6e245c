"""The one way from items to vectors: for evaluation, mining, search and export of embeddings.

    items ─ a shard at a time ─ by length ─ token-budgeted batches ─ model ─► EmbeddedBatch, …

Items come and vectors go in the caller's order. Of a collection only one shard is in memory, of its
pictures only those of the batch at hand and the next. Several processes share the batches of each
shard (`processes`), and each gets all vectors.

A vector doesn't depend on what it was batched with: batches are filled up to a multiple of
`UNIT` tokens, because matrix kernels compute the rows of a short remainder in another order. On a
CPU vectors are so equal to the last bit, whatever the sizes of batches and shards.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from jina.data.image_loading import image_size, load_image
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.packing import PackedBatch, TokenSequence, pack
from jina.models.placement import tokens_per_pass
from jina.models.processing_jina_embeddings_v4 import PROMPTS
from jina.retrieval.processes import Processes

MAX_TEXT_TOKENS = 8192
ITEMS_PER_SHARD = 512
UNIT = 16

Given = TypeVar("Given")
Made = TypeVar("Made")


class EmbeddingError(ValueError):
    """An item that can't be embedded, as `<where>: <what is wrong>; got …; <what to do>`."""


@dataclass(frozen=True)
class EmbeddingItem:
    """One thing to embed: a text, an image, or both.

    Attributes:
        text: its text.
        image: a path, or an image in memory.
        root: the folder that a relative path starts from and no path may leave; `None` trusts any.
        where: names the item in messages, such as `train.jsonl:7: positive`.
    """

    text: str | None = None
    image: str | Path | Image.Image | None = None
    root: Path | None = None
    where: str = "item"


@dataclass(frozen=True)
class EmbeddedBatch:
    """Vectors of consecutive items, in the caller's order.

    Attributes:
        start: number of the first item, from 0.
        single: (n, H) float32, of length 1.
        multi: one (tokens, D) float32 array an item, rows of length 1; `None` unless asked for.
    """

    start: int
    single: np.ndarray
    multi: list[np.ndarray] | None

    def __len__(self) -> int:
        return len(self.single)


class _Vectors(NamedTuple):
    """Vectors of one item."""

    single: np.ndarray
    multi: np.ndarray | None


class Embedder:
    """Turns items into vectors with one adapter of a model.

    Args:
        model: where it is, with the types it has.
        task: the adapter, which also decides the prompts.
        multi: whether multi vectors are wanted, too.
        max_text_tokens: longer texts are cut; images never are.
        tokens_per_batch: of one forward pass; a longer item has a pass of its own. If `None`, as
            many as suit the model's device.
        items_per_shard: how many items are sorted by length and in memory together.
        processes: that share the work; by default those the launcher started.
    """

    def __init__(
        self,
        model: JinaEmbeddingsV4Model,
        *,
        task: str,
        multi: bool = False,
        max_text_tokens: int = MAX_TEXT_TOKENS,
        tokens_per_batch: int | None = None,
        items_per_shard: int = ITEMS_PER_SHARD,
        processes: Processes | None = None,
    ) -> None:
        if tokens_per_batch is None:
            tokens_per_batch = tokens_per_pass(model.device)
        sizes = {
            "max_text_tokens": max_text_tokens,
            "tokens_per_batch": tokens_per_batch,
            "items_per_shard": items_per_shard,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name}: out of range; got {size}; pass a number above 0")
        if task not in model.config.task_names:
            known = ", ".join(model.config.task_names)
            raise ValueError(f"task: unknown; got {task!r}; choose one of {known}")
        self.model, self.processor, self.task, self.multi = model, model.processor, task, multi
        self.max_text_tokens = max_text_tokens
        self.tokens_per_batch = tokens_per_batch
        self.items_per_shard = items_per_shard
        self.processes = processes or Processes.current()

    def embed(
        self, items: Iterable[EmbeddingItem], role: str, *, total: int | None = None
    ) -> Iterator[EmbeddedBatch]:
        """Embed items, a shard at a time.

        Args:
            items: any number of them; read as they are needed.
            role: `query` or `passage`, which decides the prompt before a text without image.
            total: how many there are, for the progress bar; found out where they have a length.

        Raises:
            EmbeddingError: an item without content, or with an image that can't be used.
        """
        if role not in PROMPTS:
            raise ValueError(f"role: unknown; got {role!r}; use {' or '.join(PROMPTS)}")
        total = len(items) if total is None and isinstance(items, Sized) else total
        is_hidden = None if self.processes.is_first else True  # None: shown on a terminal
        stream, start = iter(items), 0
        with tqdm(
            total=total, desc=f"{role} items", unit="", leave=False, disable=is_hidden
        ) as bar:
            while shard := list(islice(stream, self.items_per_shard)):
                yield self._embed_shard(shard, role, start, bar.update)
                start += len(shard)

    def _embed_shard(
        self, items: list[EmbeddingItem], role: str, start: int, advance: Callable[[int], object]
    ) -> EmbeddedBatch:
        """Embed what this process is dealt of a shard, and get the rest from the others."""

        def embed_mine() -> dict[int, _Vectors]:
            """Return the vectors of the items this process is dealt, by place."""
            batches = self._batches([self._length(item, role) for item in items])
            mine = self.processes.mine(batches)
            found: dict[int, _Vectors] = {}
            for batch, packed in zip(mine, _prefetched(mine, load), strict=True):
                found |= zip(batch, self._forward(packed, len(batch)), strict=True)
                advance(len(batch) * self.processes.count)
            return found

        def load(batch: list[int]) -> PackedBatch:
            """Read the items of a batch."""
            return self._pack([self._sequence(items[i], role) for i in batch])

        found: dict[int, _Vectors] = {}
        for part in self.processes.exchange_made(embed_mine, failure=EmbeddingError):
            found |= part
        ordered = [found[i] for i in range(len(items))]
        single = np.stack([vectors.single for vectors in ordered])
        multi = [vectors.multi for vectors in ordered] if self.multi else None
        return EmbeddedBatch(start, single, multi)

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Deal items into batches within the token budget, longest first."""
        batches: list[list[int]] = []
        room = 0
        for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            if lengths[item] > room:
                batches.append([])
                room = self.tokens_per_batch
            batches[-1].append(item)
            room -= lengths[item]
        return batches

    def _length(self, item: EmbeddingItem, role: str) -> int:
        """Return about how many tokens an item has, of an image from its header."""
        if item.image is None:
            return len(self._sequence(item, role))
        with _named(item):
            size = image_size(item.image, root=item.root)
            vision = self.processor.image_settings.token_count(*size)
        beside = 0 if item.text is None else min(len(item.text), self.max_text_tokens - vision)
        return vision + self.processor.image_prompt_tokens + max(beside, 0)

    def _sequence(self, item: EmbeddingItem, role: str) -> TokenSequence:
        if item.text is None and item.image is None:
            raise EmbeddingError(f"{item.where}: has neither text nor image; give it one")
        with _named(item):
            image = None if item.image is None else load_image(item.image, root=item.root)
            return self.processor.sequence(
                item.text, image, task=self.task, prompt_name=role, max_length=self.max_text_tokens
            )

    def _pack(self, sequences: list[TokenSequence]) -> PackedBatch:
        """Pack sequences with a filler behind them, up to a multiple of `UNIT` tokens."""
        missing = -sum(map(len, sequences)) % UNIT
        if missing:
            ids = torch.full((missing,), self.processor.pad_token_id)
            positions = torch.arange(missing).expand(3, -1)
            sequences = [*sequences, TokenSequence(ids, positions, (0, missing))]
        return pack(sequences)

    def _forward(self, batch: PackedBatch, count: int) -> list[_Vectors]:
        """Embed the first `count` sequences of a batch; behind them is the filler."""
        with self.model.inference():
            batch = batch.to(self.model.device)
            states = self.model.hidden_states(batch, self.task)
            single = self.model.single_vectors(states, batch)[:count].float().cpu().numpy()
            if not self.multi:
                return [_Vectors(vector, None) for vector in single]
            tokens = self.model.multi_vectors(states).float().cpu().split(batch.lengths)
        multi = [vectors.numpy().copy() for vectors in tokens[:count]]  # frees the batch's own
        return [_Vectors(*pair) for pair in zip(single, multi, strict=True)]


@contextmanager
def _named(item: EmbeddingItem) -> Iterator[None]:
    """Put the item's name before whatever is said of its image."""
    try:
        yield
    except ValueError as error:
        raise EmbeddingError(f"{item.where}: {error}") from error


def _prefetched(work: Sequence[Given], load: Callable[[Given], Made]) -> Iterator[Made]:
    """Load each piece of work in a thread, while the one before is computed with."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        waiting: Future[Made] | None = None
        for piece in work:
            coming = thread.submit(load, piece)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()
