"""A figure and its floor as a small drawing, on the axis that all figures of its name share."""

from __future__ import annotations

from dataclasses import dataclass

from sbikit.roles.validator import Metric

HALF = 52.0  # half the width of a drawing in its own units, of which the page shows 60 either side


@dataclass(frozen=True)
class FloorMark:
    """A figure and its floor on the axis that all figures of its name share.

    Args:
        has_ideal: whether 0 is the ideal; otherwise it is the floor.
        floor: ends of the floor's bar, one standard error either side.
        value: the figure.
        whisker: ends of its error bar.
    """

    has_ideal: bool
    floor: tuple[float, float]
    value: float
    whisker: tuple[float, float]


def _centre(metric: Metric) -> float:
    """The ideal, or the floor where there is none."""
    return (metric.floor or 0.0) if metric.ideal is None else metric.ideal


def _ends(metric: Metric) -> tuple[float, float, float, float]:
    """Of the floor and of the figure, one standard error either side."""
    floor, error = metric.floor or 0.0, metric.floor_error or 0.0
    return floor - error, floor + error, metric.value - metric.error, metric.value + metric.error


def reach(metric: Metric) -> float:
    """How far from the ideal, or the floor where there is none, the drawing must reach."""
    return max(abs(end - _centre(metric)) for end in _ends(metric))


def floor_mark(metric: Metric, reach: float) -> FloorMark:
    """Positions between -`HALF` and `HALF`, the ends of an axis that reaches so far either side."""
    scale = HALF / (reach or 1.0)
    floor_low, floor_high, low, high = (scale * (end - _centre(metric)) for end in _ends(metric))
    return FloorMark(
        has_ideal=metric.ideal is not None,
        floor=(floor_low, floor_high),
        value=scale * (metric.value - _centre(metric)),
        whisker=(low, high),
    )
