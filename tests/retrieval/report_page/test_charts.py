"""Curves and histograms, read back from their shapes."""

import math

import numpy as np
import pytest

from jina.retrieval.report_page.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    histogram,
    line_chart,
)
from jina.retrieval.report_page.page_parts import curves


def places_of(series):
    return [tuple(map(float, point.split(","))) for point in series.points.split()]


@pytest.mark.parametrize("scale", [1e-5, 1.0, 4e6])
def test_points_stand_where_their_ticks_say(scale):
    draw = np.random.default_rng(0)
    values = draw.normal(size=50) * scale
    history = [{"step": step * 7, "x": value} for step, value in enumerate(values.tolist())]
    chart = line_chart("t", history, {"x": "X"})
    low, high = chart.up[0], chart.up[-1]
    per_unit = (high.place - low.place) / (float(high.label) - float(low.label))
    for (x, y), value in zip(places_of(chart.series[0]), values, strict=True):
        assert y == pytest.approx(low.place + (value - float(low.label)) * per_unit, abs=0.3)
        assert LEFT <= x <= WIDTH - RIGHT
        assert TOP <= y <= HEIGHT - BOTTOM
    assert 3 <= len(chart.up) <= 8
    assert low.place > high.place  # up is up


def test_what_is_not_a_number_is_left_out():
    history = [{"step": i, "x": x} for i, x in enumerate((1.0, math.nan, math.inf, 2.0))]
    assert len(places_of(line_chart("t", history, {"x": "X"}).series[0])) == 2
    assert line_chart("t", history[1:2], {"x": "X"}) is None
    assert line_chart("t", history, {"y": "Y"}) is None


def test_a_constant_or_a_single_figure_can_be_drawn():
    for history in ([{"step": 3, "x": 0.5}], [{"step": i, "x": 0.5} for i in range(5)]):
        chart = line_chart("t", history, {"x": "X"})
        assert all(TOP <= y <= HEIGHT - BOTTOM for _, y in places_of(chart.series[0]))


def test_a_long_run_is_thinned_out_and_keeps_its_end():
    history = [{"step": i, "x": float(i)} for i in range(12345)]
    series = line_chart("t", history, {"x": "X"}).series[0]
    assert len(places_of(series)) <= MAX_POINTS + 1
    assert places_of(series)[-1][0] == WIDTH - RIGHT
    assert series.last == "1.234e+04"


def test_a_histograms_area_is_the_same_whatever_the_number_of_values():
    draw = np.random.default_rng(0)
    named = {"few": draw.normal(0, 1, 40), "many": draw.normal(0, 1, 4000), "none": np.array([])}
    chart = histogram("t", named, "cosine")
    assert [series.name for series in chart.series] == ["few (40)", "many (4,000)"]
    areas = []
    for series in chart.series:
        places = places_of(series)
        pairs = zip(places, places[1:], strict=False)
        areas.append(sum((x2 - x1) * (HEIGHT - BOTTOM - y1) for (x1, y1), (x2, _) in pairs))
    assert areas[0] == pytest.approx(areas[1], rel=0.02)


def test_each_dimension_has_a_curve_in_the_order_of_sizes():
    entry = {"step": 1, "single_loss_2048": 1.0, "single_loss_128": 2.0, "single_loss": 1.5}
    ranked = {"step": 1, "eval_dim128_ndcg@5": 0.1, "eval_ndcg@5": 0.2, "eval_dim128_map": 0.3}
    charts = {chart.title: chart for chart in curves([entry, ranked])}
    names = [series.name for series in charts["Loss of each dimension"].series]
    assert names == ["128", "2048"]
    names = [series.name for series in charts["nDCG@5 of each dimension"].series]
    assert names == ["128", "whole"]
    assert "nDCG@5 of each dimension" not in {
        c.title for c in curves([{"step": 0, "eval_ndcg@5": 1}])
    }
