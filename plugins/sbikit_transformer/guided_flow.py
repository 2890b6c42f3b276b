r"""The solver that turns noise into draws of a field of which a guide expects a normal law.

A state is x = y + sigma e, and the guide expects y ~ N(W, V). In coordinates in which V is diagonal, with
the standard deviation v of each, let

    q = (x - W) / sqrt(v^2 + sigma^2),    theta = arctan(sigma / v),

so that theta falls from pi / 2, where there is noise alone and q = e, to 0, where the draw is W + v q. The
probability flow dx / d(ln sigma) = x - D(x, sigma) then is

    dq / d theta = -rho,    rho = (D - W - v^2 (x - W) / (v^2 + sigma^2)) sqrt(v^2 + sigma^2) / (sigma v).

What the guide knows is solved exactly, from infinite noise on, and rho is 0 where it is right: levels are
needed for what the denoiser adds alone (an exponential integrator, Hochbruck and Ostermann 2010, Acta
Numerica 19, 209, whose linear part is the guide's). A step follows the line through the last two values of
rho, and is mended once the next one is known, which costs no evaluation (as in UniPC, arXiv:2302.04867).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Least standard deviation of a coordinate, in units of the last level: of what the guide knows far better,
# all of theta lies below the last level, and a small error of the denoiser there would be a large one of q.
_LEAST_SD = 0.1
# Angle of the last level up to which rho is a line on the way to no noise at all; beyond, where noise is 2.6
# times v, it is the sine that a wrong mean makes.
_WIDE_ENOUGH = 1.2
_HALF_PI = 0.5 * math.pi


@dataclass(frozen=True)
class Expected:
    """Normal laws of B fields.

    Args:
        mean: W, (B, C, *grid).
        sd: v, of each coordinate.
        apart: fields (B, C, *grid) to coordinates, a rotation.
        together: its inverse.
    """

    mean: Tensor
    sd: Tensor
    apart: Callable[[Tensor], Tensor]
    together: Callable[[Tensor], Tensor]


def follow(
    denoise: Callable[[Tensor, float], Tensor], noise: Tensor, expected: Expected, levels: Sequence[float]
) -> Tensor:
    """Follow the probability flow from noise alone to none.

    Args:
        denoise: D(x, sigma), the posterior mean of the clean field (B, C, *grid).
        noise: (B, C, *grid), standard normal.
        expected: what the guide expects.
        levels: one or more decreasing noise levels; `denoise` is evaluated once at each.
    """
    sd = expected.sd.clamp_min(_LEAST_SD * levels[-1])
    angles = [torch.atan(level / sd) for level in levels]
    rho: list[Tensor] = []
    before = at = expected.apart(noise)
    for i, (level, angle) in enumerate(zip(levels, angles, strict=True)):
        spread = (sd.square() + level**2).sqrt()
        clean = denoise(expected.mean + expected.together(spread * at), level)
        added = expected.apart(clean - expected.mean) - sd.square() / spread * at
        rho.append(added * (spread / (level * sd)))
        if i == 0:
            before = at + rho[0] * (_HALF_PI - angle)
        else:
            before = before + _line(rho, angles[: i + 1], angles[i - 1], angle)
        if i + 1 < len(levels):
            at = before + _line(rho, angles[: i + 1], angle, angles[i + 1])
    return expected.mean + expected.together(sd * (before + _to_the_end(rho, angles)))


def _line(rho: Sequence[Tensor], angles: Sequence[Tensor], first: Tensor, last: Tensor) -> Tensor:
    """Integral from `last` up to `first` of the line through the last two values, or of the only one."""
    if len(rho) == 1:
        return rho[0] * (first - last)
    slope = (rho[-1] - rho[-2]) / (angles[-1] - angles[-2])
    middle = 0.5 * (first + last)
    return (rho[-1] + slope * (middle - angles[-1])) * (first - last)


def _to_the_end(rho: Sequence[Tensor], angles: Sequence[Tensor]) -> Tensor:
    """Integral from 0 up to the last angle."""
    last = angles[-1]
    line = _line(rho, angles, last, torch.zeros_like(last))
    of_mean = rho[-1] * torch.tan(0.5 * last)  # (1 - cos) / sin
    return torch.where(last < _WIDE_ENOUGH, line, of_mean)
