"""Which rows form a batch: none that would be each other's false negatives, if it can be helped.

    rows of one group, shuffled ─ each to an empty batch without its identities ─► full batches
    batches of all groups, shares by size or temperature ─ shuffled together ─► the epoch
    each batch ─ dealt by length ─► as many rows, and about as many tokens, for every process

An epoch is a function of (seed, epoch) and the data alone: equal for any number of loader workers,
and resumable by position.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from jina.data.row_index import RowIndex


@dataclass(frozen=True)
class RowIdentities:
    """Content hashes of each row's query and positives, end to end.

    Attributes:
        values: (M,) int64.
        offsets: (rows + 1,) int64; row i has `values[offsets[i]:offsets[i + 1]]`.
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of_index(cls, index: RowIndex) -> "RowIdentities":
        """Collect query and positives of each row."""
        positives = index.positives
        offsets = positives.offsets + np.arange(len(index) + 1)
        values = np.empty(offsets[-1], dtype=np.int64)
        is_query = np.zeros(len(values), dtype=bool)
        is_query[offsets[:-1]] = True
        values[is_query] = index.queries.identities
        values[~is_query] = positives.identities
        return cls(values, offsets)

    def of(self, row: int) -> set[int]:
        """Return the identities of one row."""
        return set(self.values[self.offsets[row] : self.offsets[row + 1]].tolist())


class ContrastiveBatchSampler(Sampler[list[int]]):
    """Yield lists of row numbers, all of one group; a rest too short for a batch is left out.

    No two rows of a batch share an identity unless the data leaves no choice; the loss masks those.

    Args:
        identities: of every row.
        groups: (rows,) number of the group of each row, such as its source; one for all mixes them.
        batch_size: rows of a batch, of all processes together.
        seed: of the shuffling.
        temperature: 1 draws groups by their size; larger evens them out, with shares
            proportional to size ** (1 / temperature) (Conneau et al., arXiv 1911.02116). Small
            groups then repeat within an epoch and large ones aren't used up; its length stays.
        share: number of this process and of all, which divide each batch evenly among them.
        costs: (rows,) tokens of each row, by which that is done; without them rows take turns.
    """

    def __init__(
        self,
        identities: RowIdentities,
        groups: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        temperature: float = 1.0,
        share: tuple[int, int] = (0, 1),
        costs: np.ndarray | None = None,
    ) -> None:
        self.identities = identities
        self.share, self.costs = share, costs
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.rows_of = [np.flatnonzero(groups == group) for group in np.unique(groups)]
        self.batches_of = _shares([len(r) // batch_size for r in self.rows_of], temperature)

    @classmethod
    def of_index(
        cls,
        index: RowIndex,
        *,
        batch_size: int,
        seed: int,
        by_source: bool = False,
        **others: Any,
    ) -> "ContrastiveBatchSampler":
        """Build the sampler of a data set: a batch has one task, and rows with a score or without.

        With `by_source` it has one source, too. The rest is as for the class itself.
        """
        groups = index.tasks.astype(np.int64) * 2 + index.is_rated
        if by_source:
            groups = groups * len(index.source_names) + index.sources
        return cls(
            RowIdentities.of_index(index),
            groups,
            batch_size=batch_size,
            seed=seed,
            **others,
        )

    @property
    def left_out(self) -> int:
        """Rows of groups that don't fill one batch, which no epoch uses."""
        return sum(len(rows) for rows in self.rows_of if len(rows) < self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return sum(self.batches_of)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the current epoch."""
        random = np.random.default_rng([self.seed, self.epoch])
        batches: list[list[int]] = []
        for rows, wanted in zip(self.rows_of, self.batches_of, strict=True):
            found: list[list[int]] = []
            while len(found) < wanted:  # a group with more than its own share starts again
                found += self._deal(random.permutation(rows).tolist(), random)
            batches += found[:wanted]
        yield from (self._own_share(batches[i]) for i in random.permutation(len(batches)))

    def _own_share(self, batch: list[int]) -> list[int]:
        """Return this process's rows: each goes, longest first, where the fewest tokens are."""
        own, count = self.share
        costs = np.zeros(len(batch)) if self.costs is None else self.costs[batch]
        lightest = [(0.0, 0, process) for process in range(count)]
        shares: list[list[int]] = [[] for _ in range(count)]
        for place in np.argsort(-costs, kind="stable").tolist():
            tokens, rows, process = heappop(lightest)
            shares[process].append(place)
            if rows + 1 < len(batch) // count:  # all get as many rows
                heappush(lightest, (tokens + costs[place], rows + 1, process))
        return [batch[place] for place in sorted(shares[own])]

    def _deal(self, rows: list[int], random: np.random.Generator) -> list[list[int]]:
        """Deal shuffled rows of one group into full batches.

        Rows with the most common identities are dealt first, each to one of the emptiest batches
        that don't hold an identity of its own yet. What fits nowhere fills the last gaps.
        """
        own = {row: self.identities.of(row) for row in rows}
        counts = Counter(identity for identities in own.values() for identity in identities)
        rows = sorted(rows, key=lambda row: -max(counts[identity] for identity in own[row]))
        batches: list[list[int]] = [[] for _ in range(len(rows) // self.batch_size)]
        held: list[set[int]] = [set() for _ in batches]
        # (rows, random order, batch): the emptiest comes first, and equals in no fixed order
        heap = [(0, key, i) for i, key in enumerate(random.random(len(batches)).tolist())]
        heapify(heap)
        misfits = []
        for row, key in zip(rows, random.random(len(rows)).tolist(), strict=True):
            passed_over = []
            while heap and not own[row].isdisjoint(held[heap[0][2]]):
                passed_over.append(heappop(heap))
            if heap:
                size, _, i = heap[0]
                batches[i].append(row)
                held[i] |= own[row]
                if size + 1 < self.batch_size:
                    heapreplace(heap, (size + 1, key, i))
                else:
                    heappop(heap)
            else:
                misfits.append(row)
            for entry in passed_over:
                heappush(heap, entry)
        # an identity of more rows than batches can't be kept apart, and isn't tried again
        misfits.sort(key=lambda row: max(counts[i] for i in own[row]) > len(batches))
        for b, batch in enumerate(batches):
            while len(batch) < self.batch_size:
                row = misfits.pop(0)
                if max(counts[i] for i in own[row]) <= len(batches):
                    row = _make_room(row, b, batches, held, own)
                batch.append(row)
                held[b] |= own[row]
        return batches


def _make_room(
    row: int, gap: int, batches: list[list[int]], held: list[set[int]], own: dict[int, set[int]]
) -> int:
    """Put a row in the place of another that fits the gap, and return that other; or the row."""
    for b, batch in enumerate(batches):
        for place, other in enumerate(batch):
            is_free = own[row].isdisjoint(held[b] - own[other])
            if b != gap and is_free and own[other].isdisjoint(held[gap]):
                batch[place] = row
                held[b] = held[b] - own[other] | own[row]
                return other
    return row


def _shares(sizes: Sequence[int], temperature: float) -> list[int]:
    """Divide the sum of sizes by size ** (1 / temperature), largest remainders first."""
    weights = np.array(sizes, dtype=float) ** (1 / temperature)
    exact = weights / weights.sum() * sum(sizes) if sum(sizes) else weights
    shares = np.floor(exact).astype(int)
    for group in np.argsort(shares - exact, kind="stable")[: sum(sizes) - shares.sum()]:
        shares[group] += 1
    return shares.tolist()
