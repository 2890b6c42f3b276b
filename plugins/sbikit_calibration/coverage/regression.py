"""Kernel ridge regression of the latents on features of the data, with leave-one-out residuals.

With targets y of M training simulations, the kernel K of their features and the ridge lambda,
    H = 1 1^T / M + K (K + lambda)^-1,   residual_i = (y - H y)_i / (1 - H_ii),
and kernel and lambda are those with the least squared residual (Allen 1974,
doi:10.1080/00401706.1974.10489157).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter

import torch
from torch import Tensor

from sbikit import Evidence, Values, derive_seed, generator
from sbikit_calibration.coverage.distance import scale
from sbikit_calibration.coverage.features import kernels

# log10, in units of the mean eigenvalue: from next to no shrinkage to next to nothing but the mean, in steps
# of half a decade near 1, where the residual varies. Each costs a product of M^2 with the targets.
_RIDGES = (-4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)
# Scalars of a latent on which kernel and ridge are chosen. On maps of 16^2 pixels 32 choose the same as all;
# the cost rises with them.
_TARGETS = 256


@dataclass(frozen=True)
class KernelRegression:
    """A ridge regression as weights on the M training targets, in the eigenbasis of its kernel.

    Args:
        basis: eigenvectors U of the kernel, (M, M).
        eigenvalues: e, (M,).
        observed: similarity of observations and training simulations in that basis, (B, M).
        ridge: lambda.
    """

    basis: Tensor
    eigenvalues: Tensor
    observed: Tensor
    ridge: float

    @cached_property
    def _kept(self) -> Tensor:
        return self.eigenvalues / (self.eigenvalues + self.ridge)

    @cached_property
    def _leverage(self) -> Tensor:
        """H_ii, (M,)."""
        return torch.mv(self.basis**2, self._kept) + 1.0 / len(self.basis)

    def mean_squared_residual(self, projected: Tensor, targets: Tensor) -> float:
        """Mean squared leave-one-out residual of targets y (M, dim), given U^T y too."""
        fitted = self.basis @ (self._kept.unsqueeze(-1) * projected) + targets.mean(0)
        return float((((targets - fitted) / (1.0 - self._leverage).unsqueeze(-1)) ** 2).mean())

    def prediction(self, b: int) -> Tensor:
        """Weights (M,) whose product with the targets is the prediction for observation b."""
        return self.basis @ (self.observed[b] / (self.eigenvalues + self.ridge)) + 1.0 / len(self.basis)

    def residual(self, rows: Tensor) -> Tensor:
        """Weights (len(rows), M) whose product with the targets is the leave-one-out residual of `rows`."""
        M = len(self.basis)
        hat = (self.basis[rows] * self._kept) @ self.basis.T + 1.0 / M
        identity = torch.nn.functional.one_hot(rows, M)
        return (identity - hat) / (1.0 - self._leverage[rows]).unsqueeze(-1)


def regressions(evidence: Evidence, training: Values, seed: int) -> dict[str, KernelRegression]:
    """The best regression of every latent.

    Args:
        evidence: the observations, and what they and the latents are.
        training: simulations to fit, each (M, *shape).
        seed: chooses the scalars on which the regression is chosen.
    """
    targets = {
        v.name: _few(training[v.name], scale(v, training[v.name]), derive_seed(seed, v.name))
        for v in evidence.spec.latents
    }
    found: dict[str, list[tuple[float, KernelRegression]]] = {name: [] for name in targets}
    for kernel in kernels(evidence, training):
        eigenvalues, basis = torch.linalg.eigh(kernel.training)
        unshrunk = KernelRegression(basis, eigenvalues.clamp_min(0.0), kernel.observed @ basis, 0.0)
        for name, y in targets.items():
            found[name].append(_best_ridge(unshrunk, y))
    return {name: min(candidates, key=itemgetter(0))[1] for name, candidates in found.items()}


def _best_ridge(unshrunk: KernelRegression, targets: Tensor) -> tuple[float, KernelRegression]:
    """The least mean squared residual of targets (M, dim), and the ridge regression that has it."""
    projected = unshrunk.basis.T @ (targets - targets.mean(0))
    mean = float(unshrunk.eigenvalues.mean())
    candidates = [replace(unshrunk, ridge=mean * 10.0**power) for power in _RIDGES]
    errors = [candidate.mean_squared_residual(projected, targets) for candidate in candidates]
    return min(zip(errors, candidates, strict=True), key=itemgetter(0))


def _few(training: Tensor, unit: Tensor, seed: int) -> Tensor:
    """At most 256 of the scalars of simulations (M, *shape), chosen at random, in their units, float64."""
    flat, units = training.flatten(1), unit.expand(training.shape[1:]).flatten()
    columns = torch.randperm(flat.shape[1], generator=generator(seed))[:_TARGETS]
    return (flat[:, columns] / units[columns]).double()
