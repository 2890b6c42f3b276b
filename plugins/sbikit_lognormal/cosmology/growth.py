"""Growth of matter fluctuations, differentiable in torch.

They grow as D(a), with primes for d / d ln a,

    D'' + (2 + dln E / dln a) D' = 3/2 Omega_m(a) D,     D = (a + 2/3 a_eq) g(a)

where a_eq = Omega_r / Omega_m and the factor before g is the growth without dark energy (Meszaros 1974, A&A
37, 225). g hardly changes before dark energy counts, so it is a short Chebyshev series in ln a, found by
collocation.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from sbikit_lognormal.chebyshev import polynomials
from sbikit_lognormal.cosmology.background import RADIATION, Cosmology

# Before redshift 30 dark energy is taken to act as in the beginning. Over the prior `wcdm` that costs at most
# 3e-4 of the growth at redshifts up to 5; redshift 20 would cost 1e-3, and 100 6e-7 with more terms.
_LOG_A_FIRST = -math.log(31.0)
_GROWTH_TERMS = 32  # 1e-8 of the growth; 24 leave 9e-7, 16 7e-5


def growth(cosmology: Cosmology, z: Tensor) -> Tensor:
    """D(z) / D(0) of the linear matter density, (..., n_z), at redshifts 0 to 30 (n_z,)."""
    x = 2.0 * torch.log1p(z) / _LOG_A_FIRST + 1.0
    series = polynomials(x.clamp(-1.0, 1.0), _GROWTH_TERMS)
    g = _growth_series(cosmology) @ series.T
    offset = _without_dark_energy(cosmology)
    return g * (1.0 / (1.0 + z) + offset) / (1.0 + offset)


def _growth_series(cosmology: Cosmology) -> Tensor:
    """Chebyshev coefficients (..., n) of g in ln a, with g = 1 today."""
    log_a, value, slope, curvature = (table.to(cosmology.h.device) for table in _collocation())
    friction, source, power = _growth_equation(cosmology, log_a)
    rows = curvature + friction[..., None] * slope + source[..., None] * value
    early, today = slice(0, 1), slice(-1, None)
    # In the beginning g - 1 is small and goes as the dark energy does, so that g'' = power * g'.
    settled = (power + friction)[..., early, None] * slope[early] + source[..., early, None] * value[early]
    last = value[today].expand(*rows.shape[:-2], 1, -1)
    system = torch.cat([settled, rows[..., 1:-1, :], last], -2)
    right = torch.zeros_like(log_a)
    right[-1] = 1.0
    return torch.linalg.solve(system, right.expand(system.shape[:-1]))


def _growth_equation(cosmology: Cosmology, log_a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f and s of g'' + f g' + s g = 0 at ln a (n,), each (..., n), and the power of a (..., 1) in g - 1."""
    omega_m, w_0 = cosmology.omega_m[..., None], cosmology.w_0[..., None]
    radiation = RADIATION / cosmology.h[..., None] ** 2
    # Densities times a^3.
    relativistic = radiation * torch.exp(-log_a)
    dark = (1.0 - omega_m - radiation) * torch.exp(-3.0 * w_0 * log_a)
    total = omega_m + relativistic + dark
    slope = -0.5 * (3.0 * omega_m + 4.0 * relativistic + 3.0 * (1.0 + w_0) * dark) / total
    share = 1.0 / (1.0 + _without_dark_energy(cosmology) * torch.exp(-log_a))
    return 2.0 * share + 2.0 + slope, share * (3.0 + slope) - 1.5 * omega_m / total, -3.0 * w_0


def _without_dark_energy(cosmology: Cosmology) -> Tensor:
    """2/3 of the scale factor at which radiation and matter are equal, (..., 1)."""
    return (2.0 / 3.0 * RADIATION / cosmology.h**2 / cosmology.omega_m)[..., None]


@cache
def _collocation() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ln a (n,) and the Chebyshev polynomials with their first two derivatives there, each (n, n)."""
    x = -np.cos(np.pi * np.arange(_GROWTH_TERMS) / (_GROWTH_TERMS - 1))
    unit = np.eye(_GROWTH_TERMS)
    scale = -2.0 / _LOG_A_FIRST
    tables = [
        scale**order * np.polynomial.chebyshev.chebval(x, np.polynomial.chebyshev.chebder(unit, order)).T
        for order in range(3)
    ]
    log_a = 0.5 * _LOG_A_FIRST * (1.0 - x)
    value, slope, curvature = (torch.from_numpy(table.copy()) for table in tables)
    return torch.from_numpy(log_a), value, slope, curvature
