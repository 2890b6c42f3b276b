"""What data say of each mode of one source bin, were the convergence as linear as it can be described.

White modes w are made of the numbers d of the data's modes and standard normal numbers u, the mean first,

    w_0 = a_0 d_0 + c_0^1/2 u_0,   or u_0 where data do not tell the mean,
    w_k = a_k d_k + c_k^1/2 u_k,   a = A b S^1/2 / (A^2 B P + sigma^2),   c = 1 - A b S^1/2 a,

with S the power of the Gaussian field G, P that of the convergence, kappa = b G + rest the best linear
description of it (`RandomField.regression`), sigma^2 the variance of the noise, and A = B = 1 in the mode 0.
A log-normal field of which the mean g = S_0^1/2 w_0 / N of G is known is again one, of the shift A lambda
with A = exp(g - v_0 / 2), v_0 = S_0 / N^2; its other modes have the power A^2 exp(-v_0) P and the regression
A b.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sbikit_lognormal.field import Gaussian, RandomField, multiplicity


@dataclass(frozen=True)
class Modes:
    """The modes at some parameters.

    Args:
        gaussian: the Gaussian field; S^1/2 is its root.
        gain: b, (..., 1).
        power: P on the quadrant, (..., 1, H, H).
    """

    gaussian: Gaussian
    gain: Tensor
    power: Tensor


class Conditioning:
    """How data condition the modes.

    Args:
        field: the law of the convergence, of one bin.
        variance: sigma^2 of a pixel of the data.
        mean_seen: whether the data tell the mean of the map, too.
        device: where to compute.
    """

    def __init__(self, field: RandomField, variance: float, *, mean_seen: bool, device: torch.device) -> None:
        self.field, self.variance, self.mean_seen = field, variance, mean_seen
        self._times = torch.from_numpy(multiplicity(field.size)).to(device)
        self._others = torch.ones_like(self._times)
        self._others[0, 0] = 0.0
        self._is_mean = torch.zeros(field.size, field.size, dtype=torch.bool, device=device)
        self._is_mean[0, 0] = True

    def modes(self, spectra: Tensor, shift: Tensor) -> Modes:
        """What is known of the modes.

        Args:
            spectra: C(ell), (..., 1, n_ell), float64.
            shift: lambda, (..., 1), float64; without bound (..., 0).
        """
        return Modes(*self.field.regression(spectra, shift))

    def white(self, modes: Modes, data: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """w (..., 1, N, N), and log |dw / du| (...).

        Args:
            modes: of leading shape (...).
            data: d, (..., 1, N, N).
            numbers: u, (..., 1, N, N).
        """
        root, size = modes.gaussian.root, self.field.size
        mean, log_det = numbers[..., 0, 0], torch.zeros_like(numbers[..., 0, 0])
        if self.mean_seen:
            known, left = self._regressed(modes.gain * root[..., 0, 0], modes.power[..., 0, 0])
            mean, log_det = known * data[..., 0, 0] + left.sqrt() * mean, 0.5 * left.log()
        amplitude, less = self.field.given_mean(root[..., 0, 0] * mean / size, root[..., 0, 0] / size)
        response = (amplitude * modes.gain)[..., None, None] * root * self._others
        known, left = self._regressed(response, (amplitude.square() * less)[..., None, None] * modes.power)
        factors = on_numbers(torch.stack([known, left.sqrt()]))
        white = factors[0] * data + factors[1] * numbers
        log_det = log_det + 0.5 * (self._times * left.log()).sum((-2, -1))
        return torch.where(self._is_mean, mean[..., None, None], white), log_det.squeeze(-1)

    def _regressed(self, response: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
        """a and c of white modes that data hold times `response`, in all with `power` and the noise's."""
        known = response / (power + self.variance)
        return known, 1.0 - response * known


def on_numbers(quadrant: Tensor) -> Tensor:
    """Real factors (..., H, H) of the modes as those of the numbers that make them, (..., N, N)."""
    parts = [1, quadrant.shape[-1] - 2, 1]
    first, inner, last = quadrant.split(parts, -1)
    columns = torch.cat([first, last, torch.stack([inner, inner], -1).flatten(-2)], -1)
    first, inner, last = columns.split(parts, -2)
    return torch.cat([first, inner, last, inner.flip(-2)], -2)


def on_quadrant(numbers: Tensor) -> Tensor:
    """The transpose of `on_numbers`: sums over the numbers (..., N, N) of each mode of the quadrant."""
    half = numbers.shape[-1] // 2 + 1
    rows = numbers[..., :half, :].clone()
    rows[..., 1:-1, :] += numbers[..., half:, :].flip(-2)
    inner = rows[..., 2::2] + rows[..., 3::2]
    return torch.cat([rows[..., :1], inner, rows[..., 1:2]], -1)


__all__ = ["Conditioning", "Modes", "on_numbers", "on_quadrant"]
