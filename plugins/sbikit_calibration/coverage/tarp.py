"""TARP, tests of accuracy with random points (arXiv:2302.03026).

f is the fraction of draws closer to a reference point than the truth is. An exact posterior gives f
uniform for every reference that depends on the observation alone, and only an exact posterior does so
for all. The expected coverage at level alpha is the share of truths with f <= alpha; the statistic is
its largest distance from alpha (Kolmogorov and Smirnov).

The references of one observation share truth and draws, so tables of that statistic do not apply. Its
null is made from the evidence: under an exact posterior the truth is one more draw, so any draw can
take its place; the statistic's rank among those of many such replacements is an exact p-value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sbikit import Curve, Evidence, Metric, Report, Validator, derive_seed, generator
from sbikit_calibration.alarms import judged
from sbikit_calibration.coverage.contraction import contraction
from sbikit_calibration.coverage.ranked import Ranked, ranked
from sbikit_calibration.options import TarpOptions

# 25 resamples lie beyond either end of a 95 % band; their standard deviation is known to 1/sqrt(2000), 2 %.
_BOOTSTRAP = 1000
_LEVELS = 101  # points of a curve where there are more draws: one a per cent, finer than a plot shows
_CHUNK = 2**20  # ranks in flight, 8 MiB: fewer take more passes, more take memory
# Replacements that reach the statistic: with 20 the p-value is far above any that raises an alarm; with fewer
# there are so many replacements in all that an alarm is raised by up to 5 that do.
_FEW, _RESOLVED = 20, 5
_ROUNDING = 1e-12  # equal distances of equal counts, summed in another order, differ by some 1e-16


def coverage(closer: Tensor, draws: int) -> Tensor:
    """Each observation's share of references with at most j of S draws closer, (B, K) to (B, S + 1)."""
    B, K = closer.shape
    counts = torch.zeros(B, draws + 1, dtype=torch.float64)
    counts.scatter_add_(1, closer, torch.ones(B, K, dtype=torch.float64))
    return counts.cumsum(1) / K


def distance_to_uniform(curves: Tensor) -> Tensor:
    """Largest distance of coverage curves (..., S + 1) from (j + 1) / (S + 1), to (...)."""
    levels = curves.shape[-1]
    return (curves - torch.arange(1, levels + 1, dtype=torch.float64) / levels).abs().amax(-1)


def null_distances(ranks: Tensor, count: int, seed: int) -> Tensor:
    """The statistic with a random member of {truth, draws} in the place of the truth.

    Args:
        ranks: closeness ranks of truth and draws, (B, K, S + 1).
        count: replacements to make.
        seed: fixes them.

    Returns:
        (count,), float64.
    """
    B, K, levels = ranks.shape
    source = generator(seed)
    rows = max(1, _CHUNK // (B * K))
    found = []
    for chunk in torch.arange(count).split(rows):
        T = len(chunk)
        stand_in = torch.randint(levels, (B, 1, T), generator=source).expand(B, K, T)
        closer = ranks.gather(-1, stand_in) + levels * torch.arange(T)
        counts = torch.bincount(closer.flatten(), minlength=T * levels).reshape(T, levels)
        found.append(distance_to_uniform(counts.double().cumsum(1) / (B * K)))
    return torch.cat(found)


def p_value(statistic: float, null: Tensor) -> float:
    """Probability under the null of a statistic at least as large (Davison and Hinkley 1997, eq. 4.11)."""
    return (1 + int((null >= statistic - _ROUNDING).sum())) / (1 + len(null))


def bootstrap_curves(curves: Tensor, seed: int) -> Tensor:
    """Mean coverage of observations drawn with replacement, (B, S + 1) to (1000, S + 1)."""
    B = len(curves)
    picks = torch.randint(B, (_BOOTSTRAP, B), generator=generator(seed))
    weights = torch.zeros(_BOOTSTRAP, B, dtype=torch.float64)
    weights.scatter_add_(1, picks, torch.ones(_BOOTSTRAP, B, dtype=torch.float64))
    return weights @ curves / B


class Tarp(Validator[TarpOptions]):
    """TARP coverage of every latent and of their block-weighted joint."""

    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        """The statistic and its p-value for prior and for data references, curves, and the contraction.

        Raises:
            SpecError: the evidence is too small or of the wrong shape.
        """
        found = list(ranked("tarp", evidence, self.options.centres, seed))
        curves = tuple(_curve(one, _own(one, seed)) for one in found)
        metrics = (*self.judge(found, seed), *contraction(evidence))
        return Report("tarp", metrics, curves, ("arXiv:2302.03026",))

    def judge(self, found: Sequence[Ranked], seed: int) -> list[Metric]:
        """The statistics of ranks, with verdicts, each with its p-value after it."""
        each = [self._metric(one, _own(one, seed), len(found)) for one in found]
        pairs = zip(judged([metric for metric, _ in each], self.options.alpha), each, strict=True)
        return [metric for one, (_, p) in pairs for metric in (one, p)]

    def _metric(self, found: Ranked, seed: int, verdicts: int) -> tuple[Metric, Metric]:
        each = coverage(found.closer, found.draws)
        statistic = float(distance_to_uniform(each.mean(0)))
        null = self._null(found, statistic, derive_seed(seed, "null"), verdicts)
        p = p_value(statistic, null)
        spread = distance_to_uniform(bootstrap_curves(each, derive_seed(seed, "bootstrap"))).std()
        return (
            Metric(
                found.name,
                found.block,
                statistic,
                float(spread),
                float(null.mean()),
                "none",
                f"largest difference between how often {found.regions} hold the truth and the share of "
                "draws in them; the ideal is its mean for exact posterior draws",
                p=p,
            ),
            Metric(
                f"{found.name}_p",
                found.block,
                p,
                (p * (1.0 - p) / len(null)) ** 0.5,
                None,
                "none",
                "probability of a difference this large for exact posterior draws, for which it is uniform",
            ),
        )

    def _null(self, found: Ranked, statistic: float, seed: int, verdicts: int) -> Tensor:
        """The null; where few reach the statistic, large enough for the p-value that an alarm needs."""
        null = null_distances(found.ranks, self.options.null_draws, seed)
        more = math.ceil(_RESOLVED * verdicts / self.options.alpha) - len(null)
        if more <= 0 or int((null >= statistic - _ROUNDING).sum()) >= _FEW:
            return null
        return torch.cat([null, null_distances(found.ranks, more, derive_seed(seed, "more"))])


def _own(found: Ranked, seed: int) -> int:
    return derive_seed(seed, found.name, found.block)


def _curve(found: Ranked, seed: int) -> Curve:
    """Expected coverage with its 95 % band over observations."""
    levels = found.draws + 1
    each = coverage(found.closer, found.draws)
    band = bootstrap_curves(each, derive_seed(seed, "bootstrap"))
    low, high = torch.quantile(band, torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    kept = torch.linspace(0, levels - 1, min(levels, _LEVELS)).round().long()
    x = (kept + 1).double() / levels

    def thinned(values: Tensor) -> tuple[float, ...]:
        return (0.0, *values[kept].tolist())

    return Curve(
        f"{found.name}_coverage",
        found.block,
        (0.0, *x.tolist()),
        thinned(each.mean(0)),
        thinned(low),
        thinned(high),
        (0.0, *x.tolist()),
        "credibility level",
        "expected coverage (band: 95 % over observations)",
    )
