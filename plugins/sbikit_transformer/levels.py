r"""Noise levels: which ones training draws, where draws end, and between which of a few a level lies.

Where a posterior has standard deviation r, in units of the prior's, noise levels down to r / 5 decide its
draws. How small r is, is not known before: law and guide tell it where they are right, and the trained
network shows it, since at a level sigma the share

    E (x - D)^2 / E (sigma e)^2 = r^2 / (r^2 + sigma^2)        (of a normal posterior)

of the noise is left by the denoiser. Where nearly all of it is, data tell nothing below sigma.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Of ln sigma: a range that reaches to the largest level, e^5 = 150, which trains pure noise too.
_WIDE = (-0.5, 5.0)
# Low levels reach up to e^0.5: the detail of a map, its upper tail, the width of narrow posteriors.
_LOW_UP_TO = 0.5
# Share of a batch below the lowest level that law or guide asks for: the network learns there what these do
# not see of a narrow posterior. More for it leaves less for all else.
_DEEP_SHARE = 0.05
_HIGHEST_END = 0.05  # where draws of a field end if no posterior is narrow
_DEEP = 0.002  # how far down every training goes; the width of narrower posteriors is that of law or guide
_LOWEST_END = 1e-4  # below it float32 no longer holds a state and its noise apart
NARROW = 0.05  # share of posteriors, or of a field's pixels, that may be narrower than is asked for
# Of a posterior's standard deviation, where its draws should end: they are 0.1 % too narrow then.
_RESOLVE = 0.2
# Least share of the noise that is left where nothing is narrow: of r = 4.4 sigma, or of one observation in
# twenty that is infinitely narrow.
_LEFT = 0.95


@dataclass(frozen=True)
class _Shares:
    """Where the levels of a batch lie.

    Args:
        body: mean and standard deviation of ln sigma where the draw is decided.
        low: share of low levels.
        wide: of those that are not low, the share that reaches to the largest one.
    """

    body: tuple[float, float]
    low: float
    wide: float


_OF_FIELD = _Shares((0.8, 0.8), 0.25, 0.35)
_OF_SCALARS = _Shares((0.8, 0.8), 0.5, 0.35)  # without a field low levels are all that is hard
# Of vectors alone, where all that is not linear is learned: of two moons and others about e^-1.5 decides.
_OF_VECTORS = _Shares((-1.5, 1.6), 0.1, 0.1)


@dataclass(frozen=True)
class TrainingLevels:
    """The law of noise levels in training.

    Args:
        low: the lowest level that law or guide asks for.
        with_field: whether they are those of a latent field.
        of_vectors: whether all is learned at them that is not linear, of vectors alone: what decides a draw
            then lies lower, and most levels do.
    """

    low: float
    with_field: bool
    of_vectors: bool = False

    @staticmethod
    def resolving(narrowest: float, *, with_field: bool) -> TrainingLevels:
        """For posteriors that are expected to be this narrow, in units of the prior's spread."""
        highest = _HIGHEST_END if with_field else _DEEP
        return TrainingLevels(min(max(_RESOLVE * narrowest, _LOWEST_END), highest), with_field)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Noise levels of a training batch, ln sigma, (count,).

        Low ones are uniform in ln sigma. The others come from a bulk: of a field 65 % N(0.8, 0.8), where the
        draw is decided, and 35 % U(-0.5, 5).
        """
        of = _OF_FIELD if self.with_field else _OF_VECTORS if self.of_vectors else _OF_SCALARS
        kind, level = torch.rand(2, count, generator=generator)
        kind = (torch.randperm(count, generator=generator) + kind) / count  # one in each of as many strata
        found = of.body[0] + of.body[1] * torch.randn(count, generator=generator)
        found = found.clamp_min(math.log(min(self.low, _DEEP)))
        deep = of.low + (_DEEP_SHARE if self.low > _DEEP else 0.0)
        wide = deep + (1.0 - deep) * of.wide
        # From the last share to the first, each over what it is part of.
        for share, first, last in (
            (wide, *_WIDE),
            (deep, math.log(_DEEP), math.log(self.low)),
            (of.low, math.log(self.low), _LOW_UP_TO),
        ):
            found = torch.where(kind < share, first + (last - first) * level, found)
        return found

    def evenly(self, count: int) -> list[float]:
        """Levels sigma in the middle of so many equal parts of the range of ln sigma, the lowest first."""
        first, last = math.log(min(self.low, _DEEP)), _WIDE[1]
        return [math.exp(first + (last - first) * (i + 0.5) / count) for i in range(count)]

    def ends(self) -> list[float]:
        """Levels at which draws may end, the highest first, each half of the one before.

        Of scalars an evaluation costs next to nothing, and draws end at the lowest.
        """
        lowest = min(self.low, _DEEP)
        above = math.ceil(math.log2(_HIGHEST_END / lowest)) if self.with_field else 0
        return [_HIGHEST_END * 0.5**i for i in range(above)] + [lowest]


def nothing_is_narrower(left: Tensor) -> bool:
    """Whether a level is below all that data tell.

    Args:
        left: share of the noise of that level that the denoiser leaves, (components,).
    """
    return bool((left >= _LEFT).all())


def between(log_sigma: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Between which of a few evenly spaced levels others lie.

    Args:
        log_sigma: (B,).
        levels: (L,), rising, at least two.

    Returns:
        (B,) each: number of the level below, and share of the way up from it, 0 and 1 beyond the ends.
    """
    last = len(levels) - 1
    at = ((log_sigma - levels[0]) * (last / (levels[-1] - levels[0]))).clamp(0.0, last)
    below = at.floor().long().clamp_max(last - 1)
    return below, at - below
