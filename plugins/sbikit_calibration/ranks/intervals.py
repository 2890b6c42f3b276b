"""Coverage: how many truths lie inside central credible intervals of 68 and 95 %.

The interval between the j-th smallest and the j-th largest of n draws holds one more draw with the
probability (n + 1 - 2j)/(n + 1) (Wilks 1941, doi:10.1214/aoms/1177731788), so that is its nominal value for
every n, with the j that comes nearest to the level.

Of a parameter the number of truths inside is binomial, and so are its error and p-value. Pixels of one map
are correlated: of a field the share of each observation's pixels is one number, and the error is that of
the mean of these numbers, the jackknife over observations; its p-value is Student's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import (
    Evidence,
    Metric,
    Report,
    Validator,
    Variable,
    Vector,
    derive_seed,
    draw_shapes,
    generator,
    mean_and_error,
)
from sbikit_calibration.alarms import binomial_p, judged, students_p
from sbikit_calibration.coverage.distance import check_evidence
from sbikit_calibration.options import CoverageOptions

_REFERENCES = ("doi:10.1214/aoms/1177731788",)
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LEVELS = (0.68, 0.95)  # those of 1 and 2 standard deviations of a normal posterior


def edge(level: float, draws: int) -> int:
    """j: the order statistic, counted from either end, that bounds the interval nearest to the level."""
    return max(1, min(round(0.5 * (1.0 - level) * (draws + 1)), draws // 2))


def nominal(level: float, draws: int) -> float:
    """The share of truths inside that interval where the posterior is exact."""
    return (draws + 1 - 2 * edge(level, draws)) / (draws + 1)


def inside(ranks: Integers, draws: int, level: float) -> NDArray[np.bool_]:
    """Whether truths of these ranks among `draws` draws lie inside the interval."""
    j = edge(level, draws)
    return np.asarray((ranks >= j) & (ranks <= draws - j))


def truth_ranks(truth: Tensor, draws: Tensor, source: torch.Generator) -> Integers:
    """Ranks of truths (b, *shape) among draws (n, b, *shape), (b, *shape); ties fall at random."""
    below = torch.zeros(truth.shape, dtype=torch.int64)
    equal = torch.zeros(truth.shape, dtype=torch.int64)
    for draw in draws:
        below += draw < truth
        equal += draw == truth
    places = torch.rand(truth.shape, dtype=torch.float64, generator=source) * (equal + 1)
    return (below + places.long().minimum(equal)).numpy()


class Coverage(Validator[CoverageOptions]):
    """Coverage of every parameter and of the pixels of every field."""

    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        """Coverage at 68 and 95 % with error, nominal value and verdict; the seed decides how ties fall.

        Raises:
            SpecError: the evidence is too small or of the wrong shape.
        """
        check_evidence(evidence)
        metrics: list[Metric] = []
        shares = _shares(evidence, seed)
        n = draw_shapes(evidence.draws)[evidence.spec.latents[0].name][0]
        for variable in evidence.spec.latents:
            of = _of_scalar if isinstance(variable, Vector) else _of_pixels
            for part, about in enumerate(_parts(variable)):
                for i, level in enumerate(LEVELS):
                    found = of(shares[variable.name][:, part, i], nominal(level, n))
                    metrics.append(_metric(about, level, found))
        return Report("coverage", tuple(judged(metrics, self.options.alpha)), references=_REFERENCES)


def _shares(evidence: Evidence, seed: int) -> dict[str, Floats]:
    """Share of what is inside the intervals, of every scalar (0 or 1) or channel: (B, parts, levels) each."""
    # One source for all observations of a variable, so that no tie falls otherwise in blocks of another size.
    sources = {v.name: generator(derive_seed(seed, v.name)) for v in evidence.spec.latents}
    found: dict[str, list[Floats]] = {name: [] for name in sources}
    for block in evidence.blocks():
        for name, source in sources.items():
            draws = block.draws[name]
            ranks = truth_ranks(block.truth[name], draws, source)
            within = (inside(ranks, len(draws), level) for level in LEVELS)
            found[name].append(np.stack([w.reshape(*w.shape[:2], -1).mean(2) for w in within], 2))
    return {name: np.concatenate(rows) for name, rows in found.items()}


def _parts(variable: Variable) -> list[str]:
    """Names of a vector's scalars and of a field's channels."""
    if isinstance(variable, Vector):
        return [f"{variable.name}.{label}" for label in variable.labels]
    if variable.channels == 1:
        return [variable.name]
    return [f"{variable.name}.{channel + 1}" for channel in range(variable.channels)]


@dataclass(frozen=True)
class _Found:
    """A coverage with its error, its nominal value and its p-value."""

    value: float
    error: float
    ideal: float
    p: float


def _of_scalar(within: Floats, ideal: float) -> _Found:
    """Whether the truths of one scalar are inside, (B,), 0 or 1: a binomial number is."""
    count, B = int(within.sum()), len(within)
    error = (ideal * (1.0 - ideal) / B) ** 0.5
    return _Found(count / B, error, ideal, binomial_p(count, B, ideal))


def _of_pixels(shares: Floats, ideal: float) -> _Found:
    """Shares (B,) of the pixels of one channel inside."""
    value, error = mean_and_error(shares)
    return _Found(value, error, ideal, students_p(value - ideal, error, len(shares)))


def _metric(about: str, level: float, found: _Found) -> Metric:
    percent = f"{100 * level:.0f}"
    return Metric(
        f"coverage_{percent}",
        about,
        found.value,
        found.error,
        found.ideal,
        "none",
        f"share of truths inside the central interval of {percent} %; above the ideal draws are too wide",
        p=found.p,
    )
