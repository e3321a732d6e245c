"""Curves and histograms as geometry, which the template writes as SVG.

Drawn here and not by a plotting library: the page's style sheet then colours them by day and by
night, and a chart is some kilobytes of plain shapes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# In SVG units, which are about the pixels of a phone's screen, so that labels can be read on it.
WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 28
FRAME = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT}
MAX_POINTS = 400
BINS = 50


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    place: float
    label: str


@dataclass(frozen=True)
class Series:
    """A curve: points of an SVG polyline, dots where they are few, and the last value."""

    name: str
    points: str
    dots: list[tuple[float, float]]
    last: str


@dataclass(frozen=True)
class Chart:
    """A chart in a box of `WIDTH` times `HEIGHT`."""

    title: str
    series: list[Series]
    across: list[Tick]
    up: list[Tick]
    unit: str


class _Axis:
    """Maps values to places between two ends."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        if high <= low:
            low, high = low - 0.5, high + 0.5
        self.low, self.high, self.start, self.end = low, high, start, end

    def place(self, value: float) -> float:
        """Return the place of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, count: int = 5) -> list[Tick]:
        """Return about `count` places with round numbers: 1, 2 or 5 times a power of ten apart."""
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        values = [number * step for number in range(first, last + 1)]
        return [Tick(self.place(value), f"{value:.6g}") for value in values]


def line_chart(
    title: str, history: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> Chart | None:
    """Draw logged figures over the steps.

    Args:
        title: what is drawn.
        history: logged entries with a `step`.
        names: of the figures, and what the legend calls them.

    Returns:
        `None` if none of them was logged.
    """
    found = {label: _values(history, name) for name, label in names.items()}
    found = {label: values for label, values in found.items() if values}
    if not found:
        return None
    steps, figures = zip(*(pair for values in found.values() for pair in values), strict=True)
    across = _Axis(min(steps), max(steps), LEFT, WIDTH - RIGHT)
    up = _Axis(min(figures), max(figures), HEIGHT - BOTTOM, TOP)
    series = [_series(label, values, across, up) for label, values in found.items()]
    return Chart(title, series, across.ticks(), up.ticks(), "step")


def histogram(title: str, named: Mapping[str, np.ndarray], unit: str) -> Chart | None:
    """Draw how often values occur, each set as a share of its own number."""
    known = {name: values for name, values in named.items() if len(values)}
    if not known:
        return None
    low = min(float(values.min()) for values in known.values())
    high = max(float(values.max()) for values in known.values())
    across = _Axis(low, high, LEFT, WIDTH - RIGHT)
    edges = np.linspace(across.low, across.high, BINS + 1)
    shares = {
        f"{name} ({len(values):,})": np.histogram(values, edges)[0] * 100 / len(values)
        for name, values in known.items()
    }
    up = _Axis(0, max(float(share.max()) for share in shares.values()), HEIGHT - BOTTOM, TOP)
    series = [_steps(name, share, edges, across, up) for name, share in shares.items()]
    return Chart(title, series, across.ticks(), up.ticks(), unit)


def _values(history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """Return the finite values of a figure with their steps, thinned out where there are many."""
    entries = [(entry["step"], entry[name]) for entry in history if name in entry]
    known = [(step, value) for step, value in entries if math.isfinite(value)]
    every = math.ceil(len(known) / MAX_POINTS)
    return known[:: max(1, every)] + (known[-1:] if every > 1 else [])


def _series(label: str, values: list[tuple[int, float]], across: _Axis, up: _Axis) -> Series:
    places = [(across.place(step), up.place(value)) for step, value in values]
    points = " ".join(f"{x:g},{y:g}" for x, y in places)
    return Series(label, points, places if len(places) <= 30 else [], f"{values[-1][1]:.4g}")


def _steps(name: str, shares: np.ndarray, edges: np.ndarray, across: _Axis, up: _Axis) -> Series:
    """Draw a histogram's outline."""
    corners = [(across.place(edges[0]), up.place(0.0))]
    for number, share in enumerate(shares.tolist()):
        corners += [(across.place(edges[side]), up.place(share)) for side in (number, number + 1)]
    corners.append((across.place(edges[-1]), up.place(0.0)))
    return Series(name, " ".join(f"{x:g},{y:g}" for x, y in corners), [], "")
