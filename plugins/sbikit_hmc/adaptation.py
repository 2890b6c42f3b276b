"""What warm-up learns of each observation's posterior: step size and scales.

Step size by dual averaging (Hoffman and Gelman 2014, JMLR 15, 1593, section 3.2): after transition t with
mean acceptance a_t over the chains,

    H_t = (1 - 1/(t + t_0)) H_{t-1} + (target - a_t) / (t + t_0),   log e_t = mu - sqrt(t) / gamma H_t,
    log e = t^-kappa log e_t + (1 - t^-kappa) log e,

with gamma = .05, t_0 = 10, kappa = .75; e_t is used during warm-up and e afterwards.

Scales: z = M y with M block-diagonal, a lower-triangular block for the parameters and a diagonal for the
other coordinates, such that M M^T is the covariance of the draws of all chains, shrunk to that of the
coordinates' own unit; the momenta of y are standard normal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GAMMA, _DELAY, _KAPPA = 0.05, 10.0, 0.75
_FIRST_STEP = 0.1
_BOLDER = 1.5  # a new start tries longer steps than the last ones
_SHRINKAGE = 5.0  # draws a chain that the unit covariance counts for


class StepSize:
    """Step sizes of B observations, tuned to an acceptance rate.

    Args:
        count: B.
        target: acceptance rate.
        device: where to compute.
    """

    def __init__(self, count: int, target: float, device: torch.device) -> None:
        self._target = target
        self._mean = torch.full((count,), math.log(_FIRST_STEP), dtype=torch.float64, device=device)
        self.restart()

    @property
    def current(self) -> Tensor:
        """Step sizes to explore with, (B,)."""
        return self._log.exp()

    @property
    def mean(self) -> Tensor:
        """Step sizes to keep, (B,)."""
        return self._mean.exp()

    def restart(self) -> None:
        """Forget all but the step sizes found."""
        self._log = self._mean
        self._centre = self._log + math.log(_BOLDER)
        self._error, self._count = torch.zeros_like(self._log), 0

    def update(self, acceptance: Tensor) -> None:
        """Learn from the mean acceptance (B,) of one transition."""
        self._count += 1
        weight = 1.0 / (self._count + _DELAY)
        self._error = (1.0 - weight) * self._error + weight * (self._target - acceptance)
        self._log = self._centre - math.sqrt(self._count) / _GAMMA * self._error
        share = self._count**-_KAPPA
        self._mean = share * self._log + (1.0 - share) * self._mean

    def select(self, rows: Tensor) -> None:
        """Go on with some observations."""
        self._mean = self._mean[rows]
        self.restart()


class Scales:
    """M of B observations.

    Args:
        root: lower-triangular blocks of the parameters, (B, P, P).
        scale: standard deviations of the other coordinates, (B, size - P).
    """

    def __init__(self, root: Tensor, scale: Tensor) -> None:
        self.root, self.scale = root, scale

    @classmethod
    def unit(cls, count: int, size: int, parameters: int, device: torch.device) -> Scales:
        """M = 1."""
        root = torch.eye(parameters, dtype=torch.float64, device=device).repeat(count, 1, 1)
        return cls(root, torch.ones(count, size - parameters, dtype=torch.float64, device=device))

    def to_coordinates(self, y: Tensor) -> Tensor:
        """M y for y (chains, B, size)."""
        return self._apply(self.root, y)

    def to_scaled(self, gradient: Tensor) -> Tensor:
        """M^T g, the gradient by y, for g (chains, B, size)."""
        return self._apply(self.root.mT, gradient)

    def select(self, rows: Tensor) -> Scales:
        """Those of some observations."""
        return Scales(self.root[rows], self.scale[rows])

    def _apply(self, block: Tensor, x: Tensor) -> Tensor:
        count = block.shape[-1]
        first = (block @ x[..., :count].unsqueeze(-1)).squeeze(-1)
        return torch.cat([first, self.scale * x[..., count:]], -1)


class Moments:
    """Moments of draws as they come.

    Args:
        count: B.
        size: coordinates.
        parameters: how many of them, the first ones, are parameters'.
        device: where to compute.
    """

    def __init__(self, count: int, size: int, parameters: int, device: torch.device) -> None:
        self._parameters = parameters
        self._draws = self._chains = 0
        self._sum = torch.zeros(count, size, dtype=torch.float64, device=device)
        self._squares = torch.zeros_like(self._sum)
        self._products = torch.zeros(count, parameters, parameters, dtype=torch.float64, device=device)

    def add(self, z: Tensor) -> None:
        """One draw of every chain, (chains, B, size)."""
        self._chains = len(z)
        self._draws += len(z)
        self._sum += z.sum(0)
        self._squares += z.square().sum(0)
        first = z[..., : self._parameters].transpose(0, 1)
        self._products += first.mT @ first

    def scales(self) -> Scales:
        """M of what was added."""
        share = self._draws / (self._draws + _SHRINKAGE * self._chains)
        mean = self._sum / self._draws
        variance = share * (self._squares / self._draws - mean.square()) + (1.0 - share)
        first = mean[:, : self._parameters]
        covariance = self._products / self._draws - first.unsqueeze(-1) * first.unsqueeze(-2)
        unit = torch.eye(self._parameters, dtype=torch.float64, device=mean.device)
        root = torch.linalg.cholesky(share * covariance + (1.0 - share) * unit)
        return Scales(root, variance[:, self._parameters :].sqrt())
