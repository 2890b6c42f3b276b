"""What data say of each mode of one source bin, were the convergence as linear as it can be described.

White modes w are made of the numbers d of the data's modes and standard normal numbers u, the mean first,

    w_0 = a_0 d_0 + c_0^1/2 u_0,   or u_0 where data do not tell the mean,
    w_k = a_k d_k + c_k^1/2 u_k,   a = A b S^1/2 / (A^2 B P + sigma^2),   c = 1 - A b S^1/2 a,

with S the power of the Gaussian field G, P that of the convergence, kappa = b G + rest the best linear
description of it (`RandomField.described`), sigma^2 the variance of the noise, and A = B = 1 in the mode 0.
A log-normal field of which the mean g = S_0^1/2 w_0 / N of G is known is again one, of the shift A lambda
with A = exp(g - v_0 / 2), v_0 = S_0 / N^2; its other modes have the power A^2 exp(-v_0) P and the gain A b.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbikit_lognormal.field import LinearModes, RandomField, multiplicity
from sbikit_lognormal.posterior.layout import on_numbers


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

    def white(self, modes: LinearModes, data: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """w (..., 1, N, N), and log |dw / du| (...).

        Args:
            modes: what is known of them at some parameters, of leading shape (...).
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
