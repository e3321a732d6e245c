"""Score matrices in tiles of rows, and the way back from their gradient to the vectors.

    vectors ─ tile(rows) ─► scores (R, C) ─ a loss ─► gradient (R, C) ─ add_gradient ─► vectors

A whole matrix of a large batch doesn't fit in memory, nor do the graphs behind it. So a tile is
computed without one, and its gradient is added to the vectors' by hand.

Shapes: N rows, C columns, R rows of a tile, H vector size, T tokens, D token vector size.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from jina.models.embeddings import TokenVectors

SHORTEST = 1e-12  # of a vector that is divided by its length
SIMILARITIES = 2**21  # token similarities that are in memory at once
QUERY_TOKENS = 2**13  # of them from so many query tokens
MATCHES = 2**22  # places of matching tokens that are in memory at once


class DenseScores:
    """Cosines of single vectors and of their leading numbers (Matryoshka, arXiv 2205.13147).

    All sizes come out of one pass: the product of the first 256 numbers is that of the first 128
    plus that of the next 128.

    Args:
        rows: (N, H) vectors.
        columns: (C, H) vectors.
        sizes: how many leading numbers count, in rising order.
        gradients: where the gradients of rows and columns are added up, of the same shapes.
    """

    def __init__(
        self, rows: Tensor, columns: Tensor, sizes: Sequence[int], gradients: Sequence[Tensor] = ()
    ) -> None:
        self.rows, self.columns, self.sizes, self.gradients = rows, columns, sizes, gradients
        self._blocks = [slice(*ends) for ends in pairwise([0, *sizes])]
        self._shrink = [self._inverse_lengths(vectors) for vectors in (rows, columns)]

    def _inverse_lengths(self, vectors: Tensor) -> list[Tensor]:
        """Return 1 / length of each vector's leading numbers, for each size."""
        lengths = (torch.linalg.vector_norm(vectors[:, block], dim=1) for block in self._blocks)
        return [sq.sqrt().clamp(min=SHORTEST).reciprocal()
                for sq in accumulate(length.square() for length in lengths)]  # fmt: skip

    def tile(self, start: int, stop: int) -> Iterator[Tensor]:
        """Yield the (R, C) cosines of some rows with all columns, for each size."""
        gram = self.rows.new_zeros(stop - start, len(self.columns))
        for block, of_rows, of_columns in zip(self._blocks, *self._shrink, strict=True):
            gram = torch.addmm(gram, self.rows[start:stop, block], self.columns[:, block].T)
            yield (gram * of_rows[start:stop, None]).mul_(of_columns)

    def pairs(self, columns: Tensor) -> list[Tensor]:
        """Return the cosine of each row with one column: (N,) for each size."""
        chosen = self.columns[columns]
        products = accumulate((self.rows[:, b] * chosen[:, b]).sum(1) for b in self._blocks)
        return [
            product * of_rows * of_columns[columns]
            for product, of_rows, of_columns in zip(products, *self._shrink, strict=True)
        ]

    def add_gradient(
        self, start: int, stop: int, scores: Sequence[Tensor], gradients: Sequence[Tensor]
    ) -> None:
        """Add what a loss of some rows' scores, for each size, means for the vectors."""
        of_rows, of_columns = self.gradients[0][start:stop], self.gradients[1]
        rows, weights = self.rows[start:stop], torch.zeros_like(scores[0])
        steps = zip(self.sizes, self._blocks, scores, gradients, *self._shrink, strict=True)
        for size, block, score, gradient, row_shrink, column_shrink in reversed(list(steps)):
            row_shrink = row_shrink[start:stop]
            weights += gradient * row_shrink[:, None] * column_shrink
            of_rows[:, block].addmm_(weights, self.columns[:, block])
            of_columns[:, block].addmm_(weights.T, rows[:, block])
            # the cosine doesn't change along the vector itself
            pull = gradient * score
            for gradients_of, vectors, along in (
                (of_rows, rows, pull.sum(1) * row_shrink.square()),
                (of_columns, self.columns, pull.sum(0) * column_shrink.square()),
            ):
                gradients_of[:, :size].addcmul_(vectors[:, :size], along[:, None], value=-1)


class LateScores:
    """Late interaction (ColBERT, arXiv 2004.12832) of packed items, without any padding floor.

    The score of a query and a candidate: for each query token the highest cosine with a token of
    the candidate, averaged over the query's tokens, as Jina V4 trains it. No (N, C, L, L) tensor
    is in memory: candidates are taken a few at a time, those of like length together.

    Args:
        queries: whose tokens look for their match.
        candidates: among whose tokens they look.
        gradients: where the gradients of both are added up.
        by_candidate: rows of a tile are candidates and its columns queries, for the symmetric loss.
    """

    def __init__(
        self,
        queries: TokenVectors,
        candidates: TokenVectors,
        gradients: Sequence[TokenVectors] = (),
        *,
        by_candidate: bool = False,
    ) -> None:
        self.queries, self.candidates, self.gradients = queries, candidates, gradients
        self.by_candidate = by_candidate

    def most_rows(self) -> int:
        """Return how many rows a tile may have for its matches to fit in memory."""
        if self.by_candidate:
            matches = sum(self.queries.lengths)
        else:
            matches = len(self.candidates) * max(self.queries.lengths)
        return max(1, MATCHES // matches)

    def tile(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return some rows' (R, C) scores.

        Returns:
            The scores; and for `add_gradient` the place of the match of each query token in each
            candidate.
        """
        queries, candidates = self._sides(self.queries, self.candidates, start, stop)
        scores = queries.vectors.new_empty(len(queries), len(candidates))
        matches = torch.empty(
            len(candidates), len(queries.vectors), dtype=torch.int32, device=scores.device
        )
        for rows, of_rows, chosen, tokens, is_token in _pieces(queries, candidates):
            part = queries.part(rows.start, rows.stop)
            similarities = candidates.vectors[tokens] @ part.vectors.T  # (n, L, T)
            best, match = similarities.masked_fill_(~is_token[..., None], -torch.inf).max(1)
            scores[rows, chosen] = _averaging(part) @ best.T
            matches[chosen, of_rows] = match.int()
        return (scores.T if self.by_candidate else scores), matches

    def pairs(self, columns: Tensor) -> Tensor:
        """Return the score of each query with one candidate: (N,)."""
        queries = self.queries.vectors.split(self.queries.lengths)
        candidates = self.candidates.vectors.split(self.candidates.lengths)
        best = [(queries[i] @ candidates[c].T).max(1) for i, c in enumerate(columns.tolist())]
        return torch.stack([each.values.mean() for each in best])

    def add_gradient(self, start: int, stop: int, matches: Tensor, gradient: Tensor) -> None:
        """Add what a loss of some rows' scores means for the token vectors."""
        queries, candidates = self._sides(self.queries, self.candidates, start, stop)
        of_queries, of_candidates = self._sides(*self.gradients, start, stop)
        gradient = gradient.T if self.by_candidate else gradient
        for rows, of_rows, chosen, tokens, is_token in _pieces(queries, candidates):
            part = queries.part(rows.start, rows.stop)
            share = gradient[rows, chosen].T @ _averaging(part)  # (n, T), of each query token
            weights = share.new_zeros(*is_token.shape, share.shape[1])  # (n, L, T)
            weights.scatter_(1, matches[chosen, of_rows].long().unsqueeze(1), share.unsqueeze(1))
            weights, tokens = weights.flatten(0, 1), tokens.flatten()
            found = candidates.vectors[tokens]
            of_queries.part(rows.start, rows.stop).vectors.addmm_(weights.T, found)
            of_candidates.vectors.index_add_(0, tokens, weights @ part.vectors)

    def _sides(
        self, queries: TokenVectors, candidates: TokenVectors, start: int, stop: int
    ) -> tuple[TokenVectors, TokenVectors]:
        if self.by_candidate:
            return queries, candidates.part(start, stop)
        return queries.part(start, stop), candidates


def _averaging(queries: TokenVectors) -> Tensor:
    """Return the (N, T) matrix that averages over each query's tokens."""
    lengths = torch.tensor(queries.lengths, device=queries.vectors.device)
    rows = torch.arange(len(lengths), device=lengths.device).repeat_interleave(
        lengths, output_size=len(queries.vectors)
    )
    matrix = queries.vectors.new_zeros(len(lengths), len(rows))
    matrix[rows, torch.arange(len(rows), device=lengths.device)] = 1 / lengths[rows].to(matrix)
    return matrix


def _pieces(
    queries: TokenVectors, candidates: TokenVectors
) -> Iterator[tuple[slice, slice, Tensor, Tensor, Tensor]]:
    """Cut the similarities of all tokens into pieces that fit in memory.

    Yields:
        A slice of queries and that of their T tokens; (n,) candidates of like length; the (n, L)
        places of their tokens; and which of these (n, L) are tokens, and not there because another
        candidate is longer.
    """
    device = candidates.vectors.device
    starts = [0, *accumulate(candidates.lengths)]
    by_length = sorted(range(len(candidates)), key=candidates.lengths.__getitem__, reverse=True)
    first_token = 0
    for rows in _runs(queries.lengths, QUERY_TOKENS):
        num_tokens = sum(queries.lengths[rows])
        of_rows = slice(first_token, first_token + num_tokens)
        first_token += num_tokens
        at = 0
        while at < len(by_length):
            longest = candidates.lengths[by_length[at]]
            count = max(1, SIMILARITIES // (num_tokens * longest))
            chosen = by_length[at : at + count]
            first, length = torch.tensor(
                [[starts[c] for c in chosen], [candidates.lengths[c] for c in chosen]],
                device=device,
            )
            place = torch.arange(longest, device=device)
            is_token = place < length[:, None]
            tokens = first[:, None] + place.where(is_token, 0)
            yield rows, of_rows, torch.tensor(chosen, device=device), tokens, is_token
            at += count


def _runs(lengths: Sequence[int], limit: int) -> Iterator[slice]:
    """Cut neighbours into slices of at most `limit` tokens, or of one item that has more.

    Of short items a slice takes fewer: items times tokens, the averaging matrix, is to fit as well.
    """
    start, total = 0, 0
    for place, length in enumerate(lengths):
        area = (place + 1 - start) * (total + length)
        if place > start and (total + length > limit or area > SIMILARITIES):
            yield slice(start, place)
            start, total = place, 0
        total += length
    if start < len(lengths):
        yield slice(start, len(lengths))
