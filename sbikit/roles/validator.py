"""A validator judges draws against the truths that they should cover."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sbikit.roles.evidence import Evidence
from sbikit.roles.plugin import OptionsT_co, Plugin
from sbikit.roles.variation import Constant

Verdict = Literal["pass", "fail", "none"]


@dataclass(frozen=True)
class Metric:
    """One figure.

    Args:
        name: what was measured.
        variable: a latent's name, with the label of a scalar after a dot ("theta.S8"), or "joint".
        value: the figure.
        error: its standard error.
        ideal: what it is for an exact posterior; None where that is not known.
        verdict: the judgement; none where there is nothing to judge by.
        meaning: one line for the reader.
        floor: the same figure between two sets of exact draws; None where it has none.
        floor_error: the standard error of that.
        p: the probability that exact draws give a figure as far from the ideal, not corrected for the number
            of figures; None where it is not known. The verdict is.
    """

    name: str
    variable: str
    value: float
    error: float
    ideal: float | None
    verdict: Verdict
    meaning: str
    floor: float | None = None
    floor_error: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Curve:
    """One curve with its band; all sequences have one length.

    The band is around the measured curve, its error, or around the ideal, for curves of an exact posterior.
    """

    name: str
    variable: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    ideal: tuple[float, ...]
    x_label: str
    y_label: str
    band: Literal["measured", "ideal"] = "measured"


@dataclass(frozen=True)
class Report:
    """What a validator found.

    Args:
        validator: its name.
        metrics: its figures.
        curves: what is drawn.
        references: what it rests on.
        sees: departures from the exact posterior that it would have seen in nine of ten such cases, each a
            phrase ("a shift of one parameter by 0.35 posterior sd"). A page says that a posterior is
            calibrated only where it can say what would have been seen.
    """

    validator: str
    metrics: tuple[Metric, ...]
    curves: tuple[Curve, ...] = ()
    references: tuple[str, ...] = field(default=())
    sees: tuple[str, ...] = ()


class Validator(Plugin[OptionsT_co]):
    """Judges draws against truths.

    Attributes:
        needs_reference: whether it works on `Evidence.comparison` alone.
    """

    needs_reference: ClassVar[bool] = False

    @abstractmethod
    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        """Judge; every metric has its standard error, ideal value and verdict."""


def mean_and_error(values: NDArray[np.floating]) -> tuple[float, float]:
    """The mean of independent values (B,), B at least 2, and its standard error, sd / sqrt(B)."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def report_constants(left_out: tuple[Constant, ...]) -> Report:
    """What could not be judged: draws that are a wrong constant fail, the rest has no verdict."""
    metrics = (
        Metric(
            "variation",
            part.name,
            0.0,
            0.0,
            None,
            "fail" if part.why == "draws" else "none",
            f"cannot be judged: {part.words}",
        )
        for part in left_out
    )
    return Report("variation", tuple(metrics))
