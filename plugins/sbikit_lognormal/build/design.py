"""Which cosmologies the emulator is fitted to and judged on.

Half of the design fills the ball that the emulator covers (cosmology/coverage.py) evenly, since a fit is
worst at its edge; half has the prior's own radii. Directions, radii and the temperature of the feedback are
one scrambled Sobol sequence, so that any leading part of the design is one, too.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chi, norm, qmc

from sbikit_lognormal.cosmology import COVERED, RADIUS
from sbikit_lognormal.options import LOG_T_AGN

Array = NDArray[np.float64]

HELD_OUT_RADIUS = 4.738960274662083
"""Radius of the ball that holds 99.9 % of six standard normal numbers."""


def design(count: int, seed: int) -> Array:
    """Cosmologies and log T_AGN to fit to, (count, 7)."""
    power = math.ceil(math.log2(count))
    u = qmc.Sobol(8, scramble=True, rng=np.random.default_rng(seed)).random_base2(power)[:count]
    direction = norm.ppf(u[:, :6])
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    even = RADIUS * np.clip(2 * u[:, 6], 0, 1) ** (1 / 6)
    usual = chi.ppf(np.clip(2 * u[:, 6] - 1, 0, 1) * chi.cdf(RADIUS, 6), 6)
    radius = np.where(u[:, 6] < 0.5, even, usual)
    return _with_temperature(direction * radius[:, None], u[:, 7])


def held_out(seed: int, usual: int = 240, even: int = 160) -> Array:
    """Cosmologies and log T_AGN to judge on, (usual + even, 7).

    Args:
        seed: of the random numbers.
        usual: how many come first, drawn from the prior.
        even: how many fill the ball that holds 99.9 % of the prior evenly.
    """
    random = np.random.default_rng(seed)
    first = random.standard_normal((usual, 6))
    direction = random.standard_normal((even, 6))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    second = direction * HELD_OUT_RADIUS * random.random((even, 1)) ** (1 / 6)
    return _with_temperature(np.concatenate([first, second]), random.random(usual + even))


def _with_temperature(white: Array, u: Array) -> Array:
    cosmologies = COVERED.from_white(torch.from_numpy(white)).numpy()
    low, high = LOG_T_AGN
    return np.concatenate([cosmologies, (low + (high - low) * u)[:, None]], axis=1)
