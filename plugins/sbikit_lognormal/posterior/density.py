"""The joint log density of parameters and maps given data, whatever the coordinates of the maps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from sbikit import LogDensity, Prior, Values
from sbikit_lognormal.field import RandomField
from sbikit_lognormal.spectra import Spectra


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
