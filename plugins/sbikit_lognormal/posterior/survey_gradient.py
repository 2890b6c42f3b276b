"""The gradient of `survey_density`, fast enough to steer by: maps written out by hand, in float32.

With the orthonormal T from the numbers of the modes to maps and what else stands in joint_conditioning.py,

    e = h d,   q = u + F^T e,   G = F q,   kappa = lambda (exp(T G - v/2) - 1),
    log f = -(|t|^2 + |q|^2 - G^T D G + chi^2(kappa, t)) / 2 + log |dw / du|,
    b = -1/2 d chi^2 / d kappa,   g = T^T [b (kappa + lambda)] + D G,   d log f / du = F^T g - q = p,

and by what depends on the parameters t alone: g q^T + e p^T by F, F p d by h, G^2 / 2 by D, sum b kappa /
lambda by lambda, -1/2 sum b (kappa + lambda) by v. From there to t, and to u of the mode 0, on which F, h and
D depend, autograd goes, in a graph without maps. In white coordinates F = U, h = D = 0. Of a Gaussian field
kappa = T G.

Rows are worked on in blocks of one size, so that each is rounded as it is whatever else is in the batch
(field/blocks.py). An error of the gradient costs acceptance alone (gradient.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from sbikit import Prior
from sbikit_lognormal.field import Gaussian, RandomField, white_modes, white_numbers
from sbikit_lognormal.posterior.joint_conditioning import (
    Known,
    ModeFactors,
    times_root,
    times_transposed,
)
from sbikit_lognormal.posterior.layout import on_numbers, on_quadrant
from sbikit_lognormal.posterior.misfit import Misfit
from sbikit_lognormal.spectra import Spectra

# Rows of a block: spectra of one cost what those of eight do, and eight still fit into the cache. Maps are
# worked on a few at a time, 2^16 numbers, a quarter of a MiB.
_ROWS, _NUMBERS = 8, 2**16


@dataclass(frozen=True)
class _Parts:
    """What the maps of n rows are made of, or derivatives by it.

    Args:
        numbers: u, (n, bins, N, N).
        root: F on the quadrant, (n, pairs, H, H).
        response: h, (n, bins, H, H); none in white coordinates: (n, 0).
        precision: D, the same.
        shift: lambda, (n, bins).
        variance: v, (n, bins).
        theta: parameters, (n, D), float64; derivatives where the data depend on them themselves.
    """

    numbers: Tensor
    root: Tensor
    response: Tensor
    precision: Tensor
    shift: Tensor
    variance: Tensor
    theta: Tensor

    def few(self, rows: slice) -> _Parts:
        """Some of the rows, without a graph."""
        return _Parts(*(getattr(self, one.name)[rows].detach() for one in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[_Parts]) -> _Parts:
        """All rows of several."""
        return cls(*(torch.cat([getattr(part, one.name) for part in parts]) for one in fields(cls)))


class SurveyGradient:
    """The gradient at given data.

    Args:
        prior: of the parameters.
        spectra: spectra and shifts of parameter vectors, float64.
        field: the law of the convergence, float32.
        misfit: of the data.
        known: what the coordinates know of them; None: they are white.
    """

    def __init__(
        self,
        prior: Prior,
        spectra: Spectra,
        field: RandomField,
        misfit: Misfit,
        known: Known | None = None,
    ) -> None:
        self._prior, self._spectra, self._field, self._misfit = prior, spectra, field, misfit
        self._known = known

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
        numbers = z[:, count:].unflatten(-1, (field.bins, field.size, field.size))
        white, first = z[:, :count].double().requires_grad_(), numbers[..., 0, 0].clone().requires_grad_()
        with torch.enable_grad():
            theta = self._prior.from_white(white)
            gaussian, factors = self._factors(theta, first, observations)
        scalars = (gaussian.shift, gaussian.variance, theta)
        made = _Parts(numbers, factors.root, factors.response, factors.precision, *scalars)
        few = len(z) if z.is_cuda else max(1, _NUMBERS // numbers[0].numel())
        blocks = [slice(row, row + few) for row in range(0, len(z), few)]
        pulled = _Parts.joined([self._of_maps(observations[rows], made.few(rows)) for rows in blocks])
        pairs = [(theta, pulled.theta), (factors.root, pulled.root)]
        if self._known is not None:
            pairs += [(factors.response, pulled.response), (factors.precision, pulled.precision)]
            pairs += [(factors.log_det, torch.ones_like(factors.log_det))]
        if field.bounded:
            pairs += [(gaussian.shift, pulled.shift), (gaussian.variance, pulled.variance)]
        pairs = [pair for pair in pairs if pair[0].requires_grad]  # lambda may be fixed
        outputs, pulls = zip(*pairs, strict=True)
        by_white, by_first = torch.autograd.grad(outputs, (white, first), pulls, materialize_grads=True)
        pulled.numbers[..., 0, 0] += by_first
        by_white = by_white - white.detach()
        return torch.cat([by_white.float(), pulled.numbers.flatten(1)], -1)

    def _factors(self, theta: Tensor, first: Tensor, observations: Tensor) -> tuple[Gaussian, ModeFactors]:
        """What depends on the parameters and on the numbers of the mode 0."""
        spectra, shift = self._spectra(theta)
        if self._known is None:
            gaussian = self._field.gaussian(spectra, shift)
            none = gaussian.variance.new_empty(len(gaussian.variance), 0)
            return gaussian, ModeFactors(gaussian.root, none, none, none)
        modes = self._field.described(spectra, shift)
        data = self._known.numbers[observations][..., 0, 0]
        return modes.gaussian, self._known.conditioning.factors(modes, first, data)

    def _of_maps(self, observations: Tensor, made: _Parts) -> _Parts:
        """All but what the parameters alone do; of a row each, one of the observations."""
        root, mixed = on_numbers(made.root), made.numbers
        if self._known is not None:
            data = self._known.numbers[observations]
            expected = on_numbers(made.response).mul_(data)
            mixed = mixed + times_transposed(root, expected)
        gaussian = times_root(root, mixed)
        by_gaussian, *by_others = self._by_fields(observations, made, gaussian)
        by_response = by_precision = made.precision
        if self._known is not None:
            by_gaussian.addcmul_(on_numbers(made.precision), gaussian)
            by_precision = on_quadrant(gaussian.square().mul_(0.5))
        by_numbers = times_transposed(root, by_gaussian).sub_(mixed)
        products = self._products(by_gaussian, mixed)
        if self._known is not None:
            products.add_(self._products(expected, by_numbers))
            by_response = on_quadrant(times_root(root, by_numbers).mul_(data))
        return _Parts(by_numbers, on_quadrant(products), by_response, by_precision, *by_others)

    def _products(self, first: Tensor, second: Tensor) -> Tensor:
        """x_j y_i in the place of the pair (i, j), (n, pairs, N, N), of x and y (n, bins, N, N)."""
        return torch.stack(
            [first[:, j] * second[:, i] for i in range(first.shape[1]) for j in range(i + 1)], 1
        )

    def _by_fields(self, observations: Tensor, made: _Parts, gaussian: Tensor) -> tuple[Tensor, ...]:
        """Derivatives of chi^2 by the numbers of G, by lambda, v and the parameters."""
        field = torch.fft.irfft2(white_modes(gaussian), s=gaussian.shape[-2:])
        shift, variance = made.shift, made.variance
        if not self._field.bounded:
            by_map, by_theta = self._misfit.pull(observations, field, made.theta)
            none = torch.zeros_like(variance)
            return white_numbers(torch.fft.rfft2(by_map)), none, none, by_theta
        lowest = shift[..., None, None]
        above = field.sub_(0.5 * variance[..., None, None]).exp_().mul_(lowest)
        by_kappa, by_theta = self._misfit.pull(observations, above - lowest, made.theta)
        total = by_kappa.sum((-2, -1))
        by_map = above.mul_(by_kappa)
        by_mean = by_map.sum((-2, -1))
        by_gaussian = white_numbers(torch.fft.rfft2(by_map))
        return by_gaussian, by_mean / shift - total, -0.5 * by_mean, by_theta
