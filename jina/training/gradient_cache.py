"""Embeddings of a batch of any size, whose graphs needn't be in memory together.

    batch ─ micro-batches ─ no graph ─► vectors ─ loss of all of them ─► gradient of the vectors
                └── again, with graph and the same dropout ◄────────────────────┘

Gradient caching (Gao et al., arXiv 2101.06983): the loss sees the whole batch, and its gradient
goes back through one micro-batch at a time. A micro-batch holds so many tokens, not so many items.
The last graphs are kept, so a batch that fits runs once. To the caller it is all one autograd
graph: vectors in front, the adapter's parameters behind.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from jina.models.embeddings import Embeddings, TokenVectors
from jina.models.modeling_jina_embeddings_v4 import JinaEmbeddingsV4Model
from jina.models.packing import PackedBatch

Run = Callable[[PackedBatch], tuple[Tensor, ...]]


def embed(
    model: JinaEmbeddingsV4Model,
    batch: PackedBatch,
    task: str,
    *,
    single: bool = True,
    multi: bool = True,
    tokens_per_micro_batch: int | None = None,
    tokens_with_graph: int | None = None,
    context: Callable[[], Any] = nullcontext,
) -> Embeddings:
    """Embed a packed batch; its images go through the vision tower once.

    Args:
        model: in training, one adapter of which may take gradients.
        batch: N sequences on the model's device.
        task: the adapter.
        single: make single vectors.
        multi: make token vectors.
        tokens_per_micro_batch: the most tokens of a forward pass, but for a single longer item;
            `None` for all in one. Of the vision tower's passes, too.
        tokens_with_graph: the tokens whose graphs are kept from the first pass on; one
            micro-batch's if `None`. More takes memory and saves time.
        context: what forward passes run in, such as autocast.

    Returns:
        Vectors of all N sequences, in order.
    """
    with context():
        batch = model.with_vision_features(batch, max_tokens=tokens_per_micro_batch)
    if not multi:
        batch = batch.without_unpooled_ends()
    pieces = [batch.part(*ends) for ends in micro_batches(batch.lengths, tokens_per_micro_batch)]

    def run(piece: PackedBatch) -> tuple[Tensor, ...]:
        """Return the vectors of a micro-batch, of each kind that is asked for."""
        with context():
            states = model.hidden_states(piece, task)
            vectors = [model.single_vectors(states, piece)] if single else []
            return (*vectors, model.multi_vectors(states)) if multi else tuple(vectors)

    if torch.is_grad_enabled():
        limit = tokens_with_graph or tokens_per_micro_batch or sum(batch.lengths)
        anchor = torch.zeros((), requires_grad=True)  # ties the vectors to autograd's graph
        vectors = list(_Replayed.apply(run, pieces, kept_graphs(pieces, limit), anchor))
    else:
        vectors = [torch.cat(parts) for parts in zip(*map(run, pieces), strict=True)]
    return Embeddings(
        single=vectors.pop(0) if single else None,
        multi=TokenVectors(vectors.pop(), batch.lengths) if multi else None,
    )


def micro_batches(lengths: Sequence[int], limit: int | None) -> Iterator[tuple[int, int]]:
    """Cut neighbouring items into runs of at most `limit` tokens: first item, and end."""
    start, total = 0, 0
    for item, length in enumerate(lengths):
        if limit is not None and item > start and total + length > limit:
            yield start, item
            start, total = item, 0
        total += length
    yield start, len(lengths)


def kept_graphs(pieces: Sequence[PackedBatch], limit: int) -> int:
    """Return how many of the last micro-batches have at most `limit` tokens, at least one."""
    total = 0
    for count, piece in enumerate(reversed(pieces)):
        total += len(piece.input_ids)
        if total > limit and count > 0:
            return count
    return len(pieces)


class _Replayed(torch.autograd.Function):
    """Vectors of all micro-batches, whose backward pass runs those again that kept no graph."""

    @staticmethod
    def forward(
        ctx: Any, run: Run, pieces: list[PackedBatch], kept: int, anchor: Tensor
    ) -> tuple[Tensor, ...]:
        """Run each piece, the last `kept` of them with their graphs."""
        ctx.run, ctx.pieces, ctx.graphs, ctx.random_states = run, pieces, [], []
        found = []
        for place, piece in enumerate(pieces):
            if place < len(pieces) - kept:
                ctx.random_states.append(_random_state(piece.input_ids.device))
                found.append(run(piece))
            else:
                with torch.enable_grad():
                    vectors = run(piece)
                ctx.graphs.append(vectors)
                found.append([vector.detach() for vector in vectors])
        ctx.sizes = [[len(vector) for vector in vectors] for vectors in found]
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        """Add up the parameters' gradients, piece by piece."""
        sizes = zip(*ctx.sizes, strict=True)
        split = [g.split(list(size)) for g, size in zip(gradients, sizes, strict=True)]
        of_pieces = list(zip(*split, strict=True))
        while ctx.graphs:  # first, to be rid of them
            torch.autograd.backward(ctx.graphs.pop(), of_pieces.pop())
        for piece, state, own in zip(
            ctx.pieces[: len(of_pieces)], ctx.random_states, of_pieces, strict=True
        ):
            device = piece.input_ids.device
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                _set_random_state(device, state)
                with torch.enable_grad():
                    vectors = ctx.run(piece)
                torch.autograd.backward(vectors, own)
        return None, None, None, None


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_gpu


def _set_random_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
