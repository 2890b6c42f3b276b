"""Fitting the emulator's table to CAMB runs.

The grids of all runs are compressed to principal components, weighted by what a place of the grid contributes
to the convergence; each component is a quadratic polynomial plus a Gaussian process (spectra/process.py),
whose scales maximise the marginal likelihood. Runs with less than Omega_c = 0.03 are left out: their spectra
are unlike all others and spoil the compression.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit_lognormal.build.grids import Grids, grid_weights
from sbikit_lognormal.spectra import BUILD, Fit, MatterTable, inputs, matern, quadratic

Array = NDArray[np.float64]

COMPONENTS = {"nonlinear": 80, "linear": 40, "feedback": 24}
"""Principal components that are kept of each quantity.

Median error of the spectra at held-out cosmologies of the prior with 20, 40, 60 and 80 of the non-linear
power: 1.1e-3, 3.8e-4, 3.0e-4, 2.8e-4; with 8, 16 and 24 of the feedback: 9.7e-4, 4.8e-4, 3.5e-4. With 30 in
place of 40 of the linear power the tree-level shift changes by up to 1.3e-3.
"""

LEAST_OMEGA_C = 0.03
"""Runs with less dark matter are left out; the prior ends at 0.05, which stays inside."""

_GROUPS = (
    6,
    25,
)  # where a group ends: one scale fits the large components, others vary faster and are noisier
_TUNED_ON = 600  # runs that fix the scales of the kernel; the time grows as their cube
_TUNING_STEPS = 50  # of Adam; each scale can move by a factor exp(5) in them
_RATE = 0.1  # of Adam, in log scale; a tenth of it would take ten times as many steps
_FIRST_LOG_SCALE, _FIRST_LOG_NOISE = 0.7, -14.0  # scales of two standard deviations, noise of 1e-6
_LEAST_NOISE = 3e-8  # less makes weights so large that their rounding shows in differences of the fit


@dataclass(frozen=True)
class Fitted:
    """A fit and how good it is.

    Args:
        fit: what is kept of it.
        left_out: by how much the prediction of each run from all others fails, (n, components).
    """

    fit: Fit
    left_out: Array


def fit_table(grids: Grids, seed: int) -> MatterTable:
    """Fit all quantities to runs.

    Args:
        grids: the runs.
        seed: of the design, for the record.
    """
    grids = grids.where(grids.points[:, 0] > LEAST_OMEGA_C)
    cosmology = grids.cosmology
    x = inputs(cosmology).numpy()
    hot = np.concatenate([x, grids.points[:, 6:]], axis=1)
    weights = {name: grid_weights(cosmology, getattr(grids, name)) for name in ("nonlinear", "linear")}
    weights["feedback"] = weights["nonlinear"]
    fits = {
        name: fit(hot if name == "feedback" else x, getattr(grids, name), weights[name], components).fit
        for name, components in COMPONENTS.items()
    }
    libraries = {library: version(library) for library in ("camb", "numpy", "scipy", "torch", "sbikit")}
    return MatterTable(fits, {"command": BUILD, "runs": str(len(x)), "seed": str(seed), **libraries})


def fit(x: Array, y: Array, weights: Array, components: int) -> Fitted:
    """Compress y (n, outputs) and fit the components as functions of x (n, d)."""
    mean = y.mean(0)
    basis = np.linalg.svd((y - mean) * weights, full_matrices=False)[2][:components]
    coefficients = ((y - mean) * weights) @ basis.T
    centre, spread = x.mean(0), x.std(0)
    points = (x - centre) / spread
    terms = quadratic(torch.from_numpy(points)).numpy()
    polynomial = np.linalg.lstsq(terms, coefficients, rcond=None)[0]
    residual = coefficients - terms @ polynomial
    members = np.searchsorted(_GROUPS, np.arange(components), side="right")
    kernel, left_out = np.empty_like(residual), np.empty_like(residual)
    scales = []
    for group in range(members.max() + 1):
        own = members == group
        scale, kernel[:, own], left_out[:, own] = _fit_group(points, residual[:, own])
        scales.append(scale)
    made = Fit(
        centre=centre,
        spread=spread,
        points=points,
        scales=np.stack(scales),
        members=members.astype(np.float64),
        kernel=kernel,
        polynomial=polynomial,
        mean=mean,
        basis=basis / weights,
    )
    return Fitted(made, left_out)


def _fit_group(points: Array, residual: Array) -> tuple[Array, Array, Array]:
    """Scales (d,), weights of the runs and left-out errors, each (n, C), of one group of components."""
    scale, noise = _tune(points[:_TUNED_ON], residual[:_TUNED_ON] / residual.std(0))
    diagonal = torch.tensor(max(noise, _LEAST_NOISE), dtype=torch.float64)
    covariance = _covariance(torch.from_numpy(points / scale), diagonal)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance)).numpy()
    kernel = inverse @ residual
    return scale, kernel, kernel / np.diag(inverse)[:, None]


def _covariance(scaled: Tensor, noise: Tensor) -> Tensor:
    """Kernel of all pairs of rows (n, d), and noise on the diagonal."""
    return matern(scaled, scaled) + noise * torch.eye(len(scaled), dtype=torch.float64)


def _tune(x: Array, y: Array) -> tuple[Array, float]:
    """Scales (d,) and noise that maximise the marginal likelihood of y (n, C), one amplitude a component."""
    points, values = torch.from_numpy(x), torch.from_numpy(y)
    log_scale = torch.full((x.shape[1],), _FIRST_LOG_SCALE, dtype=torch.float64, requires_grad=True)
    log_noise = torch.tensor(_FIRST_LOG_NOISE, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([log_scale, log_noise], lr=_RATE)
    for _ in range(_TUNING_STEPS):
        optimizer.zero_grad()
        root = torch.linalg.cholesky(_covariance(points / log_scale.exp(), log_noise.exp()))
        amplitude = (values * torch.cholesky_solve(values, root)).mean(0)
        loss = 0.5 * len(points) * torch.log(amplitude).sum() + y.shape[1] * root.diagonal().log().sum()
        loss.backward()
        optimizer.step()
    return log_scale.detach().exp().numpy(), float(log_noise.detach().exp())
