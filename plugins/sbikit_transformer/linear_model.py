r"""The linear Gaussian model of the guide, mode by mode, at parameters u:

    y ~ N(0, P_r(u)),    d = b_r(u) y + n,    n ~ N(0, N_r(u)),

for the latent field y and the data field d in orthonormal Fourier modes of ring r.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sbikit.fields import Rings
from sbikit_transformer.polynomials import fit_gamma, quadratic

# Of the mean power: keeps the logarithm of an empty ring finite. A larger value would hide steep spectra.
_FLOOR = 1e-6
_TINY = 1e-12  # the same where there is no power at all
# Of the features' own squares, in units of the mean power: where a ring has next to none, b goes to zero
# instead of the ratio of two roundings. A larger value would pull b to zero where there is some.
_RIDGE = 1e-4


@dataclass(frozen=True)
class LinearModel:
    """Power, noise and slope of the model above, each (B, Q, C, rings) at Q parameters u."""

    power: Tensor
    noise: Tensor
    slope: Tensor

    def log_likelihood(self, sums: tuple[Tensor, Tensor, Tensor], noise: Tensor, count: Tensor) -> Tensor:
        """Log likelihood of noisy field and data at each u, (B, Q).

        Args:
            sums: powers of noisy field, cross, data summed over rings, each (B, 1, C, rings).
            noise: variance of the noise on the field, (B, 1, 1, 1).
            count: modes a ring.
        """
        p_y, p_n, b = self.power, self.noise, self.slope
        s_yy, s_yd, s_dd = sums
        v_y = p_y + noise
        v_d = b.square() * p_y + p_n
        determinant = self._determinant(noise)
        quadratic_form = (v_d * s_yy - 2.0 * b * p_y * s_yd + v_y * s_dd) / determinant
        return -0.5 * (count * torch.log(determinant) + quadratic_form).sum((-1, -2))

    def wiener(
        self, weight: Tensor, modes: tuple[Tensor, Tensor], noise: Tensor, rings: Rings
    ) -> tuple[Tensor, Tensor]:
        """Mean (B, C, *grid) of the clean field over all u, and its rms error (B, C).

        Args:
            weight: (B, Q) of each u.
            modes: of noisy field and data, each (B, C, modes).
            noise: variance of the noise on the field, (B, 1, 1, 1).
            rings: of the grid.
        """
        p_y, p_n, b = self.power, self.noise, self.slope
        share = weight[:, :, None, None] / self._determinant(noise)
        gain_y = (share * p_y * p_n).sum(1)
        gain_d = (share * b * p_y * noise).sum(1)
        mean = gain_y[..., rings.index] * modes[0] + gain_d[..., rings.index] * modes[1]
        variance = gain_y * noise[:, 0]
        return rings.inverse(mean), ((variance * rings.count).sum(-1) / rings.count.sum()).sqrt()

    def _determinant(self, noise: Tensor) -> Tensor:
        """Of the covariance of noisy field and data in a mode."""
        return (self.power + noise) * self.noise + self.slope.square() * self.power * noise


def fit_model(u: Tensor, y: Tensor, d: Tensor, rings: Rings) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients of log power, log noise and slope, each (F, rings) on the features of `quadratic`.

    Args:
        u: (M, P) parameters.
        y, d: modes of field and data, each (M, modes).
        rings: of the grid.
    """
    features = quadratic(u).double()
    p_y = rings.power(y, y).double() / rings.count
    p_c = rings.power(y, d).double() / rings.count
    floor = _FLOOR * rings.power(d, d).sum(-1).mean() / rings.count.sum() + _TINY
    least = _FLOOR * p_y.mean() + _TINY
    log_power = fit_gamma(features, p_y + least)
    # A ring without power, of a blocky field or a constant channel, has none in the field's own units.
    typical = p_y.sqrt().mean(0).square().clamp_min(least)
    slope = _fit_slope(features, p_y / typical, p_c / typical)
    b = (features @ slope)[:, rings.index].to(y.dtype)
    left = d - b * y
    p_n = rings.power(left, left).double() / rings.count
    return log_power, fit_gamma(features, p_n + floor), slope


def _fit_slope(features: Tensor, p_y: Tensor, p_c: Tensor) -> Tensor:
    """b(u) of d = b y + n, quadratic in u, from ring powers: minimises sum p_y (b - p_c / p_y)^2."""
    columns = []
    ridge = _RIDGE * len(features) * torch.eye(features.shape[1], dtype=features.dtype)
    for ring in range(p_y.shape[1]):
        weighted = features * p_y[:, ring : ring + 1].clamp_min(0.0)
        columns.append(torch.linalg.solve(features.T @ weighted + ridge, features.T @ p_c[:, ring]))
    return torch.stack(columns, dim=1)
