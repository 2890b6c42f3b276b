"""The gradient of `conditioned.ConditionedDensity`, fast enough to steer by: written out by hand, in float32.

What depends on the parameters t alone is fitted (factors.py): the root R of the power of G, the power P of
kappa, the shift lambda and the variance v of G. With w = K d + U u (mixing.py), the orthonormal T from the
numbers of the modes to the map, G = T (R w) - v/2, kappa = lambda (e^G - 1), and the difference D = kappa -
data, without its mean where that is not seen,

    log f = -(|t|^2 + |w|^2 + |D|^2 / sigma^2) / 2 + sum_modes log U,
    g = T^T [-D (kappa + lambda) / sigma^2],   h = R g - w,   d log f / du = U h,

and by the chain rule what R, K and U change changes log f by w g, d h and u h + 1 / U. A sampler that accepts
by log f itself draws from f whatever it steers by (Neal 2011, arXiv:1206.1901, section 5.5); an error of the
gradient costs acceptance alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbikit_lognormal.field import multiplicity, white_modes, white_numbers
from sbikit_lognormal.posterior.conditioning import Conditioning
from sbikit_lognormal.posterior.factors import FittedFactors, Point
from sbikit_lognormal.posterior.layout import on_numbers, on_quadrant
from sbikit_lognormal.posterior.mixing import WhiteMixing


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

    def __call__(self, z: Tensor) -> Tensor:
        """At coordinates (*n, B, size), of the same shape and precision."""
        count, square = len(self._fitted.polynomials.terms), (self._size, self._size)
        parameters, numbers = z[..., :count].double(), z[..., count:].float().unflatten(-1, square)
        point = Point(self._fitted, parameters)
        shift, variance = point.scalars.unbind(-1)
        means = (self._numbers[..., 0, 0], numbers[..., 0, 0])
        mixing = WhiteMixing(self._conditioning, point.modes, shift, means)
        known, unknown, root = self._on_numbers(mixing, point)
        white = (known * self._numbers).addcmul_(unknown, numbers)
        white[..., 0, 0] = mixing.mean
        field = torch.fft.irfft2(white_modes(root * white), s=square)
        by_map, by_shift, by_variance = self._by_map(field, shift, variance)
        by_modes = white_numbers(torch.fft.rfft2(by_map))
        by_white = (root * by_modes).sub_(white)
        products = torch.stack([white * by_modes, self._numbers * by_white, numbers * by_white])
        by_root, by_known, by_unknown = on_quadrant(products).unbind()
        pulled = mixing.pull_back(by_known, by_unknown, by_white[..., 0, 0], self._times)
        by_numbers = unknown.mul_(by_white)
        by_numbers[..., 0, 0] = pulled.number
        by_scalars = torch.stack([by_shift + pulled.gain, by_variance], -1)
        by_factors = (pulled.root.add_(by_root.flatten(-2)), pulled.power)
        by_parameters = point.pull_back(by_factors, by_scalars) - parameters
        return torch.cat([by_parameters.to(z.dtype), by_numbers.flatten(-2).to(z.dtype)], -1)

    def _on_numbers(self, mixing: WhiteMixing, point: Point) -> tuple[Tensor, ...]:
        """K, U and R as factors of the numbers of the modes, each (..., N, N)."""
        root = point.modes[0].unflatten(-1, mixing.known.shape[-2:])
        return on_numbers(torch.stack([mixing.known, mixing.unknown, root])).unbind()

    def _by_map(self, field: Tensor, shift: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives by the maps G + v/2 (..., N, N), which are overwritten, and by lambda and v (...)."""
        if not self._conditioning.field.bounded:
            none = torch.zeros_like(shift)
            return self._by_convergence(field.sub_(self._data)), none, none
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
