r"""The solver that turns noise into draws of scalars, and how few evaluations of the network are enough.

The denoiser is what a law expects and, in units s of that law's spread, what the network adds,

    D(x, sigma) = m(x, sigma) + s(x, sigma) r(x, sigma).

The law, a mixture in closed form, may be as narrow as it likes and costs next to nothing: the flow is solved
at levels close to each other (`diffusion`), and m and s are computed at each. The network, which costs nearly
all, is asked for r at few of them, the knots; from one to the next r follows the parabola in ln sigma
through the last three. A law that is right needs none of them, and one that is wrong more: after training as
many are taken as draw like many (`enough_knots`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sbikit import Monitor, Values
from sbikit_transformer.conditions import Condition
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.diffusion import noise_levels, solve

# Of ln sigma between two levels, at most: with .54 draws of a normal law are .45 % too wide.
_STEP = 0.27
# Of ln sigma between two knots, those that are tried.
_BETWEEN = (3.0, 2.2, 1.5, 1.0, 0.7, 0.54, _STEP)
# How far from where many knots lead a draw may end, in its posterior's own width around it. Nine in ten are
# looked at: of a width that is wrong by half a per cent they are less than .0082 off.
_OFF, _SHARE = 0.0082, 0.9
# Draws of each observation by which they are chosen.
_DRAWS = 16
# A draw's own width is seen from noise that differs by so much.
_OTHER = 0.05
_MEDIAN = 0.6745  # of a standard normal number's absolute value


def draw_scalars(denoiser: Denoiser, noise: Tensor, told: Condition, knots: Sequence[float]) -> Tensor:
    """Draws of the scalars given data, (B, P).

    Args:
        denoiser: trained.
        noise: (B, P), standard normal.
        told: of B observations.
        knots: two or more decreasing noise levels, evenly in ln sigma, at which the network is evaluated.
    """
    stride = math.ceil(math.log(knots[0] / knots[1]) / _STEP)
    levels = noise_levels(knots[0], knots[-1], 1 + stride * (len(knots) - 1))
    passed = iter(range(len(levels)))
    added: list[Tensor] = []

    def denoise(state: Tensor, sigma: float) -> Tensor:
        log_sigma = torch.full((len(state),), sigma, device=state.device).log()
        guess, scale = denoiser.guess_scalars(state, log_sigma, told)
        beyond = next(passed) % stride / stride
        if beyond == 0.0:
            clean = denoiser.denoise_scalars(state, log_sigma, told)[0]
            added[:] = [*added[-2:], (clean - guess) / scale]
            return clean
        return guess + scale * _extrapolated(added, beyond)

    return solve(denoise, noise, levels, told.moments[:, : noise.shape[1]])


def _extrapolated(values: Sequence[Tensor], beyond: float) -> Tensor:
    """So many steps beyond the last of up to three values, by the polynomial through them all."""
    slope = values[-1] - values[-2] if len(values) > 1 else torch.zeros_like(values[0])
    if len(values) < 3:
        return values[-1] + beyond * slope
    bend = slope - (values[-2] - values[-3])
    return values[-1] + beyond * slope + 0.5 * beyond * (1.0 + beyond) * bend


def enough_knots(
    denoiser: Denoiser,
    simulations: Values,
    source: torch.Generator,
    monitor: Monitor,
    *,
    first: float,
) -> int:
    """The fewest knots, of those tried, that draw scalars as many do.

    Args:
        denoiser: trained, with its `end`.
        simulations: of all variables, each (M, *shape), on its device, all of which are drawn for.
        source: of the noise.
        monitor: is told how far it is.
        first: the first level.
    """
    end = float(denoiser.end[0])
    few = [1 + math.ceil(math.log(first / end) / between) for between in _BETWEEN]
    told = denoiser.condition(simulations)
    size = (len(told.moments) * _DRAWS, denoiser.coordinates.size)
    noise, other = torch.randn(2, *size, generator=source).to(told.moments.device)
    each = told.repeat(_DRAWS)

    def drawn(noise: Tensor, count: int) -> Tensor:
        found = draw_scalars(denoiser, noise, each, noise_levels(first, end, count))
        return found.double().unflatten(0, (-1, _DRAWS))

    with torch.no_grad(), monitor.progress("choosing noise levels of parameters", len(few) + 1) as advance:
        many = 1 + math.ceil(math.log(first / end) / _STEP)
        exact = drawn(noise, many)
        width = (drawn(noise + _OTHER * other, many) - exact).abs().median(1).values / (_OTHER * _MEDIAN)
        width = width.clamp_min(torch.finfo(width.dtype).tiny)[:, None]
        advance(2)
        for count in few[:-1]:
            off = ((drawn(noise, count) - exact).abs() / width).quantile(_SHARE, 1).mean(0)
            if bool((off <= _OFF).all()):
                advance(len(few) - 1 - few.index(count))
                return count
            advance(1)
    return few[-1]
