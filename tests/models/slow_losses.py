"""The losses by their definitions: loops over rows, candidates and tokens, differentiable.

Nothing here is tiled, shared or clever. Scores are lists of rows of 0-dimensional tensors, roles
lists of rows of bools.
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize


def slow_roles(query_contents, candidate_contents, owners):
    """Which candidate is what, as `is_positive` and `is_negative`."""
    positive = [[c < len(owners) and owners[c] == q for c in range(len(candidate_contents))]
                for q in range(len(query_contents))]  # fmt: skip
    negative = []
    for query in query_contents:
        wanted = [
            candidate_contents[p] for p, own in enumerate(owners) if query_contents[own] == query
        ]
        negative.append([content not in [*wanted, query] for content in candidate_contents])
    return positive, negative


def slow_dense(queries, candidates, size):
    """Cosines of the first `size` numbers."""
    short = [[vector[:size] for vector in side] for side in (queries, candidates)]
    return [[(q @ c) / (q.norm() * c.norm()) for c in short[1]] for q in short[0]]


def slow_late(queries, candidates):
    """The best match of each query token, averaged over the query's tokens."""
    return [
        [sum(torch.stack([t @ u for u in c]).max() for t in q) / len(q) for c in candidates]
        for q in queries
    ]


def slow_info_nce(scores, positive, negative, temperature):
    """The loss of each row."""
    losses = []
    for row, is_own, is_rival in zip(scores, positive, negative, strict=True):
        rivals = [(s / temperature).exp() for s, rival in zip(row, is_rival, strict=True) if rival]
        own = [s / temperature for s, is_it in zip(row, is_own, strict=True) if is_it]
        terms = [(s.exp() + sum(rivals)).log() - s for s in own]
        losses.append(sum(terms) / len(terms))
    return losses


def slow_divergence(dense, late, candidate, temperature):
    """KL(dense || late) of each row, over its candidates."""
    losses = []
    for of_dense, of_late, chosen in zip(dense, late, candidate, strict=True):
        p, q = (
            [(s / temperature).exp() for s, is_it in zip(row, chosen, strict=True) if is_it]
            for row in (of_dense, of_late)
        )
        p, q = [a / sum(p) for a in p], [b / sum(q) for b in q]
        losses.append(sum(a * (a / b).log() for a, b in zip(p, q, strict=True)))
    return losses


def slow_cosent(scores, ratings, temperature):
    """The loss of all rated pairs."""
    total = scores[0] * 0 + 1
    for i, better in enumerate(ratings):
        for j, worse in enumerate(ratings):
            if better > worse:
                total = total + ((scores[j] - scores[i]) / temperature).exp()
    return total.log()


@dataclass
class Batch:
    """A random batch, in float64: vectors, contents, owners of positives and perhaps ratings."""

    query_contents: list[int]
    candidate_contents: list[int]
    owners: list[int]
    query_lengths: list[int]
    candidate_lengths: list[int]
    vectors: list[Tensor]  # single of queries and candidates, then tokens of both
    temperature: float
    ratings: list[float] | None = None

    @property
    def is_apart(self):
        """Whether all token vectors of queries point away from those of candidates."""
        return bool((self.vectors[2] @ self.vectors[3].T).max() < 0)


def unit_vectors(generator, count, size, centre=None):
    """Draw vectors of length 1 that float32 can hold."""
    vectors = torch.randn(count, size, generator=generator, dtype=torch.float64)
    vectors = normalize(vectors if centre is None else 0.3 * vectors + centre, dim=1)
    return vectors.float().double()


def random_batch(seed, *, rated=False, size=12, token_size=6):
    """Draw 1 to 6 queries with 1 to 3 positives, hard negatives and contents that repeat.

    Every fourth batch has queries whose tokens have a negative cosine with all others.
    """
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)  # noqa: S311
    contents = draw.choice([4, 9, 10**9])
    count = draw.randint(2 if rated else 1, 6)
    owners = [row for row in range(count) for _ in range(1 if rated else draw.randint(1, 3))]
    candidates = len(owners) + (0 if rated else draw.randint(1, 5))
    lengths = [[draw.randint(1, 5) for _ in range(side)] for side in (count, candidates)]
    centre = 3 * torch.eye(1, token_size, dtype=torch.float64) if seed % 4 == 0 else None
    sides = zip(lengths, (centre, None if centre is None else -centre), strict=True)
    return Batch(
        [draw.randrange(contents) for _ in range(count)],
        [draw.randrange(contents) for _ in range(candidates)],
        owners,
        *lengths,
        [unit_vectors(generator, side, size) for side in (count, candidates)]
        + [unit_vectors(generator, sum(side), token_size, middle) for side, middle in sides],
        draw.choice([0.05, 0.1, 1.0]),
        [draw.choice([0.0, 1.5, 4.0]) for _ in owners] if rated else None,
    )


def slow_loss(batch, weights, sizes, *, symmetric, vectors, temperature):
    """The whole loss of a batch, of vectors and a temperature in its place."""
    positive, negative = slow_roles(batch.query_contents, batch.candidate_contents, batch.owners)
    count = len(batch.owners)

    def ranking(scores):
        if batch.ratings is not None:
            own = [scores[row][row] for row in range(count)]
            return slow_cosent(own, batch.ratings, temperature)
        there = mean(slow_info_nce(scores, positive, negative, temperature))
        if not symmetric:
            return there
        turned = [turn(matrix, count) for matrix in (scores, positive, negative)]
        return (there + mean(slow_info_nce(*turned, temperature))) / 2

    dense = late = None
    if weights.single or weights.kl:
        dense = [slow_dense(*vectors[:2], size) for size in sizes]
    if weights.multi or weights.kl:
        late = slow_late(
            vectors[-2].split(batch.query_lengths), vectors[-1].split(batch.candidate_lengths)
        )
    total = 0
    if weights.single:
        total = total + weights.single * mean([ranking(scores) for scores in dense])
    if weights.multi:
        total = total + weights.multi * ranking(late)
    if weights.kl:
        either = [[a or b for a, b in zip(*row, strict=True)]
                  for row in zip(positive, negative, strict=True)]  # fmt: skip
        total = total + weights.kl * mean(slow_divergence(dense[-1], late, either, temperature))
    return total


def mean(values):
    return sum(values) / len(values)


def turn(matrix, count):
    """The first `count` columns as rows."""
    return [[row[column] for row in matrix] for column in range(count)]
