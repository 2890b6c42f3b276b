"""Step sizes by dual averaging (Hoffman and Gelman 2014, JMLR 15, 1593, section 3.2).

After transition t with mean acceptance a_t over the chains,

    H_t = (1 - 1/(t + t_0)) H_{t-1} + (target - a_t) / (t + t_0),   log e_t = mu - sqrt(t) / gamma H_t,
    log e = t^-kappa log e_t + (1 - t^-kappa) log e,

with gamma = .05, t_0 = 10, kappa = .75; e_t is used during warm-up and e afterwards.

Where even the longest step is accepted more often than wanted, e stays there: from further off it would not
come back in time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GAMMA, _DELAY, _KAPPA = 0.05, 10.0, 0.75  # Hoffman and Gelman's
_FIRST_STEP = 0.1  # radians, short enough to be accepted at first: too long a one wastes some ten transitions
# A new start tries longer steps than the last ones. Hoffman and Gelman's are 10 times as long as a first
# guess; here a good step is known, and 10 times it would be turned down for several transitions.
_BOLDER = 1.5


class StepSize:
    """Step sizes of B observations, tuned to an acceptance rate.

    Args:
        count: B.
        target: acceptance rate.
        longest: the longest step size allowed.
        device: where to compute.
    """

    def __init__(self, count: int, target: float, longest: float, device: torch.device) -> None:
        self._target, self._most = target, math.log(longest)
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
        found = self._centre - math.sqrt(self._count) / _GAMMA * self._error
        self._log = found.clamp(max=self._most)
        share = self._count**-_KAPPA
        self._mean = share * self._log + (1.0 - share) * self._mean

    def select(self, rows: Tensor) -> None:
        """Go on with some observations."""
        self._mean = self._mean[rows]
        self.restart()
