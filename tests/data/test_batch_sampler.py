"""Which rows meet in a batch: property tests over random corpora of identities and sources."""

from itertools import combinations

import numpy as np
import pytest

from jina.data.batch_sampler import ContrastiveBatchSampler, RowIdentities


def identities_of(rows):
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    return RowIdentities(np.array([i for row in rows for i in row], dtype=np.int64), offsets)


def sampler_of(rows, *, batch_size, groups=None, seed=0, temperature=1.0, **others):
    return ContrastiveBatchSampler(
        identities_of(rows),
        np.zeros(len(rows), dtype=int) if groups is None else np.array(groups),
        batch_size=batch_size,
        seed=seed,
        temperature=temperature,
        **others,
    )


def conflicts(rows, batch):
    return sum(not set(rows[a]).isdisjoint(rows[b]) for a, b in combinations(batch, 2))


def random_corpus(seed):
    """Rows with a query of their own and one to three positives, some shared by several rows."""
    random = np.random.default_rng(seed)
    num_rows = int(random.integers(40, 120))
    shared = int(random.integers(num_rows // 3, num_rows))
    return [
        [10_000 + row, *random.integers(0, shared, int(random.integers(1, 4))).tolist()]
        for row in range(num_rows)
    ]


@pytest.mark.parametrize("seed", range(200))
def test_rows_of_a_batch_share_no_identity_where_each_is_rarer_than_batches(seed):
    rows = random_corpus(seed)
    sampler = sampler_of(rows, batch_size=4)
    batches = list(sampler)
    used = [row for batch in batches for row in batch]
    assert len(used) == len(set(used)) == len(rows) // 4 * 4
    assert {len(batch) for batch in batches} == {4}
    assert not sum(conflicts(rows, batch) for batch in batches)


def test_plain_shuffling_would_let_them_meet():
    rows = random_corpus(0)
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    chunks = [order[i : i + 4] for i in range(0, len(rows) // 4 * 4, 4)]
    assert sum(conflicts(rows, chunk) for chunk in chunks)


def test_every_row_is_used_even_where_the_data_leaves_no_choice():
    rows = [[7, row + 100] for row in range(8)]  # all share one positive
    batches = list(sampler_of(rows, batch_size=4))
    assert sorted(row for batch in batches for row in batch) == list(range(8))


def test_a_row_that_fits_nowhere_is_the_one_left_out():
    rows = [[1], [1], [2], [3], [4]]
    for seed in range(20):
        (batch, other) = sampler_of(rows, batch_size=2, seed=seed)
        assert not conflicts(rows, batch)
        assert not conflicts(rows, other)


def test_an_epoch_is_a_function_of_seed_and_epoch():
    rows = random_corpus(1)
    sampler = sampler_of(rows, batch_size=4)
    first = list(sampler)
    assert list(sampler) == first == list(sampler_of(rows, batch_size=4))
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(sampler_of(rows, batch_size=4, seed=1)) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_each_batch_is_of_one_group_and_mixing_groups_is_not():
    groups = [row % 3 for row in range(90)]
    rows = [[row] for row in range(90)]
    found = [
        {groups[row] for row in batch} for batch in sampler_of(rows, batch_size=5, groups=groups)
    ]
    assert {len(group) for group in found} == {1}
    mixed = [{groups[row] for row in batch} for batch in sampler_of(rows, batch_size=5)]
    assert max(len(group) for group in mixed) > 1


@pytest.mark.parametrize(
    ("temperature", "shares"), [(1.0, [80, 10]), (2.0, [67, 23]), (1e9, [45, 45])]
)
def test_temperature_evens_out_the_groups_and_keeps_the_epochs_length(temperature, shares):
    groups = [0] * 800 + [1] * 100
    sampler = sampler_of(
        [[row] for row in range(900)], batch_size=10, groups=groups, temperature=temperature
    )
    batches = list(sampler)
    assert len(batches) == len(sampler) == 90
    assert [sum(groups[b[0]] == group for b in batches) for group in (0, 1)] == pytest.approx(
        shares, abs=1
    )


def test_a_group_smaller_than_a_batch_gives_none():
    sampler = sampler_of([[row] for row in range(13)], batch_size=10, groups=[0] * 10 + [1] * 3)
    assert [sorted(batch) for batch in sampler] == [list(range(10))]


def test_a_hundred_thousand_rows_are_dealt_in_seconds():
    random = np.random.default_rng(0)
    shared = random.integers(0, 5_000, 100_000)
    values = np.stack([shared, 10**6 + np.arange(100_000)], axis=1).ravel()
    identities = RowIdentities(values, np.arange(0, 200_001, 2))
    groups = np.zeros(100_000, dtype=int)
    batches = list(ContrastiveBatchSampler(identities, groups, batch_size=1024, seed=0))
    assert len(batches) == 97
    assert all(len(np.unique(shared[batch])) == 1024 for batch in batches)


# ---- several processes ---------------------------------------------------------------------


def shares_of(rows, costs, *, processes, batch_size=16):
    """Each process's batches, and those that a single process would have."""
    whole = list(sampler_of(rows, batch_size=batch_size))
    return whole, [
        list(sampler_of(rows, batch_size=batch_size, share=(place, processes), costs=costs))
        for place in range(processes)
    ]


def spread(costs, shares):
    """How far the costs of the processes are apart, at the worst batch, relative to their mean."""
    sums = np.array([[costs[batch].sum() for batch in share] for share in shares])
    return (np.ptp(sums, axis=0) / sums.mean(axis=0)).max()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_divide_each_batch_into_as_many_rows_and_about_as_many_tokens(seed, processes):
    rows = random_corpus(seed)
    costs = np.random.default_rng(seed).lognormal(4, 1, len(rows))  # a few rows are very long
    whole, shares = shares_of(rows, costs, processes=processes)
    for batch, *parts in zip(whole, *shares, strict=True):
        assert {len(part) for part in parts} == {16 // processes}
        assert sorted(row for part in parts for row in part) == sorted(batch)
        longest = costs[batch].max()
        sums = [costs[part].sum() for part in parts]
        assert max(sums) - min(sums) <= longest  # no more than one row apart
    by_turns = [[batch[place::processes] for batch in whole] for place in range(processes)]
    assert spread(costs, shares) < spread(costs, by_turns)


def test_eight_processes_have_nearly_the_mean_where_the_longest_rows_allow_it():
    costs = np.random.default_rng(0).lognormal(4, 1, 4096)
    rows = [[row] for row in range(len(costs))]
    whole, shares = shares_of(rows, costs, processes=8, batch_size=256)
    sums = np.array([[costs[part].sum() for part in share] for share in shares])
    best = [max(costs[batch].max(), costs[batch].sum() / 8) for batch in whole]
    assert (sums.max(axis=0) / best).max() < 1.05

    def forth_and_back(batch):
        order = np.sort(costs[batch])[::-1].reshape(-1, 8).copy()
        order[1::2] = order[1::2, ::-1]
        return order.sum(axis=0).max()

    in_turns = (forth_and_back(batch) / least for batch, least in zip(whole, best, strict=True))
    assert max(in_turns) > 1.1


def test_without_costs_processes_divide_the_batch_all_the_same():
    rows = random_corpus(1)
    whole, shares = shares_of(rows, None, processes=2)
    for batch, first, second in zip(whole, *shares, strict=True):
        assert sorted(first + second) == sorted(batch)
