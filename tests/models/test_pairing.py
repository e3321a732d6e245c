"""Roles of candidates: positives, negatives and false negatives, by identity."""

import random

import pytest
import torch

from jina.models.pairing import pair_candidates
from tests.models.slow_losses import random_batch, slow_roles, turn

BATCHES = [random_batch(seed) for seed in range(60)]


def pair(queries, candidates, owners):
    return pair_candidates(
        torch.tensor(queries), torch.tensor(candidates), owners=torch.tensor(owners)
    )


def pairing_of(batch):
    return pair(batch.query_contents, batch.candidate_contents, batch.owners)


def roles(pairing, start=0, stop=None):
    tile = pairing.tile(start, len(pairing) if stop is None else stop)
    return tile.is_positive.tolist(), tile.is_negative.tolist()


def negatives(queries, candidates, owners):
    """The contents that each query is pushed away from, by the product."""
    _, masks = roles(pair(queries, candidates, owners))
    return [[c for c, is_one in zip(candidates, mask, strict=True) if is_one] for mask in masks]


def test_roles_follow_their_definition():
    for batch in BATCHES:
        expected = slow_roles(batch.query_contents, batch.candidate_contents, batch.owners)
        assert roles(pairing_of(batch)) == expected
    without = [
        slow_roles(range(100, 100 + len(b.query_contents)), b.candidate_contents, b.owners)
        for b in BATCHES
    ]
    assert without != [roles(pairing_of(batch)) for batch in BATCHES]  # queries' contents count


@pytest.mark.parametrize("seed", range(5))
def test_identities_may_be_any_64_bit_numbers_in_any_order(seed):
    draw, batch = random.Random(seed), BATCHES[seed]  # noqa: S311
    known = sorted({*batch.query_contents, *batch.candidate_contents})
    hashes = dict(zip(known, (draw.randrange(-(2**63), 2**63) for _ in known), strict=True))
    hashed = pair(
        [hashes[c] for c in batch.query_contents],
        [hashes[c] for c in batch.candidate_contents],
        batch.owners,
    )
    assert roles(hashed) == roles(pairing_of(batch))


def test_tiles_are_rows_of_the_whole():
    for batch in BATCHES:
        pairing = pairing_of(batch)
        positive, negative = roles(pairing)
        for start in range(len(pairing) + 1):
            for stop in range(start, len(pairing) + 1):
                assert roles(pairing, start, stop) == (positive[start:stop], negative[start:stop])


def test_the_way_back_turns_the_roles_of_queries_and_positives():
    for batch in BATCHES:
        pairing, count = pairing_of(batch), len(batch.owners)
        back = pairing.reversed(count)
        assert len(back) == count
        assert roles(back) == tuple(turn(matrix, count) for matrix in roles(pairing))


def test_negatives_are_counted_without_laying_them_out():
    for batch in BATCHES:
        pairing = pairing_of(batch)
        for each in (pairing, pairing.reversed(len(batch.owners))):
            assert each.num_negatives().tolist() == [sum(row) for row in roles(each)[1]]
    assert any((pairing_of(batch).num_negatives() == 0).any() for batch in BATCHES)


def test_owners_need_no_order():
    found = roles(pair([1, 2, 3], [11, 12, 13, 14], [2, 0, 1]))
    assert found == slow_roles([1, 2, 3], [11, 12, 13, 14], [2, 0, 1])
    assert found[0] != roles(pair([1, 2, 3], [11, 12, 13, 14], [0, 1, 2]))[0]


# ---- derived by hand -----------------------------------------------------------------------


def test_every_other_passage_and_every_hard_negative_is_a_negative():
    assert negatives([1, 2], [7, 8, 20, 21], [0, 1]) == [[8, 20, 21], [7, 20, 21]]


def test_a_copy_of_the_positive_is_no_negative():
    assert negatives([1, 2], [7, 7, 8], [0, 1]) == [[8], [8]]


def test_a_copy_of_the_query_is_no_negative():
    assert negatives([7, 6], [5, 4, 7, 8], [0, 1]) == [[4, 8], [5, 7, 8]]


def test_what_another_row_with_the_same_query_found_is_no_negative():
    assert negatives([1, 1, 2], [7, 8, 9], [0, 1, 2]) == [[9], [9], [7, 8]]
    assert negatives([1, 1, 2], [7, 8, 9, 8], [0, 1, 2])[0] == [9]


def test_positives_of_one_query_are_no_negatives_of_it():
    assert negatives([1, 2], [5, 6, 7, 8], [0, 0, 0, 1]) == [[8], [5, 6, 7]]


def test_likeness_goes_no_further_than_one_step():
    """Queries 1 and 2 share the positive 7; the other positive of 2 is a negative of 1."""
    assert negatives([1, 2], [7, 7, 8], [0, 1, 1]) == [[8], []]


def test_a_pairing_far_too_large_to_lay_out_is_made_and_read_by_rows():
    rows = torch.arange(200_000)
    pairing = pair_candidates(rows, rows + len(rows), owners=rows)  # a mask would have 40 GB
    tile = pairing.tile(123_456, 123_458)
    assert tile.is_positive.nonzero().tolist() == [[0, 123_456], [1, 123_457]]
    assert tile.is_negative.sum(1).tolist() == [199_999, 199_999]
    assert pairing.num_negatives().unique().tolist() == [199_999]
