"""How data and noise make white modes, w = K d + U u, and the way back, written out by hand in float32.

The formulas are those of conditioning.py: with R = S^1/2 the root of the power of G, P the power of kappa, b
the gain and s = R_0 / N the standard deviation of the mean of G,

    K = A b R / (A^2 B P + sigma^2),   U = (1 - A b R K)^1/2,   w_0 = K_0 d_0 + U_0 u_0,

where K_0 and U_0 are those of A = B = 1, or 0 and 1 where data do not tell the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sbikit_lognormal.posterior.conditioning import Conditioning


class Pulled(NamedTuple):
    """Derivatives by what white modes are made of.

    Attributes:
        root: by R, (..., H^2).
        power: by P, (..., H^2).
        gain: by b, (...).
        number: by the number of the mode 0, u_0, (...).
    """

    root: Tensor
    power: Tensor
    gain: Tensor
    number: Tensor


class WhiteMixing:
    """White modes at some parameters and numbers of the mode 0.

    Args:
        conditioning: whose formulas these are.
        modes: R and P, (..., H^2).
        gain: b, (...).
        mean: the numbers of the mode 0, d_0 and u_0, each (...).

    Attributes:
        known: K on the quadrant, (..., H, H), 0 in the mode 0.
        unknown: U, 1 there.
        mean: w_0, (...).
    """

    def __init__(
        self, conditioning: Conditioning, modes: Sequence[Tensor], gain: Tensor, mean: tuple[Tensor, Tensor]
    ) -> None:
        self._conditioning, self._gain = conditioning, gain
        self._size = conditioning.field.size
        self._root, self._power = modes
        self._data_mean, self._number_mean = mean
        self._sd = self._root[..., 0] / self._size
        self._mix_mean()
        amplitude, less = conditioning.field.given_mean(self._sd * self.mean, self._sd)
        self._amplitude, self._scale = amplitude, amplitude.square() * less
        self._response = (amplitude * gain).unsqueeze(-1) * self._root
        self._noise = (self._scale.unsqueeze(-1) * self._power).add_(conditioning.variance)
        self._known = self._response / self._noise
        self._unknown = (self._response * self._known).neg_().add_(1.0).sqrt_()
        self._known[..., 0], self._unknown[..., 0] = 0.0, 1.0
        square = (self._size // 2 + 1, self._size // 2 + 1)
        self.known, self.unknown = self._known.unflatten(-1, square), self._unknown.unflatten(-1, square)

    def _mix_mean(self) -> None:
        """w_0, and its derivative by u_0."""
        self.mean, self._by_mean_number = self._number_mean, torch.ones_like(self._number_mean)
        if self._conditioning.mean_seen:
            self._mean_response = self._gain * self._root[..., 0]
            self._mean_noise = self._power[..., 0] + self._conditioning.variance
            self._mean_known = self._mean_response / self._mean_noise
            self._by_mean_number = (1.0 - self._mean_response * self._mean_known).sqrt()
            self.mean = self._mean_known * self._data_mean + self._by_mean_number * self._number_mean

    def pull_back(self, by_known: Tensor, by_unknown: Tensor, by_mean: Tensor, times: Tensor) -> Pulled:
        """Derivatives by what the modes are made of.

        Args:
            by_known: by K, (..., H, H).
            by_unknown: by U but for what sum log U adds, (..., H, H).
            by_mean: by w_0, (...), but for what it changes in the other modes.
            times: how many numbers a mode has, 0 for the mode 0, (H^2,).
        """
        by_known, by_unknown = by_known.flatten(-2), by_unknown.flatten(-2)
        by_known[..., 0] = by_unknown[..., 0] = 0.0
        by_product = (by_unknown + times / self._unknown).div_(self._unknown).mul_(-0.5)
        by_known = by_known + by_product * self._response
        by_response = (by_known / self._noise).add_(by_product * self._known)
        by_noise = -by_known * self._known / self._noise
        by_scaled = (by_response * self._root).sum(-1)
        by_root = by_response * (self._amplitude * self._gain).unsqueeze(-1)
        by_power = by_noise * self._scale.unsqueeze(-1)
        if self._conditioning.field.bounded:
            by_mean, by_sd = self._by_amplitude(by_mean, by_scaled, (by_noise * self._power).sum(-1))
            by_root[..., 0] += by_sd / self._size
        return self._pull_mean_back(by_root, by_power, by_scaled * self._amplitude, by_mean)

    def _by_amplitude(self, by_mean: Tensor, by_scaled: Tensor, by_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives by w_0 and s, as A = exp(s w_0 - s^2 / 2) and A^2 B = exp(2 s w_0 - 2 s^2)."""
        one, two = by_scaled * self._amplitude * self._gain, by_scale * self._scale
        by_sd = one * (self.mean - self._sd) + two * (2.0 * self.mean - 4.0 * self._sd)
        return by_mean + (one + 2.0 * two) * self._sd, by_sd

    def _pull_mean_back(self, by_root: Tensor, by_power: Tensor, by_gain: Tensor, by_mean: Tensor) -> Pulled:
        """What w_0 is made of; `by_root` and `by_power` are added to."""
        by_number = by_mean * self._by_mean_number
        if self._conditioning.mean_seen:
            by_left = 0.5 * (by_mean * self._number_mean + 1.0 / self._by_mean_number) / self._by_mean_number
            by_mean_known = by_mean * self._data_mean - by_left * self._mean_response
            by_mean_response = by_mean_known / self._mean_noise - by_left * self._mean_known
            by_root[..., 0] += by_mean_response * self._gain
            by_gain = by_gain + by_mean_response * self._root[..., 0]
            by_power[..., 0] -= by_mean_known * self._mean_known / self._mean_noise
        return Pulled(by_root, by_power, by_gain, by_number)
