"""The joint log density of parameters and maps given data, in coordinates made for sampling.

`WhiteDensity`: the coordinates are those of the parameters' prior, white, and the real and imaginary parts of
the white maps' Fourier modes (see `field.white_modes`). In them

    log f(t, w) = -(|t|^2 + |w|^2 + sum_pixels |d - data(t, w)|^2 / sigma^2) / 2.

`ConditionedDensity`, for one source bin on a periodic patch with the same noise in every pixel: w is replaced
by u, of which w is made as if the convergence were the linear function of the Gaussian field that describes
it best (conditioning.py), so that with c the share of a mode's variance that the data leave

    log f(t, u) = log f(t, w(t, u)) + 1/2 sum_modes log c.

For a Gaussian field that is Wiener's posterior: u is then N(0, 1) whatever t, and t independent of u. For a
log-normal one u stays nearly so, and what is left of the dependence a sampler has to find. On a periodic
patch shear is a rotation of the modes of kappa, so only its E mode, a map of zero mean, is compared with.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from sbikit import LogDensity, Prior, Values
from sbikit_lognormal.conditioning import Conditioning
from sbikit_lognormal.factors import FittedFactors
from sbikit_lognormal.field import RandomField, white_modes, white_numbers
from sbikit_lognormal.gradient import QuickGradient
from sbikit_lognormal.theory import Spectra


class JointDensity(ABC):
    """A log density of parameters and white numbers.

    Args:
        prior: of the parameters.
        spectra: spectra and shifts of parameter vectors.
        field: the law of the convergence.
    """

    def __init__(self, prior: Prior, spectra: Spectra, field: RandomField) -> None:
        self._prior, self._spectra, self._field = prior, spectra, field
        self._shape = (field.bins, field.size, field.size)

    def density(self, cut: Callable[[Tensor], Tensor]) -> LogDensity:
        """What a sampler needs.

        Args:
            cut: the patch of maps on the box.
        """

        count = len(self._prior.laws)

        def decode(z: Tensor) -> Values:
            def theta() -> Tensor:
                return self._prior.from_white(z[..., :count].double())

            return _Decoded({self._prior.name: theta, "kappa": lambda: cut(self._latents(z)[1])})

        return LogDensity(count + math.prod(self._shape), self.log_prob, decode, count, self._gradient())

    def log_prob(self, z: Tensor) -> Tensor:
        """log f at coordinates (*n, B, size), (*n, B); not a number where no such field exists."""
        theta, kappa, prior = self._latents(z)
        return prior - 0.5 * self._misfit(kappa, theta)

    def _latents(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Parameters (*n, B, D), convergence (*n, B, bins, M, M), and log f but for the misfit (*n, B)."""
        count = len(self._prior.laws)
        white, numbers = z.double().split([count, z.shape[-1] - count], dim=-1)
        theta = self._prior.from_white(white)
        spectra, shift = self._spectra(theta)
        # A copy of their own: pairs of numbers are read as complex ones.
        kappa, log_prior = self._maps(numbers.clone().unflatten(-1, self._shape), spectra, shift)
        return theta, kappa, log_prior - 0.5 * white.square().sum(-1)

    def _gradient(self) -> Callable[[Tensor], Tensor] | None:
        """A way to the gradient that is faster than autograd."""
        return None

    @abstractmethod
    def _maps(self, numbers: Tensor, spectra: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Convergence of the field's coordinates (*n, B, bins, M, M), and the log of their prior (*n, B)."""

    @abstractmethod
    def _misfit(self, kappa: Tensor, theta: Tensor) -> Tensor:
        """chi^2 of the data (*n, B)."""


class _Decoded(Mapping[str, Tensor]):
    """Values that are made when they are asked for: who looks at parameters alone need not wait for maps.

    Args:
        made: name -> what makes the value.
    """

    def __init__(self, made: Mapping[str, Callable[[], Tensor]]) -> None:
        self._made = dict(made)

    def __getitem__(self, name: str) -> Tensor:
        return self._made[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


class WhiteDensity(JointDensity):
    """In white coordinates.

    Args:
        prior: of the parameters.
        spectra: spectra and shifts of parameter vectors.
        field: the law of the convergence.
        data: what is observed, (B, bins, components, N, N).
        weight: 1 / sigma^2, (bins, N, N).
        noiseless: data without noise, of convergence and parameters.
    """

    def __init__(
        self,
        prior: Prior,
        spectra: Spectra,
        field: RandomField,
        data: Tensor,
        weight: Tensor,
        *,
        noiseless: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__(prior, spectra, field)
        self._data, self._weight, self._noiseless = data, weight.unsqueeze(-3), noiseless

    def _maps(self, numbers: Tensor, spectra: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        gaussian = self._field.gaussian(spectra, shift)
        kappa = self._field.convergence(white_modes(numbers), gaussian)
        return kappa, -0.5 * numbers.square().sum((-3, -2, -1))

    def _misfit(self, kappa: Tensor, theta: Tensor) -> Tensor:
        difference = self._data - self._noiseless(kappa, theta)
        return (self._weight * difference.square()).sum((-4, -3, -2, -1))


class ConditionedDensity(JointDensity):
    """In coordinates that know the data.

    Args:
        prior: of the parameters.
        spectra: spectra and shifts of parameter vectors.
        conditioning: what data say of the modes of the field, of one bin.
        data: convergence with noise, (B, 1, N, N).
        fitted: for a gradient faster than that by autograd.
    """

    def __init__(
        self,
        prior: Prior,
        spectra: Spectra,
        conditioning: Conditioning,
        data: Tensor,
        fitted: FittedFactors | None = None,
    ) -> None:
        super().__init__(prior, spectra, conditioning.field)
        self._data, self._conditioning, self._fitted = data, conditioning, fitted
        self._numbers = white_numbers(torch.fft.rfft2(data))

    def _gradient(self) -> QuickGradient | None:
        fitted = self._fitted
        if fitted is None:
            return None
        return QuickGradient(fitted, self._conditioning, self._numbers, self._data)

    def _maps(self, numbers: Tensor, spectra: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        modes = self._conditioning.modes(spectra, shift)
        white, log_det = self._conditioning.white(modes, self._numbers, numbers)
        kappa = self._field.convergence(white_modes(white), modes.gaussian)
        return kappa, log_det - 0.5 * white.square().sum((-3, -2, -1))

    def _misfit(self, kappa: Tensor, theta: Tensor) -> Tensor:
        del theta
        difference = kappa - self._data
        total = difference.square().sum((-3, -2, -1))
        if not self._conditioning.mean_seen:
            total = total - difference.sum((-3, -2, -1)).square() / (self._field.size**2)
        return total / self._conditioning.variance


__all__ = ["ConditionedDensity", "JointDensity", "WhiteDensity"]
