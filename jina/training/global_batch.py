"""The batch of all processes together, as the loss sees it.

    own vectors, identities, owners ─ gathered ─► queries, candidates, pairing; own part of the rows

Candidates are the positives of all processes, then the hard negatives of all processes.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from jina.models.embeddings import Embeddings, TokenVectors
from jina.models.pairing import Pairing, pair_candidates
from jina.training.distributed import gather_rows, gather_sizes, rank

SIDES = ("query_", "positive_", "negative_")


class BatchError(ValueError):
    """A batch that can't teach anything."""


@dataclass(frozen=True)
class GlobalBatch:
    """What all processes embedded in a step.

    Attributes:
        queries: N of them.
        candidates: C of them.
        pairing: roles of C candidates to N queries.
        ratings: (N,) graded truth, or `None`.
        rows: the queries that are this process's own.
        positives: the positives that are.
    """

    queries: Embeddings
    candidates: Embeddings
    pairing: Pairing
    ratings: Tensor | None
    rows: range
    positives: range

    def refuse_without_negatives(self, *, symmetric: bool) -> None:
        """Check that every row has something to be told apart from.

        Raises:
            BatchError: a row's loss would be zero whatever the model does.
        """
        for name, pairing, is_looked_at in (
            ("queries", self.pairing, True),
            ("positives", self.pairing.reversed(self.pairing.own.shape[1]), symmetric),
        ):
            if is_looked_at and self.ratings is None:
                lonely = (pairing.num_negatives() == 0).nonzero().flatten().tolist()
                if lonely:
                    raise BatchError(
                        f"batch: {name} without any negative; got rows {lonely} whose every "
                        "candidate has the content of a positive; "
                        "raise training.per_device_train_batch_size"
                    )


def gather_batch(batch: dict[str, Any], own: Embeddings) -> GlobalBatch:
    """Bring a step's vectors, identities and ratings of all processes together.

    Args:
        batch: from the collator.
        own: vectors of its queries, positives and hard negatives, in this order.
    """
    nobody = batch["query_identities"][:0]
    identities = [batch.get(f"{side}identities", nobody) for side in SIDES]
    counts = [len(side) for side in identities]
    before = gather_sizes(counts, nobody.device)[: rank()]
    first_query, first_positive = (sum(each[side] for each in before) for side in (0, 1))
    ends = list(accumulate(counts))
    parts = [own.part(end - count, end) for end, count in zip(ends, counts, strict=True)]
    queries, positives, negatives = _gather_vectors(parts)
    ratings = [batch["ratings"]] if "ratings" in batch else []
    elsewhere = batch.get("elsewhere", torch.stack([nobody, nobody], dim=1)).clone()
    elsewhere[:, 0] += first_query
    query_ids, positive_ids, negative_ids, owners, elsewhere, *ratings = gather_rows(
        [*identities, batch["positive_owners"] + first_query, elsewhere, *ratings]
    )
    candidate_ids = torch.cat([positive_ids, negative_ids])
    return GlobalBatch(
        queries=queries,
        candidates=_join(positives, negatives),
        pairing=pair_candidates(query_ids, candidate_ids, owners=owners, elsewhere=elsewhere),
        ratings=ratings[0] if ratings else None,
        rows=range(first_query, first_query + counts[0]),
        positives=range(first_positive, first_positive + counts[1]),
    )


def _gather_vectors(parts: list[Embeddings]) -> list[Embeddings]:
    """Gather the vectors of each side, both kinds in one exchange."""
    singles: list[Any] = [part.single for part in parts if part.single is not None]
    multis: list[Any] = [part.multi.vectors for part in parts if part.multi is not None]
    vectors = gather_rows(singles + multis)
    singles = vectors[: len(singles)] or [None] * len(parts)
    if multis:
        whole = {"dtype": torch.int64, "device": vectors[0].device}
        lengths = gather_rows([torch.tensor(part.multi.lengths, **whole) for part in parts])
        found = zip(vectors[-len(parts) :], lengths, strict=True)
        multis = [TokenVectors(each, length.tolist()) for each, length in found]
    return list(map(Embeddings, singles, multis or [None] * len(parts)))


def _join(first: Embeddings, second: Embeddings) -> Embeddings:
    if not (len(second.single) if second.single is not None else len(second.multi)):
        return first
    single = multi = None
    if first.single is not None:
        single = torch.cat([first.single, second.single])
    if first.multi is not None:
        multi = TokenVectors(
            torch.cat([first.multi.vectors, second.multi.vectors]),
            first.multi.lengths + second.multi.lengths,
        )
    return Embeddings(single, multi)
