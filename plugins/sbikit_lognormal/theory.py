"""From the parameters of a draw to the spectra and shifts of its field.

The direct way is emulator, Limber sum and shift. Where three parameters or fewer matter and all are
uniform, what comes of it is fitted once by Chebyshev polynomials of total degree 14 in the parameters,
scaled to [-1, 1]: log C_ii, atanh of the correlations C_ij / sqrt(C_ii C_jj) and log lambda_i. This is
several times faster. The polynomials are used only if they agree with the direct way to 2 10^-4 where they
were not fitted.
"""

from __future__ import annotations

from itertools import product
from typing import Protocol

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor
from torch.nn.functional import one_hot

from sbikit import Uniform
from sbikit_lognormal.blocks import one_thread
from sbikit_lognormal.emulator import Emulator
from sbikit_lognormal.limber import Limber
from sbikit_lognormal.parameters import Parameters
from sbikit_lognormal.shifts import Shift

_DEGREE = 14
_POINTS = 4096
_CHECKS = 256
_TOLERANCE = 2e-4
_BATCH = 64
_MOST_PARAMETERS = 3


class Spectra(Protocol):
    """Spectra of the convergence and shifts of its field; differentiable, float64.

    Attributes:
        rows: parameter vectors that are best worked on at once.
    """

    rows: int

    def __call__(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """C_ij(ell) of shape (..., pairs, n_ell) and lambda_i of shape (..., bins), (..., 0) if unbounded.

        Args:
            theta: parameter vectors (..., D).
        """
        ...


class DirectSpectra:
    """The direct way.

    Args:
        parameters: what a parameter vector means.
        limber: the sources.
        shift: lambda.
        emulator: the matter power.
    """

    rows = 16

    def __init__(self, parameters: Parameters, limber: Limber, shift: Shift, emulator: Emulator) -> None:
        self.parameters, self.limber, self.shift, self.emulator = parameters, limber, shift, emulator

    def __call__(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """See `Spectra`."""
        cosmology = self.parameters.cosmology(theta)
        power = self.emulator.nonlinear(cosmology)
        log_t_agn = self.parameters.log_t_agn(theta)
        if log_t_agn is not None:
            power = power + self.emulator.feedback(cosmology, log_t_agn)
        spectra = self.limber(
            cosmology,
            power,
            photo_z_shift=self.parameters.photo_z_shift(theta),
            alignment=self.parameters.alignment(theta),
        )
        linear = self.emulator.linear(cosmology) if self.shift.needs_linear else None
        return spectra, self.shift(cosmology, linear)


class PolynomialSpectra:
    """Chebyshev polynomials fitted to the direct way.

    Args:
        direct: what is fitted.
    """

    rows = 32

    def __init__(self, direct: DirectSpectra) -> None:
        self.direct = direct
        parameters = direct.parameters
        laws = list(parameters.prior.laws.values())[: parameters.lensing]
        device = direct.limber.z.device
        self.bins = parameters.bins
        self._low = torch.tensor([law.low for law in laws], dtype=torch.float64, device=device)
        self._width = torch.tensor([law.high - law.low for law in laws], dtype=torch.float64, device=device)
        powers = [p for p in product(range(_DEGREE + 1), repeat=len(laws)) if sum(p) <= _DEGREE]
        # A product with zeros and ones picks faster than an index does, above all backwards.
        chosen = one_hot(torch.tensor(powers, device=device), _DEGREE + 1).double()
        self._powers = [axis.mT.contiguous() for axis in chosen.unbind(1)]
        self._first, self._second = torch.tril_indices(self.bins, self.bins, -1, device=device)
        autos = [i * (i + 3) // 2 for i in range(self.bins)]
        crosses = [k for k in range(self.bins * (self.bins + 1) // 2) if k not in autos]
        self._order = torch.argsort(torch.tensor(autos + crosses, device=device))
        theta = self._scattered(_POINTS, parameters)
        spectra, shift = _in_batches(direct, theta)
        self._shifts = shift.shape[-1]
        packed = self._pack(spectra, shift)
        solution = torch.linalg.lstsq(self._features(theta), packed).solution
        # Transposed like this, a row's rounding does not depend on its place among others.
        self._coefficients = solution.T.contiguous().T
        self.error = self._error(direct, self._scattered(_POINTS + _CHECKS, parameters)[_POINTS:])
        """Largest relative deviation from the direct way where the fit has not been."""

    def __call__(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """See `Spectra`."""
        return self._unpack(self._features(theta.double()) @ self._coefficients)

    def _scattered(self, count: int, parameters: Parameters) -> Tensor:
        """The first points of a Sobol sequence in the box, (count, D); other parameters at their medians."""
        power = int(np.ceil(np.log2(count)))
        u = qmc.Sobol(len(self._low), scramble=True, rng=np.random.default_rng(0)).random_base2(power)
        dense_at_the_ends = 0.5 * (1.0 - np.cos(np.pi * u[:count]))
        inside = self._low + self._width * torch.from_numpy(dense_at_the_ends).to(self._low.device)
        median = parameters.prior.from_white(
            torch.zeros(count, len(parameters.prior.laws), dtype=torch.float64)
        )
        return torch.cat([inside, median[:, len(self._low) :].to(inside.device)], -1)

    def _features(self, theta: Tensor) -> Tensor:
        """Products of Chebyshev polynomials (..., terms)."""
        x = 2.0 * (theta[..., : len(self._low)] - self._low) / self._width - 1.0
        rows = [torch.ones_like(x), x]
        for _ in range(_DEGREE - 1):
            rows.append(2 * x * rows[-1] - rows[-2])
        polynomials = torch.stack(rows, -1)
        features = torch.ones_like(polynomials[..., 0, :1])
        for axis, power in enumerate(self._powers):
            features = features * (polynomials[..., axis, :] @ power)
        return features

    def _pack(self, spectra: Tensor, shift: Tensor) -> Tensor:
        """What is fitted: (..., outputs)."""
        auto, cross = self._split(spectra)
        scale = torch.sqrt(auto[..., self._first, :] * auto[..., self._second, :])
        parts = [torch.log(auto).flatten(-2), torch.atanh(cross / scale).flatten(-2), torch.log(shift)]
        return torch.cat(parts, -1)

    def _unpack(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        pairs = self.bins * (self.bins - 1) // 2
        n_ell = (rows.shape[-1] - self._shifts) // (self.bins + pairs)
        log_auto, atanh, log_shift = rows.split([self.bins * n_ell, pairs * n_ell, self._shifts], -1)
        auto = log_auto.unflatten(-1, (self.bins, n_ell)).exp()
        if pairs:
            scale = torch.sqrt(auto[..., self._first, :] * auto[..., self._second, :])
            cross = atanh.unflatten(-1, (pairs, n_ell)).tanh() * scale
            auto = torch.cat([auto, cross], -2).index_select(-2, self._order)
        return auto, log_shift.exp()

    def _split(self, spectra: Tensor) -> tuple[Tensor, Tensor]:
        """C_ii (..., bins, n_ell) and C_ij, j < i, (..., bins (bins - 1) / 2, n_ell)."""
        ordered = spectra.index_select(-2, torch.argsort(self._order))
        return ordered[..., : self.bins, :], ordered[..., self.bins :, :]

    def _error(self, direct: DirectSpectra, theta: Tensor) -> float:
        pairs = zip(self(theta), _in_batches(direct, theta), strict=True)
        return float(torch.cat([(ours / theirs - 1.0).flatten() for ours, theirs in pairs]).abs().max())


def _in_batches(direct: DirectSpectra, theta: Tensor) -> tuple[Tensor, Tensor]:
    """The direct way for many parameter vectors, a few at a time."""
    spectra, shifts = zip(*(direct(part) for part in theta.split(_BATCH)), strict=True)
    return torch.cat(spectra), torch.cat(shifts)


def fastest(direct: DirectSpectra) -> Spectra:
    """Polynomials where they are as good as the direct way, which else is given back."""
    parameters = direct.parameters
    laws = list(parameters.prior.laws.values())[: parameters.lensing]
    if not 0 < len(laws) <= _MOST_PARAMETERS or not all(isinstance(law, Uniform) for law in laws):
        return direct
    with one_thread():
        polynomials = PolynomialSpectra(direct)
    return polynomials if polynomials.error < _TOLERANCE else direct


__all__ = ["DirectSpectra", "PolynomialSpectra", "Spectra", "fastest"]
