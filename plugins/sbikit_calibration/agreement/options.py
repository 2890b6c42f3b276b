"""Options of `Agreement`."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field as Option
from pydantic import model_validator

from sbikit import Options


def _tolerance(default: float, description: str) -> Any:
    return Option(default=default, gt=0, description=f"tolerated excess over the floor: {description}")


class AgreementOptions(Options):
    """Options of `Agreement`: tolerances, and the effort spent on C2ST."""

    # The tolerances are choices: smaller ones call draws wrong that serve as well as exact ones, and need
    # more draws to tell them from chance. For normal posteriors: with a mean moved by .2 sd a central 68 %
    # interval covers 67 %, with an sd wrong by .1 it covers 63 or 73 %; .1 nats are a move by .45 sd in one
    # direction, and a classifier that is right in .55 of all cases sees one by .25 sd.
    offset: float = _tolerance(0.2, "offset of means, in posterior standard deviations")
    sd_ratio: float = _tolerance(0.1, "ratio of standard deviations")
    w1: float = _tolerance(0.15, "1-Wasserstein distance, in posterior standard deviations")
    kl: float = _tolerance(0.1, "Kullback-Leibler divergence, in nats")
    c2st: float = _tolerance(0.05, "accuracy of the classifier")
    correlation: float = _tolerance(0.05, "correlation of the mean maps")
    variance: float = _tolerance(0.1, "ratio of the pixels' variances")
    band_power: float = _tolerance(0.1, "ratio of the draws' power")
    coverage: float = _tolerance(0.03, "coverage of central intervals")
    tails: float = _tolerance(0.3, "quantiles of the pixels, in standard deviations of the map")
    coherence: float = _tolerance(0.15, "correlation of parameters with summaries of the map")
    # Of normal errors 1 in 370 is beyond 3: more rings fewer false alarms, and misses more.
    threshold: float = Option(
        default=3.0, gt=0, description="standard errors of excess below which nothing is refused"
    )
    # Twice as many as a verdict needs: half a minute.
    c2st_observations: int = Option(
        default=16, ge=0, le=10_000, description="observations for C2ST, some 2 s each; 0 leaves it out"
    )

    @model_validator(mode="after")
    def _errors_need_two(self) -> Self:
        if self.c2st_observations == 1:
            raise ValueError("one observation gives C2ST no error: c2st_observations must be 0, or 2 or more")
        return self
