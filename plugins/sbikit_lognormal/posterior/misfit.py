"""How far convergence is from data, and the derivative of that, in float32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


class Misfit(ABC):
    """chi^2 of the data of B observations."""

    @abstractmethod
    def pull(self, observations: Tensor, kappa: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """-1/2 d chi^2 by kappa (n, bins, M, M) and by the parameters (n, D) at the same kappa.

        Args:
            observations: which one each row is of, (n,).
            kappa: convergence on the box, (n, bins, M, M), float32; perhaps overwritten.
            theta: parameters (n, D), float64.
        """


@dataclass(frozen=True)
class OnModes(Misfit):
    """On a periodic patch with even noise and no bias, where shear is a rotation of the convergence's modes.

    Args:
        seen: convergence made back from the data, (B, bins, N, N).
        weight: 1 / sigma^2, (bins, 1, 1).
        mean_seen: whether the data know the mean.
    """

    seen: Tensor
    weight: Tensor
    mean_seen: bool

    def pull(self, observations: Tensor, kappa: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """See `Misfit`."""
        difference = kappa.sub_(self.seen[observations])
        if not self.mean_seen:
            difference.sub_(difference.mean((-2, -1), keepdim=True))
        return difference.mul_(-self.weight), torch.zeros_like(theta)


@dataclass(frozen=True)
class OnPixels(Misfit):
    """Wherever the data without noise can be computed.

    Args:
        data: (B, bins, components, N, N).
        weight: 1 / sigma^2, (bins, 1, N, N).
        noiseless: data without noise, of convergence and parameters, differentiable.
    """

    data: Tensor
    weight: Tensor
    noiseless: Callable[[Tensor, Tensor], Tensor]

    def pull(self, observations: Tensor, kappa: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """See `Misfit`."""
        at = (kappa.requires_grad_(), theta.clone().requires_grad_())
        with torch.enable_grad():
            difference = self.data[observations] - self.noiseless(*at)
            total = -0.5 * (self.weight * difference.square()).sum()
            by_kappa, by_theta = torch.autograd.grad(total, at, materialize_grads=True)
        return by_kappa, by_theta
