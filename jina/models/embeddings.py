"""What the model makes of some items: one vector each, and one vector a token.

Shapes: N items, H vector size, T tokens of all items, D token vector size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenVectors:
    """Token vectors of several items, end to end.

    Attributes:
        vectors: (T, D) of length 1.
        lengths: tokens of each item.
    """

    vectors: Tensor
    lengths: list[int]

    def __len__(self) -> int:
        return len(self.lengths)

    def part(self, start: int, stop: int) -> "TokenVectors":
        """Return the items from `start` to before `stop`; their vectors are a view."""
        first = sum(self.lengths[:start])
        lengths = self.lengths[start:stop]
        return TokenVectors(self.vectors[first : first + sum(lengths)], lengths)

    def take(self, places: Sequence[int]) -> "TokenVectors":
        """Return the items at some places, which may repeat."""
        items = self.vectors.split(self.lengths)
        return TokenVectors(
            torch.cat([items[place] for place in places]), [self.lengths[p] for p in places]
        )


@dataclass(frozen=True)
class Embeddings:
    """Both kinds of vectors of the same items; a kind that nobody wants is `None`.

    Attributes:
        single: (N, H) of length 1.
        multi: N items' token vectors.
    """

    single: Tensor | None
    multi: TokenVectors | None

    def take(self, places: Sequence[int]) -> "Embeddings":
        """Return the items at some places, which may repeat; gradients of repeats add up."""
        return Embeddings(
            None if self.single is None else self.single[list(places)],
            None if self.multi is None else self.multi.take(places),
        )

    def part(self, start: int, stop: int) -> "Embeddings":
        """Return the items from `start` to before `stop`."""
        return Embeddings(
            None if self.single is None else self.single[start:stop],
            None if self.multi is None else self.multi.part(start, stop),
        )
