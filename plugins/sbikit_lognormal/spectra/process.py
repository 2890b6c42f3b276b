"""A Gaussian process with a quadratic mean, compressed to principal components, evaluated in torch.

Each component is a quadratic polynomial of the inputs

    log Omega_m,  Omega_b / Omega_m,  log sigma_8,  log h,  n_s,  exp(w_0)    (and log T_AGN)

plus a Gaussian process with a Matern kernel of order 7/2 with one scale an input and group of components
(Rasmussen and Williams 2006, ch. 2, 4 and 5).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit_lognormal.cosmology import Cosmology
from sbikit_lognormal.spectra.grid import ELL, Z

Array = NDArray[np.float64]


class Fit(NamedTuple):
    """One emulated quantity; d inputs, n runs, C components, G groups.

    Attributes:
        centre: of the inputs (d,).
        spread: of the inputs (d,).
        points: standardised inputs of the runs (n, d).
        scales: of the kernel (G, d).
        members: the group of each component (C,).
        kernel: (n, C) weights of the runs.
        polynomial: (terms, C).
        mean: (n_z n_ell,).
        basis: (C, n_z n_ell).
    """

    centre: Array
    spread: Array
    points: Array
    scales: Array
    members: Array
    kernel: Array
    polynomial: Array
    mean: Array
    basis: Array


def inputs(cosmology: Tensor) -> Tensor:
    """What the fits depend on, (..., 6), of the six parameters (..., 6)."""
    c = Cosmology.of(cosmology)
    columns = (
        torch.log(c.omega_m),
        c.omega_b / c.omega_m,
        torch.log(c.sigma_8),
        torch.log(c.h),
        c.n_s,
        torch.exp(c.w_0),
    )
    return torch.stack(columns, -1)


def quadratic(x: Tensor) -> Tensor:
    """1, x_i and x_i x_j for i <= j, (..., terms), of x (..., d)."""
    first, second = torch.triu_indices(x.shape[-1], x.shape[-1], device=x.device)
    return torch.cat([torch.ones_like(x[..., :1]), x, x[..., first] * x[..., second]], -1)


class Process:
    """One fit on a device, float64.

    Args:
        fit: its arrays.
        device: where to compute.
    """

    def __init__(self, fit: Fit, device: torch.device | str) -> None:
        def tensor(array: Array) -> Tensor:
            return torch.from_numpy(array).to(device)

        self.centre, self.spread = tensor(fit.centre), tensor(fit.spread)
        # As transposed views these leave a row's rounding independent of its place among others.
        self.polynomial = tensor(fit.polynomial.T.copy()).T
        self.mean, self.basis = tensor(fit.mean), tensor(fit.basis.T.copy()).T
        members = fit.members.astype(int)
        self.groups = []
        for group, scales in enumerate(fit.scales):
            weights = tensor(fit.kernel[:, members == group].T.copy()).T
            self.groups.append((tensor(1.0 / scales), tensor(fit.points / scales), weights))

    def __call__(self, x: Tensor) -> Tensor:
        """(..., n_z, n_ell) at inputs (..., d)."""
        x = (x - self.centre) / self.spread
        parts = [matern(x * inverse, points) @ weights for inverse, points, weights in self.groups]
        components = torch.cat(parts, -1) + quadratic(x) @ self.polynomial
        return (self.mean + components @ self.basis).unflatten(-1, (len(Z), len(ELL)))


def matern(x: Tensor, points: Tensor) -> Tensor:
    """The Matern kernel of order 7/2 of x (..., d) and points (n, d), in units of its scales, (..., n).

    Distances are those of differences: the weights are so large that what squares would cancel matters.
    """
    flat = x.reshape(-1, x.shape[-1])
    distance = torch.cdist(flat, points, compute_mode="donot_use_mm_for_euclid_dist") * math.sqrt(7.0)
    factor = 1.0 + distance * (1.0 + distance * (0.4 + distance / 15.0))
    return (factor * torch.exp(-distance)).reshape(*x.shape[:-1], len(points))
