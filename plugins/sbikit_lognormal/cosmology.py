"""The six parameters of a flat wCDM universe, its distances and its growth, differentiable in torch.

Neutrinos are massless and space is flat, so with radiation of density Omega_r

    E^2(z) = Omega_m (1 + z)^3 + Omega_r (1 + z)^4 + (1 - Omega_m - Omega_r) (1 + z)^(3 (1 + w_0))

where Omega_m = Omega_c + Omega_b. Distances are in units of c / H_0.

Matter fluctuations grow as D(a), with primes for d / d ln a,

    D'' + (2 + dln E / dln a) D' = 3/2 Omega_m(a) D,     D = (a + 2/3 a_eq) g(a)

where the factor before g is the growth without dark energy (Meszaros 1974), a_eq = Omega_r / Omega_m. g
hardly changes before dark energy counts, so it is a short Chebyshev series in ln a, found by collocation.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

HUBBLE_DISTANCE = 2997.92458
"""c / (100 km/s/Mpc) in Mpc."""

_RADIATION = 4.1837e-5
"""Omega_r h^2 of photons at 2.7255 K and 3.044 massless neutrinos."""


_LOG_A_FIRST = -math.log(31.0)
_GROWTH_TERMS = 32


class Cosmology(NamedTuple):
    """Parameters of one or many universes; tensors of one shape, float64.

    The amplitude sigma_8 is that of the linear matter density today in spheres of 8 Mpc/h.
    """

    omega_c: Tensor
    omega_b: Tensor
    sigma_8: Tensor
    h: Tensor
    n_s: Tensor
    w_0: Tensor

    @property
    def omega_m(self) -> Tensor:
        """Matter density."""
        return self.omega_c + self.omega_b

    @classmethod
    def of(cls, values: Tensor) -> Cosmology:
        """From the last axis of (..., 6)."""
        return cls(*values.unbind(-1))


def expansion(cosmology: Cosmology, z: Tensor) -> Tensor:
    """E(z) = H(z) / H_0, (..., n_z), at redshifts (n_z,)."""
    omega_m, w_0 = cosmology.omega_m[..., None], cosmology.w_0[..., None]
    radiation = _RADIATION / cosmology.h[..., None] ** 2
    a = 1.0 + z
    dark = (1.0 - omega_m - radiation) * torch.exp(3.0 * (1.0 + w_0) * torch.log(a))
    return torch.sqrt(omega_m * a**3 + radiation * a**4 + dark)


def growth(cosmology: Cosmology, z: Tensor) -> Tensor:
    """D(z) / D(0) of the linear matter density, (..., n_z), at redshifts 0 to 30 (n_z,)."""
    series = _chebyshev(2.0 * torch.log1p(z) / _LOG_A_FIRST + 1.0)
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
    radiation = _RADIATION / cosmology.h[..., None] ** 2
    # Densities times a^3.
    relativistic = radiation * torch.exp(-log_a)
    dark = (1.0 - omega_m - radiation) * torch.exp(-3.0 * w_0 * log_a)
    total = omega_m + relativistic + dark
    slope = -0.5 * (3.0 * omega_m + 4.0 * relativistic + 3.0 * (1.0 + w_0) * dark) / total
    share = 1.0 / (1.0 + _without_dark_energy(cosmology) * torch.exp(-log_a))
    return 2.0 * share + 2.0 + slope, share * (3.0 + slope) - 1.5 * omega_m / total, -3.0 * w_0


def _without_dark_energy(cosmology: Cosmology) -> Tensor:
    """2/3 of the scale factor at which radiation and matter are equal, (..., 1)."""
    return (2.0 / 3.0 * _RADIATION / cosmology.h**2 / cosmology.omega_m)[..., None]


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


def _chebyshev(x: Tensor) -> Tensor:
    """Chebyshev polynomials (n, terms) at x (n,) between -1 and 1."""
    order = torch.arange(_GROWTH_TERMS, dtype=x.dtype, device=x.device)
    return torch.cos(order * torch.arccos(x.clamp(-1.0, 1.0))[:, None])


__all__ = ["HUBBLE_DISTANCE", "Cosmology", "expansion", "growth"]
