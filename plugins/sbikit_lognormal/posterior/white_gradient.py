"""The gradient of `white.WhiteDensity`, fast enough to steer by: its maps written out by hand, in float32.

With the orthonormal T from the numbers of the modes to maps, w the white numbers of a bin and U the roots of
the bins' power in each mode (field/roots.py),

    G = T (U w),   kappa = lambda (e^(G - v/2) - 1),   log f = -(|t|^2 + |w|^2 + chi^2(kappa, t)) / 2,
    b = -1/2 d chi^2 / d kappa,   h = T^T [b (kappa + lambda)],   d log f / dw = U^T h - w,

and by what depends on the parameters t alone: h w^T by U, sum b kappa / lambda by lambda, -1/2 sum b (kappa +
lambda) by v. From there to t autograd goes, in a graph that holds no map. Of a Gaussian field kappa = G.

Rows are worked on in blocks of one size, so that each is rounded as it is whatever else is in the batch
(field/blocks.py). An error of the gradient costs acceptance alone (gradient.py).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from sbikit import Prior
from sbikit_lognormal.field import RandomField, white_modes, white_numbers
from sbikit_lognormal.posterior.layout import on_numbers, on_quadrant
from sbikit_lognormal.posterior.misfit import Misfit
from sbikit_lognormal.spectra import Spectra

# Rows of a block: spectra of one cost what those of eight do, and eight still fit into the cache. Maps are
# worked on a few at a time, 2^16 numbers, a quarter of a MiB.
_ROWS, _NUMBERS = 8, 2**16


@dataclass(frozen=True)
class _Rows:
    """What the maps of n rows are made of.

    Args:
        observations: which one each row is of, (n,).
        numbers: white numbers, (n, bins, N, N).
        root: U on the quadrant, (n, pairs, H, H).
        shift: lambda, (n, bins).
        variance: v, (n, bins).
        theta: parameters, (n, D), float64.
    """

    observations: Tensor
    numbers: Tensor
    root: Tensor
    shift: Tensor
    variance: Tensor
    theta: Tensor

    def few(self, first: int, count: int) -> _Rows:
        """Some of them, without a graph."""
        return _Rows(*(getattr(self, one.name)[first : first + count].detach() for one in fields(self)))


@dataclass(frozen=True)
class _Pulled:
    """Derivatives of log f; shapes as in `_Rows`.

    Args:
        numbers: by the white numbers, with those of |w|^2.
        root: by U.
        shift: by lambda.
        variance: by v.
        theta: by the parameters where the data depend on them themselves.
    """

    numbers: Tensor
    root: Tensor
    shift: Tensor
    variance: Tensor
    theta: Tensor


class WhiteGradient:
    """The gradient at given data.

    Args:
        prior: of the parameters.
        spectra: spectra and shifts of parameter vectors, float64.
        field: the law of the convergence, float32.
        misfit: of the data.
    """

    def __init__(self, prior: Prior, spectra: Spectra, field: RandomField, misfit: Misfit) -> None:
        self._prior, self._spectra, self._field, self._misfit = prior, spectra, field, misfit
        # Of pair (i, j), j <= i, in the order of a row-major lower triangle: U_ji takes w_i to G_j.
        self._pairs = [(i, j) for i in range(field.bins) for j in range(i + 1)]

    def __call__(self, z: Tensor) -> Tensor:
        """At coordinates (*n, B, size), of the same shape, float32."""
        rows = z.float().flatten(0, -2)
        found = torch.empty_like(rows)
        each = len(rows) if z.is_cuda else _ROWS
        for first in range(0, len(rows), each):
            block = torch.arange(first, first + each, device=z.device).clamp_(max=len(rows) - 1)
            made = self._of_block(block % z.shape[-2], rows[block])
            found[first : first + each] = made[: len(rows) - first]
        return found.view(z.shape)

    def _of_block(self, observations: Tensor, z: Tensor) -> Tensor:
        """At (n, size), each of one of the observations."""
        count, field = len(self._prior.laws), self._field
        white = z[:, :count].double().requires_grad_()
        with torch.enable_grad():
            theta = self._prior.from_white(white)
            gaussian = field.gaussian(*self._spectra(theta))
        numbers = z[:, count:].unflatten(-1, (field.bins, field.size, field.size))
        rows = _Rows(observations, numbers, gaussian.root, gaussian.shift, gaussian.variance, theta)
        few = len(z) if z.is_cuda else max(1, _NUMBERS // numbers[0].numel())
        parts = [self._of_maps(rows.few(first, few)) for first in range(0, len(z), few)]
        pulled = _Pulled(*(torch.cat([getattr(part, one.name) for part in parts]) for one in fields(_Pulled)))
        pairs = [(theta, pulled.theta), (gaussian.root, pulled.root)]
        if field.bounded:
            pairs += [(gaussian.shift, pulled.shift), (gaussian.variance, pulled.variance)]
        outputs, pulls = zip(
            *(pair for pair in pairs if pair[0].requires_grad), strict=True
        )  # lambda may be fixed
        (by_white,) = torch.autograd.grad(outputs, white, pulls)
        by_white = by_white - white.detach()
        return torch.cat([by_white.float(), pulled.numbers.flatten(1)], -1)

    def _of_maps(self, rows: _Rows) -> _Pulled:
        """All but what the parameters alone do."""
        numbers, shift, variance = rows.numbers, rows.shift, rows.variance
        root = on_numbers(rows.root)
        mixed = torch.zeros_like(numbers)
        for pair, (i, j) in enumerate(self._pairs):
            mixed[:, j].addcmul_(root[:, pair], numbers[:, i])
        field = torch.fft.irfft2(white_modes(mixed), s=numbers.shape[-2:])
        by_shift = by_variance = torch.zeros_like(variance)
        if self._field.bounded:
            lowest = shift[..., None, None]
            above = field.sub_(0.5 * variance[..., None, None]).exp_().mul_(lowest)
            by_kappa, by_theta = self._misfit.pull(rows.observations, above - lowest, rows.theta)
            total = by_kappa.sum((-2, -1))
            by_map = above.mul_(by_kappa)
            by_mean = by_map.sum((-2, -1))
            by_shift, by_variance = by_mean / shift - total, -0.5 * by_mean
        else:
            by_map, by_theta = self._misfit.pull(rows.observations, field, rows.theta)
        by_modes = white_numbers(torch.fft.rfft2(by_map))
        by_numbers = numbers.neg()
        products = torch.empty_like(root)
        for pair, (i, j) in enumerate(self._pairs):
            by_numbers[:, i].addcmul_(root[:, pair], by_modes[:, j])
            torch.mul(by_modes[:, j], numbers[:, i], out=products[:, pair])
        return _Pulled(by_numbers, on_quadrant(products), by_shift, by_variance, by_theta)
