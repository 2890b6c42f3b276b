"""The gradient of `density.ConditionedDensity`, fast enough to steer by: written out by hand, in float32.

What depends on the parameters t alone is fitted (factors.py): the root R of the power of G, the power P of
kappa, the shift lambda and the variance v of G. With w = K d + U u, K = a and U = c^1/2 (conditioning.py),
the orthonormal T from the numbers of the modes to the map, G = T (R w) - v/2, kappa = lambda (e^G - 1), and
the difference D = kappa - data, without its mean where that is not seen,

    log f = -(|t|^2 + |w|^2 + |D|^2 / sigma^2) / 2 + sum_modes log U,
    g = T^T [-D (kappa + lambda) / sigma^2],   h = R g - w,   d log f / du = U h,

and by the chain rule what R, K and U change changes log f by w g, d h and u h + 1 / U. A sampler that accepts
by log f itself draws from f whatever it steers by (Neal 2011, arXiv:1206.1901, section 5.5); an error of the
gradient costs acceptance alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sbikit_lognormal.conditioning import Conditioning, on_numbers, on_quadrant
from sbikit_lognormal.factors import FittedFactors, Point
from sbikit_lognormal.field import multiplicity, white_modes, white_numbers


class Regression:
    """How data and noise make white modes, w = K d + U u, and the way back; see conditioning.py.

    Args:
        conditioning: whose formulas these are.
        modes: R and P, (..., H^2).
        gain: b, (...).
        mean: the numbers of the mode 0, d_0 and u_0, each (...).

    Attributes:
        known: K on the quadrant, (..., H, H), 0 in the mode 0.
        unknown: U, 1 there.
        mean: w_0, (...).
        by_mean_number: dw_0 / du_0, (...).
    """

    def __init__(
        self, conditioning: Conditioning, modes: Sequence[Tensor], gain: Tensor, mean: tuple[Tensor, Tensor]
    ) -> None:
        self._conditioning, self._gain = conditioning, gain
        size = conditioning.field.size
        self._square = (size // 2 + 1, size // 2 + 1)
        self._root, self._power = modes
        self._data_mean, self._number_mean = mean
        self._sd = self._root[..., 0] / size
        self.mean, self.by_mean_number = self._number_mean, torch.ones_like(self._number_mean)
        if conditioning.mean_seen:
            self._mean_response = gain * self._root[..., 0]
            self._mean_noise = self._power[..., 0] + conditioning.variance
            self._mean_known = self._mean_response / self._mean_noise
            self.by_mean_number = (1.0 - self._mean_response * self._mean_known).sqrt()
            self.mean = self._mean_known * self._data_mean + self.by_mean_number * self._number_mean
        amplitude, less = conditioning.field.given_mean(self._sd * self.mean, self._sd)
        self._amplitude, self._scale = amplitude, amplitude.square() * less
        self._response = (amplitude * gain).unsqueeze(-1) * self._root
        self._noise = (self._scale.unsqueeze(-1) * self._power).add_(conditioning.variance)
        self._known = self._response / self._noise
        self._unknown = (self._response * self._known).neg_().add_(1.0).sqrt_()
        self._known[..., 0], self._unknown[..., 0] = 0.0, 1.0
        self.known = self._known.unflatten(-1, self._square)
        self.unknown = self._unknown.unflatten(-1, self._square)

    def pull_back(
        self, by_known: Tensor, by_unknown: Tensor, by_mean: Tensor, times: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Derivatives by R, P (..., H^2), b and the number of the mode 0 (...).

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
        by_scale = (by_noise * self._power).sum(-1)
        by_root = by_response * (self._amplitude * self._gain).unsqueeze(-1)
        by_power = by_noise * self._scale.unsqueeze(-1)
        by_gain = by_scaled * self._amplitude
        if self._conditioning.field.law == "log-normal":
            # A = exp(s w_0 - s^2 / 2) and A^2 B = exp(2 s w_0 - 2 s^2), with s the sd of the mean of G.
            one, two = by_scaled * self._amplitude * self._gain, by_scale * self._scale
            by_mean = by_mean + (one + 2.0 * two) * self._sd
            by_sd = one * (self.mean - self._sd) + two * (2.0 * self.mean - 4.0 * self._sd)
            by_root[..., 0] += by_sd / self._conditioning.field.size
        by_number = by_mean * self.by_mean_number
        if self._conditioning.mean_seen:
            by_left = 0.5 * (by_mean * self._number_mean + 1.0 / self.by_mean_number) / self.by_mean_number
            by_mean_known = by_mean * self._data_mean - by_left * self._mean_response
            by_mean_response = by_mean_known / self._mean_noise - by_left * self._mean_known
            by_root[..., 0] += by_mean_response * self._gain
            by_gain = by_gain + by_mean_response * self._root[..., 0]
            by_power[..., 0] -= by_mean_known * self._mean_known / self._mean_noise
        return by_root, by_power, by_gain, by_number


class QuickGradient:
    """The gradient at given data.

    Args:
        fitted: what depends on the parameters alone.
        conditioning: the modes that it was fitted to.
        numbers: d, those of the data's modes, (B, 1, N, N).
        data: convergence with noise, (B, 1, N, N).
    """

    def __init__(
        self, fitted: FittedFactors, conditioning: Conditioning, numbers: Tensor, data: Tensor
    ) -> None:
        self._fitted, self._conditioning, self._size = fitted, conditioning, data.shape[-1]
        self._numbers, self._data = numbers[:, 0].float(), data[:, 0].float()
        times = torch.from_numpy(multiplicity(self._size)).flatten().to(data.device, torch.float32)
        times[0] = 0.0
        self._times = times
        self._log_normal = conditioning.field.law == "log-normal"

    def __call__(self, z: Tensor) -> Tensor:
        """At coordinates (*n, B, size), of the same shape and precision."""
        count, square = len(self._fitted.powers), (self._size, self._size)
        parameters, numbers = z[..., :count].double(), z[..., count:].float().unflatten(-1, square)
        point = Point(self._fitted, parameters)
        shift, variance = point.scalars.unbind(-1)
        means = (self._numbers[..., 0, 0], numbers[..., 0, 0])
        regression = Regression(self._conditioning, point.modes, shift, means)
        half = self._size // 2 + 1
        quadrants = torch.stack(
            [regression.known, regression.unknown, point.modes[0].unflatten(-1, (half, half))]
        )
        known, unknown, root = on_numbers(quadrants).unbind()
        white = (known * self._numbers).addcmul_(unknown, numbers)
        white[..., 0, 0] = regression.mean
        field = torch.fft.irfft2(white_modes(root * white), s=square)
        by_map, by_shift, by_variance = self._by_map(field, shift, variance)
        by_modes = white_numbers(torch.fft.rfft2(by_map))
        by_white = (root * by_modes).sub_(white)
        products = torch.stack([white * by_modes, self._numbers * by_white, numbers * by_white])
        by_root, by_known, by_unknown = on_quadrant(products).unbind()
        more, by_power, by_gain, by_number = regression.pull_back(
            by_known, by_unknown, by_white[..., 0, 0], self._times
        )
        by_numbers = unknown.mul_(by_white)
        by_numbers[..., 0, 0] = by_number
        by_scalars = torch.stack([by_shift + by_gain, by_variance], -1)
        by_parameters = point.pull_back((more.add_(by_root.flatten(-2)), by_power), by_scalars) - parameters
        return torch.cat([by_parameters.to(z.dtype), by_numbers.flatten(-2).to(z.dtype)], -1)

    def _by_map(self, field: Tensor, shift: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives by the maps G + v/2 (..., N, N), which are overwritten, and by lambda and v (...)."""
        if not self._log_normal:
            return (
                self._by_convergence(field.sub_(self._data)),
                torch.zeros_like(shift),
                torch.zeros_like(shift),
            )
        lowest = shift[..., None, None]
        above = field.sub_((0.5 * variance)[..., None, None]).exp_().mul_(lowest)
        by_kappa = self._by_convergence(above - (self._data + lowest))
        total = by_kappa.sum((-2, -1))
        by_map = above.mul_(by_kappa)
        by_mean = by_map.sum((-2, -1))
        return by_map, by_mean / shift - total, -0.5 * by_mean

    def _by_convergence(self, difference: Tensor) -> Tensor:
        if not self._conditioning.mean_seen:
            difference = difference.sub_(difference.mean((-2, -1), keepdim=True))
        return difference.mul_(-1.0 / self._conditioning.variance)


__all__ = ["QuickGradient"]
