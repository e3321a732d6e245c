"""Which candidate is what to which query: a positive, a negative, or neither.

    identities of queries and candidates, owners of positives ─► Pairing ─ tile(rows) ─► two masks

The masks of a large batch would be far larger than its vectors, so they are made for a few rows at
a time out of what is known in little: which contents there are and which of them belong together.

Shapes: N queries, P positives, C candidates (all positives, then all hard negatives), R rows of a
tile.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Roles(NamedTuple):
    """The roles of all columns to some rows.

    Attributes:
        is_positive: (R, C) bool, the row's own positives.
        is_negative: (R, C) bool, what the row is pushed away from. What is neither has the content
            of the row or of one of its positives, and would be a false negative.
    """

    is_positive: Tensor
    is_negative: Tensor


@dataclass(frozen=True)
class Pairing:
    """The roles of columns to rows, for any tile of rows.

    Attributes:
        row_contents: (N,) int64, equal numbers for equal contents.
        column_contents: (C,) int64, in a count of its own.
        own: (2, P) int64, row and column of each positive pair.
        alike: (2, M) int64, content of a row and of a column that are no negatives of each other.
        num_contents: how many contents rows and columns have.
    """

    row_contents: Tensor
    column_contents: Tensor
    own: Tensor
    alike: Tensor
    num_contents: tuple[int, int]

    def __len__(self) -> int:
        return len(self.row_contents)

    def tile(self, start: int, stop: int) -> Roles:
        """Return the roles of all columns to the rows from `start` to before `stop`."""
        device, columns = self.own.device, len(self.column_contents)
        is_positive = torch.zeros(stop - start, columns, dtype=torch.bool, device=device)
        row, column = self.own[:, (self.own[0] >= start) & (self.own[0] < stop)]
        is_positive[row - start, column] = True

        contents, of_row = self.row_contents[start:stop].unique(return_inverse=True)
        place = torch.full((self.num_contents[0],), -1, device=device)
        place[contents] = torch.arange(len(contents), device=device)
        here = place[self.alike[0]]
        is_alike = torch.zeros(len(contents), self.num_contents[1], dtype=torch.bool, device=device)
        is_alike[here[here >= 0], self.alike[1, here >= 0]] = True
        return Roles(is_positive, ~is_alike[of_row][:, self.column_contents])

    def num_negatives(self) -> Tensor:
        """Return how many negatives each row has: (N,) int64."""
        of_content = self.column_contents.bincount(minlength=self.num_contents[1])
        left_out = torch.zeros_like(self.row_contents.bincount(minlength=self.num_contents[0]))
        left_out.index_add_(0, self.alike[0], of_content[self.alike[1]])
        return len(self.column_contents) - left_out[self.row_contents]

    def reversed(self, num_positives: int) -> "Pairing":
        """Return the roles of the queries to the positives, for the symmetric loss."""
        return Pairing(
            self.column_contents[:num_positives],
            self.row_contents,
            self.own.flip(0),
            self.alike.flip(0),
            self.num_contents[::-1],
        )


def pair_candidates(
    query_identities: Tensor,
    candidate_identities: Tensor,
    *,
    owners: Tensor,
    elsewhere: Tensor | None = None,
) -> Pairing:
    """Sort out positives, negatives and false negatives of a batch by identity, not similarity.

    A candidate is a false negative of a query if it has the content of the query itself, or of one
    of that query's positives, in whichever row of the batch, or elsewhere, the two met.

    Args:
        query_identities: (N,) int64 content hashes.
        candidate_identities: (C,) int64 content hashes, positives first.
        owners: (P,) int64, the row each positive belongs to.
        elsewhere: (E, 2) int64, a row and the content hash of a positive of its query that no row
            of the batch need have.
    """
    known, rows = query_identities.unique(return_inverse=True)
    contents, columns = candidate_identities.unique(return_inverse=True)
    # a query and its positives, wherever they met; and a query that is a candidate, too
    queries = torch.arange(len(known), device=known.device)
    right = [torch.stack([rows[owners], columns[: len(owners)]]), _among(contents, queries, known)]
    if elsewhere is not None:
        owner, identities = elsewhere.T.contiguous()
        right.append(_among(contents, rows[owner], identities))
    alike = torch.cat(right, dim=1)
    own = torch.stack([owners, torch.arange(len(owners), device=owners.device)])
    sizes = (len(known), len(contents))
    return Pairing(rows, columns, own, alike.unique(dim=1), sizes)


def _among(contents: Tensor, queries: Tensor, identities: Tensor) -> Tensor:
    """Pair queries with the contents that have their identities, where there are such: (2, E)."""
    places = torch.searchsorted(contents, identities).clamp(max=len(contents) - 1)
    return torch.stack([queries, places])[:, contents[places] == identities]
