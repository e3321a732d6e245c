"""The parity report: what it counts, and what it calls a loss."""

import json
import math

import pytest
import torch
from torch.nn.functional import normalize

from jina.export.parity import MINIMUM_COSINE, compare
from jina.export.parity_items import ParityItem, Vectors

KINDS = ["query"] * 6 + ["image"] * 6


def vectors(seed=0, tokens=4):
    generator = torch.Generator().manual_seed(seed)
    return [
        Vectors(
            normalize(torch.randn(16, generator=generator), dim=0),
            normalize(torch.randn(tokens, 8, generator=generator), dim=1),
        )
        for _ in KINDS
    ]


def turned(vector, cosine):
    """Return a vector at the given cosine from another."""
    aside = torch.zeros_like(vector)
    aside[0], aside[1] = vector[1], -vector[0]
    aside = normalize(aside, dim=0)
    return cosine * vector + math.sqrt(1 - cosine**2) * aside


def report(got, expected=None, **options):
    items = [ParityItem(kind) for kind in KINDS]
    return compare(items, expected or vectors(), got, **{"dtype": torch.float32, **options})


def figures(found):
    return {(row.kind, row.vectors): row for row in found.kinds}


def test_equal_vectors_lose_nothing():
    found = report(vectors())
    assert not found.losses()
    assert all(row.lowest == pytest.approx(1) for row in found.kinds)
    assert [row.count for row in found.kinds] == [6, 6, 6, 6]
    assert found.top10_overlap == {"single": 1.0, "multi": 1.0}
    assert found.maxsim_difference == 0


def test_the_lowest_and_the_median_cosine_are_told_by_kind():
    got = vectors()
    for place, cosine in enumerate([0.9, 0.99, 0.5, 0.8, 0.7, 0.6]):
        got[place] = got[place]._replace(single=turned(got[place].single, cosine))
    found = figures(report(got))
    assert found["query", "single"].lowest == pytest.approx(0.5, abs=1e-6)
    assert found["query", "single"].median == pytest.approx(0.75, abs=1e-6)
    assert found["image", "single"].lowest == pytest.approx(1)


@pytest.mark.parametrize(("dtype", "minimum"), MINIMUM_COSINE.items())
def test_a_cosine_below_the_bound_of_the_type_is_a_loss(dtype, minimum):
    for cosine, is_loss in ((minimum - 1e-6, True), (minimum + 4e-7, False)):
        got = vectors()
        got[7] = got[7]._replace(single=turned(got[7].single.double(), cosine))
        losses = report(got, dtype=dtype).losses()
        assert bool(losses) == is_loss
        assert all(loss.startswith("image, single vectors: cosine") for loss in losses)


def test_a_bound_of_ones_own_takes_the_place_of_the_types():
    got = vectors()
    got[0] = got[0]._replace(single=turned(got[0].single, 0.95))
    assert report(got).losses()
    assert not report(got, minimum=0.9).losses()


def test_a_kind_that_is_only_told_is_no_loss_and_moves_no_overlap():
    got = [
        v if kind == "query" else other
        for v, other, kind in zip(vectors(), vectors(1), KINDS, strict=True)
    ]
    assert report(got).losses()
    found = report(got, told_only=("image",))
    assert not found.losses()
    assert figures(found)["image", "single"].lowest < 0.9
    assert found.top10_overlap["single"] == 1.0


def test_nan_is_a_loss():
    got = vectors()
    got[3] = Vectors(torch.full((16,), torch.nan), None)
    assert report([v._replace(multi=None) for v in got]).losses()


def test_other_numbers_of_tokens_are_no_match():
    found = figures(report(vectors(tokens=5)))
    assert found["query", "multi"].lowest == 0


def test_maxsim_scores_are_bound_in_float32_only():
    got = [v._replace(multi=v.multi * (1 + 1e-3)) for v in vectors()]
    assert [loss for loss in report(got).losses() if loss.startswith("MaxSim")]
    assert not report(got, dtype=torch.bfloat16).losses()


def test_vectors_a_format_lacks_are_left_out():
    found = report([v._replace(multi=None) for v in vectors()])
    assert {row.vectors for row in found.kinds} == {"single"}
    assert found.maxsim_difference is None
    assert "MaxSim" not in "\n".join(found.lines())


def test_the_overlap_is_the_shared_part_of_the_nearest_others():
    expected, got = vectors(), vectors(2)
    overlap = report(got).top10_overlap["single"]
    shares = []
    for place in range(12):
        nearest = []
        for side in (expected, got):
            scores = {i: float(side[place].single @ side[i].single) for i in range(12)}
            del scores[place]
            nearest.append(set(sorted(scores, key=scores.get)[-10:]))
        shares.append(len(nearest[0] & nearest[1]) / 10)
    assert overlap == pytest.approx(sum(shares) / 12)
    assert overlap < 1


def test_the_report_is_a_table_and_plain_data():
    found = report(vectors())
    assert "| query | single | 6 | 1.0000000 | 1.0000000 |" in found.lines()
    assert json.loads(json.dumps(found.to_dict()))["losses"] == []
