"""A validator judges draws against the truths that they should cover."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sbikit.problem.errors import SpecError
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values
from sbikit.roles.plugin import OptionsT_co, Plugin
from sbikit.roles.variation import Constant, Judged, constants


@dataclass(frozen=True)
class Comparison:
    """Draws of an exact sampler, and as many of the judged one as half of them.

    The exact sampler's first and second half are independent of each other, so what they differ by is what
    the judged draws would differ by if they were exact.

    Args:
        name: the exact sampler's name.
        rows: (R,) which of the held-out observations; only those whose draws can be trusted.
        exact: its draws of the latents, each (2 n, R, *shape).
        draws: the judged draws of the latents, each (n, R, *shape).
    """

    name: str
    rows: tuple[int, ...]
    exact: Values
    draws: Values


@dataclass(frozen=True)
class Evidence:
    """What a validator judges.

    Args:
        spec: the problem that was inferred.
        truth: held-out latents, each (B, *shape).
        observation: their data, each (B, *shape).
        draws: posterior draws of the latents, each (n, B, *shape).
        training: M draws of all variables from the training stream, each (M, *shape): they
            alone may fix scales and centres, so that nothing is tuned on the truths.
        comparison: draws of an exact sampler for some observations; None where none was asked for.

    Raises:
        SpecError: truths or draws of a scalar or a channel are constants; see `judgeable`.
    """

    spec: Spec
    truth: Values
    observation: Values
    draws: Values
    training: Values
    comparison: Comparison | None = None

    def __post_init__(self) -> None:
        exact = {} if self.comparison is None else self.comparison.exact
        for part in constants(self.spec, self.truth, self.draws, exact):
            raise SpecError(
                f"There is no variation in {part.name!r}.",
                where="evidence",
                expected="truths and draws that vary",
                got=part.words,
                fix="judge the rest: Evidence.judgeable leaves out what is constant",
            )

    @staticmethod
    def judgeable(
        *,
        spec: Spec,
        truth: Values,
        observation: Values,
        draws: Values,
        training: Values,
        comparison: Comparison | None = None,
    ) -> tuple[Evidence | None, tuple[Constant, ...]]:
        """Evidence without the scalars and channels that are constants, and these; None where all are."""
        exact = {} if comparison is None else comparison.exact
        left_out = tuple(constants(spec, truth, draws, exact))
        judged = Judged.of(spec, left_out)
        if judged is None:
            return None, left_out
        if comparison is not None:
            drawn = judged.select(comparison.draws)
            comparison = replace(comparison, exact=judged.select(comparison.exact), draws=drawn)
        values = (judged.select(truth), observation, judged.select(draws), judged.select(training))
        return Evidence(judged.spec, *values, comparison), left_out


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
