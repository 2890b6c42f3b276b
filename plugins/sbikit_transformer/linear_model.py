r"""The linear Gaussian model of the guide, mode by mode, at parameters u:

    y ~ N(0, P_r(u)),    d = b_r(u) y + n,    n ~ N(0, N_r(u)),

for the latent field y and the data field d in orthonormal Fourier modes of ring r.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sbikit import Values
from sbikit.fields import Rings
from sbikit.learning import Parts
from sbikit_transformer.polynomials import fit_gamma, quadratic

# Of the mean power: keeps the logarithm of an empty ring finite. A larger value would hide steep spectra.
_FLOOR = 1e-6
_TINY = 1e-12  # the same where there is no power at all
# Of the features' own squares, in units of the mean power: where a ring has next to none, b goes to zero
# instead of the ratio of two roundings. A larger value would pull b to zero where there is some.
_RIDGE = 1e-4


@dataclass(frozen=True)
class LinearModel:
    """Power, noise and slope of the model above, each (*, C, rings) at parameters u."""

    power: Tensor
    noise: Tensor
    slope: Tensor

    def log_likelihood(self, power: Tensor, count: Tensor) -> Tensor:
        """Log likelihood of the data at each u, (*,).

        Args:
            power: of the data, summed over rings, (*, C, rings).
            count: modes a ring.
        """
        expected = self.slope.square() * self.power + self.noise
        return -0.5 * (count * torch.log(expected) + power / expected).sum((-1, -2))

    def wiener(self, modes: tuple[Tensor, Tensor], noise: Tensor, rings: Rings) -> tuple[Tensor, Tensor]:
        """Mean (B, C, *grid) of the clean field, and its rms error (B, C), at one u each.

        Args:
            modes: of noisy field and data, each (B, C, modes).
            noise: variance of the noise on the field, (B, 1, 1).
            rings: of the grid.
        """
        p_y, p_n, b = self.power, self.noise, self.slope
        determinant = (p_y + noise) * p_n + b.square() * p_y * noise
        gain_y, gain_d = p_y * p_n / determinant, b * p_y * noise / determinant
        mean = gain_y[..., rings.index] * modes[0] + gain_d[..., rings.index] * modes[1]
        variance = gain_y * noise
        return rings.inverse(mean), ((variance * rings.count).sum(-1) / rings.count.sum()).sqrt()


def fit_model(modes: Parts, rings: Rings) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients of log power, log noise and slope, each (C, F, rings) on the features of `quadratic`.

    Args:
        modes: in parts parameters "u" (m, P), and modes "y" of field and "d" of data, each (m, C, modes).
        rings: of the grid.
    """
    found = modes.through(lambda part: _powers(part, rings)).joined()
    features = quadratic(found["u"]).double()
    log_power, slopes = [], []
    for p_y, p_c in zip(found["y"].unbind(1), found["c"].unbind(1), strict=True):
        least = _FLOOR * p_y.mean() + _TINY
        log_power.append(fit_gamma(features, p_y + least))
        # A ring without power, of a blocky field or a constant channel, has none in the field's own units.
        typical = p_y.sqrt().mean(0).square().clamp_min(least)
        slopes.append(_fit_slope(features, p_y / typical, p_c / typical))
    slope = torch.stack(slopes)
    p_n = modes.through(lambda part: {"n": _power_left(part, slope, rings)}).joined()["n"]
    log_noise = []
    for left, p_d in zip(p_n.unbind(1), found["d"].unbind(1), strict=True):
        floor = _FLOOR * p_d.contiguous().mean() / rings.count.sum() + _TINY
        log_noise.append(fit_gamma(features, left + floor))
    return torch.stack(log_power), torch.stack(log_noise), slope


def _powers(part: Values, rings: Rings) -> dict[str, Tensor]:
    """Ring powers of field and cross, float64 (m, C, rings), and the power of the data, (m, C)."""
    y, d = part["y"], part["d"]
    return {
        "u": part["u"],
        "y": rings.power(y, y).double() / rings.count,
        "c": rings.power(y, d).double() / rings.count,
        "d": rings.power(d, d).sum(-1),
    }


def _power_left(part: Values, slope: Tensor, rings: Rings) -> Tensor:
    """Ring power of d - b y, float64 (m, C, rings)."""
    y, d = part["y"], part["d"]
    features = quadratic(part["u"]).double()
    channels = []
    for channel in range(y.shape[1]):  # one at a time: less memory
        b = (features @ slope[channel])[:, rings.index].to(y.dtype)
        left = d[:, channel] - b * y[:, channel]
        channels.append(rings.power(left, left).double() / rings.count)
    return torch.stack(channels, 1)


def _fit_slope(features: Tensor, p_y: Tensor, p_c: Tensor) -> Tensor:
    """b(u) of d = b y + n, quadratic in u, from ring powers: minimises sum p_y (b - p_c / p_y)^2."""
    columns = []
    ridge = _RIDGE * len(features) * torch.eye(features.shape[1], dtype=features.dtype)
    for ring in range(p_y.shape[1]):
        weighted = features * p_y[:, ring : ring + 1].clamp_min(0.0)
        columns.append(torch.linalg.solve(features.T @ weighted + ridge, features.T @ p_c[:, ring]))
    return torch.stack(columns, dim=1)
