"""Spectra and shifts as polynomials in the parameters, where few of them matter and all are uniform.

What comes of the direct way (theory.py) is fitted once by Chebyshev polynomials in the parameters, scaled to
[-1, 1]: log C_ii, atanh of the correlations C_ij / sqrt(C_ii C_jj) and log lambda_i. This is twenty times
faster. The polynomials are used only if they agree with the direct way to 2 10^-4 where they were not fitted.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sbikit import Law, Uniform, one_thread
from sbikit_lognormal.chebyshev import exponents, polynomials, regression, scattered
from sbikit_lognormal.cosmology import Parameters
from sbikit_lognormal.spectra.theory import DirectSpectra, Spectra

# For three parameters and one bin: degree 10 is wrong by at most 3e-4, 12 by 2e-4, 14 by 1e-4 and 16 by 5e-5,
# which takes 7, 8, 11 and 14 us a draw (32 at once on one core), against 200 us by the direct way.
_DEGREE = 14
# Six for each of 680 terms of three parameters; half as many take half the second and fit as well.
_POINTS = 4096
_CHECKS = 256  # more find a larger error, as the largest of more
_TOLERANCE = 2e-4  # below the emulator's median error over the prior, 3e-4
_BATCH = 64  # parameter vectors that the direct way is given at once, for the memory's sake
_MOST_PARAMETERS = 3  # four would have 3,060 terms, five 11,628


class PolynomialSpectra:
    """Chebyshev polynomials fitted to the direct way.

    Args:
        direct: what is fitted.

    Attributes:
        error: largest relative deviation from the direct way where nothing was fitted.
    """

    rows = 32  # as many as a block of draws has at most (field/blocks.py)

    def __init__(self, direct: DirectSpectra) -> None:
        self.direct = direct
        laws, device = _laws(direct.parameters), direct.limber.z.device
        self._low = torch.tensor([law.low for law in laws], dtype=torch.float64, device=device)
        self._width = torch.tensor([law.high - law.low for law in laws], dtype=torch.float64, device=device)
        # A product with zeros and ones picks faster than an index does, above all backwards.
        chosen = one_hot(exponents(len(laws), _DEGREE).to(device), _DEGREE + 1).double()
        self._powers = [axis.mT.contiguous() for axis in chosen.unbind(1)]
        theta = self._scattered()
        spectra, shift = _in_batches(direct, theta)
        self._packing = _Packing(direct.parameters.bins, shift.shape[-1], device)
        packed = self._packing.pack(spectra, shift)
        solution, fitted = regression(self._features(theta), packed, _CHECKS)
        # Transposed like this, a row's rounding does not depend on its place among others.
        self._coefficients = solution.T.contiguous().T
        pairs = zip(self._packing.unpack(fitted), (spectra, shift), strict=True)
        errors = [(ours / theirs[-_CHECKS:] - 1.0).flatten() for ours, theirs in pairs]
        self.error = float(torch.cat(errors).abs().max())

    def __call__(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """See `Spectra`."""
        return self._packing.unpack(self._features(theta.double()) @ self._coefficients)

    def _scattered(self) -> Tensor:
        """Points in the box to fit to, then to check at, (count, D); other parameters at their medians."""
        count, prior = _POINTS + _CHECKS, self.direct.parameters.prior
        x = scattered(count, len(self._low)).to(self._low.device)
        inside = self._low + self._width * (0.5 * (1.0 + x))
        median = prior.from_white(torch.zeros(count, len(prior.laws), dtype=torch.float64))
        return torch.cat([inside, median[:, len(self._low) :].to(inside.device)], -1)

    def _features(self, theta: Tensor) -> Tensor:
        """Products of Chebyshev polynomials (..., terms)."""
        x = 2.0 * (theta[..., : len(self._low)] - self._low) / self._width - 1.0
        values = polynomials(x, _DEGREE + 1)
        features = torch.ones_like(values[..., 0, :1])
        for axis, power in enumerate(self._powers):
            features = features * (values[..., axis, :] @ power)
        return features


class _Packing:
    """Spectra and shifts as the functions that are fitted.

    Args:
        bins: source bins.
        shifts: shifts of the field, `bins` or 0.
        device: where to compute.
    """

    def __init__(self, bins: int, shifts: int, device: torch.device) -> None:
        self._bins, self._shifts, self._crosses = bins, shifts, bins * (bins - 1) // 2
        self._first, self._second = torch.tril_indices(bins, bins, -1, device=device)
        autos = [i * (i + 3) // 2 for i in range(bins)]
        crosses = [k for k in range(bins + self._crosses) if k not in autos]
        self._split = torch.tensor(autos + crosses, device=device)
        self._order = torch.argsort(self._split)

    def pack(self, spectra: Tensor, shift: Tensor) -> Tensor:
        """(..., outputs) of spectra (..., pairs, n_ell) and shifts."""
        auto, cross = spectra.index_select(-2, self._split).split([self._bins, self._crosses], -2)
        scaled = torch.atanh(cross / self._scale(auto))
        return torch.cat([torch.log(auto).flatten(-2), scaled.flatten(-2), torch.log(shift)], -1)

    def unpack(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Spectra and shifts of (..., outputs)."""
        n_ell = (rows.shape[-1] - self._shifts) // (self._bins + self._crosses)
        sizes = [self._bins * n_ell, self._crosses * n_ell, self._shifts]
        log_auto, atanh, log_shift = rows.split(sizes, -1)
        auto = log_auto.unflatten(-1, (self._bins, n_ell)).exp()
        if self._crosses:
            cross = atanh.unflatten(-1, (self._crosses, n_ell)).tanh() * self._scale(auto)
            auto = torch.cat([auto, cross], -2).index_select(-2, self._order)
        return auto, log_shift.exp()

    def _scale(self, auto: Tensor) -> Tensor:
        """sqrt(C_ii C_jj) of every pair of two bins."""
        return torch.sqrt(auto[..., self._first, :] * auto[..., self._second, :])


def _in_batches(direct: DirectSpectra, theta: Tensor) -> tuple[Tensor, Tensor]:
    """The direct way for many parameter vectors, a few at a time."""
    spectra, shifts = zip(*(direct(part) for part in theta.split(_BATCH)), strict=True)
    return torch.cat(spectra), torch.cat(shifts)


def _laws(parameters: Parameters) -> list[Law]:
    """Those of the parameters that the spectra depend on."""
    return list(parameters.prior.laws.values())[: parameters.lensing]


def fastest(direct: DirectSpectra) -> Spectra:
    """Polynomials where they are as good as the direct way, which else is given back."""
    laws = _laws(direct.parameters)
    if not 0 < len(laws) <= _MOST_PARAMETERS or not all(isinstance(law, Uniform) for law in laws):
        return direct
    with one_thread():
        fitted = PolynomialSpectra(direct)
    return fitted if fitted.error < _TOLERANCE else direct
