r"""Noise levels for training, and the solver that turns noise into draws.

A state is x_sigma = x + sigma e, with the same sigma for every pixel and scalar of a draw and x in
units of its prior's standard deviation. The probability-flow ODE dx / d(ln sigma) = x - D(x, sigma)
is solved in ln sigma by DPM-Solver++(2M) (arXiv:2211.01095, multistep, data prediction).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

State: TypeAlias = tuple[Tensor, Tensor]
"""Field (B, C, *grid) and scalars (B, P)."""

# Of ln sigma: mean and standard deviation of the levels where the draw is decided, then two ranges that
# reach to the largest (e^5 = 150) and the smallest level (e^-3 = 0.05) that sampling visits. Shares of the
# batch: more for one leaves less for the others.
_BODY = (0.8, 0.8)
_WIDE = (-0.5, 5.0)
_LOW = (-3.0, 0.5)
_LOW_SHARE = 0.25
_WIDE_SHARE = 0.75 * 0.35


def draw_log_sigma(count: int, generator: torch.Generator) -> Tensor:
    """Noise levels of a training batch, ln sigma, (count,).

    Three quarters come from a bulk: 65 % N(0.8, 0.8), where the draw is decided, and 35 % U(-0.5, 5),
    which trains pure noise too. One quarter is U(-3, 0.5): the detail of the map, its upper tail.
    """
    kind, level = torch.rand(2, count, generator=generator)
    bulk = _BODY[0] + _BODY[1] * torch.randn(count, generator=generator)
    wide = _WIDE[0] + (_WIDE[1] - _WIDE[0]) * level
    low = _LOW[0] + (_LOW[1] - _LOW[0]) * level
    return torch.where(kind < _LOW_SHARE, low, torch.where(kind < _LOW_SHARE + _WIDE_SHARE, wide, bulk))


def noise_levels(sigma_max: float, sigma_min: float, steps: int) -> list[float]:
    """`steps` levels, uniform in ln sigma from `sigma_max` to `sigma_min`."""
    return torch.linspace(math.log(sigma_max), math.log(sigma_min), steps).exp().tolist()


def solve(denoise: Callable[[State, float], State], noise: State, levels: list[float]) -> State:
    """Follow the probability flow from `levels[0] * noise` to zero noise.

    Args:
        denoise: D(x, sigma), the posterior mean of the clean state.
        noise: standard normal.
        levels: decreasing noise levels; `denoise` is evaluated once at each.
    """
    state = tuple(levels[0] * part for part in noise)
    before: State | None = None
    for i, sigma in enumerate(levels):
        clean = denoise((state[0], state[1]), sigma)
        if i + 1 == len(levels):
            return clean
        step = math.log(sigma / levels[i + 1])
        if before is None:
            direction = clean
        else:
            weight = step / (2.0 * math.log(levels[i - 1] / sigma))
            direction = tuple(c + weight * (c - b) for c, b in zip(clean, before, strict=True))  # type: ignore[assignment]
        shrink = levels[i + 1] / sigma
        state = tuple(shrink * x + (1.0 - shrink) * d for x, d in zip(state, direction, strict=True))
        before = clean
    return clean
