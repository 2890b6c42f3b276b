"""Figures of validators as lines, each with its goal where it has a verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sbikit import Metric


def goal_of(metric: Metric) -> tuple[str | None, bool | None]:
    """What a figure should be, in words, and whether it is; None of either where it has no verdict."""
    if metric.verdict == "none":
        return None, None
    if metric.floor is not None:
        return "the floor, within the tolerance of agreement", metric.verdict == "pass"
    return f"{metric.ideal:.4g}, within what the number of verdicts allows", metric.verdict == "pass"


def tell_metric(metric: Metric, tell: Callable[..., Any], name: str, *, p: bool = False) -> None:
    """One line with error, ideal value, floor and goal; with `p` a second one, of the p-value, if any."""
    goal, ok = goal_of(metric)
    tell(
        name,
        metric.value,
        metric.error,
        goal=goal,
        ok=ok,
        floor=metric.floor,
        floor_error=metric.floor_error,
        ideal=metric.ideal,
    )
    if p and metric.p is not None:
        tell(f"p of {name}", metric.p, None)
