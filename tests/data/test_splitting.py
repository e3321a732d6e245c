"""Groups bound by what rows share, and their even and repeatable division."""

import itertools
import random

import pytest

from jina.data.splitting import RowGroups, parse_fractions, text_identity


def grouped(rows):
    """Return the groups of rows given as sets of small numbers."""
    groups = RowGroups()
    for held in rows:
        groups.add(b"%d" % number for number in held)
    return groups


def slow_groups(rows):
    """Group rows by merging sets until nothing changes: the reference."""
    merged = [({number}, set(held)) for number, held in enumerate(rows)]
    changed = True
    while changed:
        changed = False
        for first, second in itertools.combinations(merged, 2):
            if first[1] & second[1]:
                merged.remove(second)
                first[0].update(second[0])
                first[1].update(second[1])
                changed = True
                break
    return [members for members, _ in merged]


def random_rows(seed):
    """Return up to 60 rows that hold one to three of some identities."""
    generator = random.Random(seed)  # noqa: S311
    identities = generator.choice([10, 60, 300])
    count = generator.randrange(1, 60)
    return [
        {generator.randrange(identities) for _ in range(generator.randrange(1, 4))}
        for _ in range(count)
    ]


FRACTIONS = [
    {"train": 0.9, "eval": 0.1},
    {"train": 0.5, "eval": 0.5},
    {"train": 0.7, "dev": 0.2, "eval": 0.1},
    dict.fromkeys("abcde", 0.2),
]


@pytest.mark.parametrize("seed", range(40))
class TestProperties:
    def test_groups_are_those_of_the_slow_reference(self, seed):
        rows = random_rows(seed)
        sizes = sorted(grouped(rows).sizes().values())
        assert sizes == sorted(map(len, slow_groups(rows)))

    def test_no_identity_straddles_splits(self, seed):
        rows = random_rows(seed)
        splits = grouped(rows).assign(FRACTIONS[seed % 4], seed=seed)
        where = {}
        for held, split in zip(rows, splits, strict=True):
            for identity in held:
                assert where.setdefault(identity, split) == split

    def test_fractions_are_met_to_within_the_largest_group(self, seed):
        rows = random_rows(seed)
        groups = grouped(rows)
        largest = max(groups.sizes().values())
        splits = groups.assign(FRACTIONS[seed % 4], seed=seed)
        for name, fraction in FRACTIONS[seed % 4].items():
            assert abs(splits.count(name) - fraction * len(rows)) <= largest

    def test_the_order_of_rows_and_of_what_they_hold_does_not_matter(self, seed):
        rows = random_rows(seed)
        before = grouped(rows).assign(FRACTIONS[seed % 4], seed=seed)
        order = random.Random(seed).sample(range(len(rows)), len(rows))  # noqa: S311
        after = grouped([sorted(rows[index], reverse=True) for index in order]).assign(
            FRACTIONS[seed % 4], seed=seed
        )
        assert after == [before[index] for index in order]


class TestControls:
    def test_dealing_rows_out_one_by_one_straddles(self):
        rows = random_rows(1)
        splits = ["train" if number % 10 else "eval" for number in range(len(rows))]
        where = {}
        for held, split in zip(rows, splits, strict=True):
            for identity in held:
                where.setdefault(identity, set()).add(split)
        assert any(len(found) > 1 for found in where.values())

    def test_rows_that_share_nothing_are_split_exactly(self):
        splits = grouped([{number} for number in range(1000)]).assign(FRACTIONS[0], seed=0)
        assert splits.count("eval") == 100

    def test_another_seed_is_another_split_of_about_independent_rows(self):
        groups = grouped([{number} for number in range(1000)])
        first, second = (groups.assign(FRACTIONS[0], seed=seed) for seed in (0, 1))
        both = sum(pair == ("eval", "eval") for pair in zip(first, second, strict=True))
        assert 1 <= both <= 30  # 10 are expected

    def test_no_place_in_the_file_is_preferred(self):
        splits = grouped([{number} for number in range(1000)]).assign(FRACTIONS[0], seed=0)
        held_out = [index for index, split in enumerate(splits) if split == "eval"]
        assert 400 < sum(held_out) / len(held_out) < 600

    def test_a_giant_group_leaves_room_for_the_others_fraction(self):
        rows = [*({0} for _ in range(800)), *({number} for number in range(1, 201))]
        splits = grouped(rows).assign(FRACTIONS[0], seed=0)
        assert splits.count("eval") == 100

    def test_a_long_chain_is_one_group(self):
        groups = grouped([{number, number + 1} for number in range(20_000)])
        assert list(groups.sizes().values()) == [20_000]

    def test_negative_and_huge_seeds_are_seeds(self):
        groups = grouped([{number} for number in range(50)])
        splits = {tuple(groups.assign(FRACTIONS[1], seed=seed)) for seed in (-1, 1, 10**40)}
        assert len(splits) == 3


class TestText:
    @pytest.mark.parametrize(
        "text", ["Straße 1", "STRASSE 1", " straße\t1\n", "Straße\u00a01", "Straße １"]
    )
    def test_case_spaces_and_width_make_no_difference(self, text):
        assert text_identity(text) == text_identity("straße 1")

    @pytest.mark.parametrize("text", ["straße 2", "straß 1", "straße1", "", "straße 1."])
    def test_control_other_texts_are_others(self, text):
        assert text_identity(text) != text_identity("straße 1")

    def test_accents_are_the_same_however_they_are_encoded(self):
        assert text_identity("caf\u00e9") == text_identity("cafe\u0301") != text_identity("cafe")


class TestFractions:
    def test_they_are_read_in_order(self):
        assert list(parse_fractions("train=0.9, eval=.1").items()) == [
            ("train", 0.9),
            ("eval", 0.1),
        ]

    def test_thirds_add_up(self):
        assert len(parse_fractions("a=0.3333333,b=0.3333333,c=0.3333334")) == 3

    @pytest.mark.parametrize(
        "text",
        [
            *("", "train", "train=1", "train=0.9", "train=0.9,eval=0.2", "train=0.5,train=0.5"),
            *("train=0.5,eval=half", "a=0.5,../b=0.5", "a=nan,b=0.5", "a=-0.5,b=1.5", "=0.5,b=0.5"),
            *("a=0.5,b=0.5,", "a=1e400,b=0.5", "a/b=0.5,c=0.5", "a=0,b=1"),
        ],
    )
    def test_others_are_refused_in_the_house_form(self, text):
        with pytest.raises(ValueError, match=r"^--split: .+; got .+; write such as train=0\.9"):
            parse_fractions(text)
