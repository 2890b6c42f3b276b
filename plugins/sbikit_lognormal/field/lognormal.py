"""Correlated log-normal random fields on a periodic flat sky.

With lambda_i the shift of bin i and G_i Gaussian fields of variance v_i, log-normal fields are (Hilbert et
al. 2011; Xavier, Abdalla and Joachimi 2016)

    kappa_i = lambda_i [exp(G_i - v_i / 2) - 1],     xi_G,ij = log[1 + xi_ij / (lambda_i lambda_j)],

where xi_ij is the correlation function of the pixelised convergences (pixels.py) and xi_G,ij that of the G.
The power of the G is S = rfft2(xi_G), a cosine transform of the quadrant 0 <= i, j <= N / 2 along both axes,
two products with a small matrix. Where S is no power (roots.py) what can be asked for is a decorrelation r:
between bins xi_G,ij is lowered to (1 - r) xi_G,ij, which leaves every bin's own power.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sbikit_lognormal.field.pixels import correlation_matrix
from sbikit_lognormal.field.quadrant import at_lags, cosine_matrix
from sbikit_lognormal.field.random_field import Gaussian, LinearModes, RandomField
from sbikit_lognormal.field.roots import reuse, upper_root

_LEAST_PRODUCT = 16  # products of smaller matrices are rounded as these lie in memory: they are padded


@dataclass(frozen=True, eq=False)
class LogNormalConvergence(RandomField):
    """Log-normal fields; arguments as of `RandomField`, and

    Args:
        decorrelation: fraction by which the correlation of the Gaussian fields of two bins is lowered.
    """

    decorrelation: float = field(default=0.0, kw_only=True)

    law = "log-normal"
    bounded = True
    remedy = "raise `decorrelation` where bins overlap, raise `shift`, widen the pixels or narrow the prior"

    @cached_property
    def _correlation(self) -> Tensor:
        """From spectra to xi, (n_ell, n_lags)."""
        matrix = correlation_matrix(self.pixels, self.ell).T.copy()
        return torch.from_numpy(matrix).to(self.device, self.dtype)

    @cached_property
    def _pairs(self) -> Tensor:
        """The two bins of each pair, (2, pairs)."""
        return torch.tril_indices(self.bins, self.bins, device=self.device)

    @property
    def _spare(self) -> tuple[int, int]:
        """Rows that a matrix of the quadrant is padded by."""
        return 0, max(0, _LEAST_PRODUCT - (self.size // 2 + 1))

    @cached_property
    def _lags(self) -> Tensor:
        half = self.size // 2 + 1
        lags = np.pad(self.pixels.lag_index[:half, :half], (self._spare, self._spare))
        return torch.from_numpy(lags.ravel()).to(self.device)

    @cached_property
    def _cosines(self) -> Tensor:
        cosines = np.pad(cosine_matrix(self.size).T, (self._spare, self._spare))
        return torch.from_numpy(cosines).to(self.device, self.dtype)

    @cached_property
    def _kept(self) -> Tensor | None:
        """The part of xi_G of each pair that is kept, (pairs, 1), if not all of all."""
        if not self.decorrelation:
            return None
        kept = torch.where(self._pairs[0] == self._pairs[1], 1.0, 1.0 - self.decorrelation)
        return kept.to(self.device, self.dtype)[:, None]

    def gaussian(self, spectra: Tensor, shift: Tensor) -> Gaussian:
        """See `RandomField`."""
        contrast = (spectra / self._floors(shift)).to(self.dtype) @ self._correlation
        xi, variance = self._logarithm(contrast)
        root, lowest = upper_root(self._power(xi), variance)
        return Gaussian(root, variance, shift.to(self.dtype), lowest)

    def transform(self, modes: Tensor, gaussian: Gaussian) -> Tensor:
        """See `RandomField`."""
        modes[..., 0, 0] -= (0.5 * self.size**2) * gaussian.variance
        exponent = torch.fft.irfft2(modes, s=(self.size, self.size))
        contrast = torch.expm1(exponent, out=reuse(exponent))
        return torch.mul(contrast, gaussian.shift[..., None, None], out=reuse(contrast, gaussian.shift))

    def described(self, spectra: Tensor, shift: Tensor) -> LinearModes:
        """See `RandomField`; b = lambda, since kappa and G have the cross-correlation lambda xi_G."""
        xi = spectra.to(self.dtype) @ self._correlation
        logarithm, variance = self._logarithm(xi / self._floors(shift).to(self.dtype))
        both = torch.cat([logarithm, xi.index_select(-2, self._autos)], -2)
        power, autos = self._power(both).split([both.shape[-2] - self.bins, self.bins], -3)
        root, lowest = upper_root(power, variance)
        gaussian = Gaussian(root, variance, shift.to(self.dtype), lowest)
        return LinearModes(gaussian, gaussian.shift, autos)

    def given_mean(self, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
        """See `RandomField`; the field becomes one of the shift A lambda and of less variance."""
        variance = sd.square()
        return torch.exp(mean - 0.5 * variance), torch.exp(-variance)

    def _floors(self, shift: Tensor) -> Tensor:
        """lambda_i lambda_j of each pair, (..., pairs, 1)."""
        first, second = self._pairs
        return (shift[..., first] * shift[..., second]).unsqueeze(-1)

    def _logarithm(self, contrast: Tensor) -> tuple[Tensor, Tensor]:
        """xi_G (..., pairs, n_lags) and v (..., bins) of xi_ij / (lambda_i lambda_j), perhaps overwritten."""
        xi = torch.log1p(contrast, out=reuse(contrast))
        variance = xi[..., 0].index_select(-1, self._autos)
        if self._kept is not None:
            xi = torch.mul(xi, self._kept, out=reuse(xi))
        return xi, variance

    def _power(self, xi: Tensor) -> Tensor:
        """S (..., pairs, H, H) on the quadrant, of xi_G (..., pairs, n_lags)."""
        half = self.size // 2 + 1
        square = tuple(self._cosines.shape)
        quadrant = at_lags(xi, self._lags, square)
        return ((quadrant @ self._cosines).mT @ self._cosines)[..., :half, :half]
