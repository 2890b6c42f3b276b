"""Step sizes by dual averaging (Hoffman and Gelman 2014, JMLR 15, 1593, section 3.2).

After transition t with mean acceptance a_t over the chains,

    H_t = (1 - 1/(t + t_0)) H_{t-1} + (target - a_t) / (t + t_0),   log e_t = mu - sqrt(t) / gamma H_t,
    log e = t^-kappa log e_t + (1 - t^-kappa) log e,

with gamma = .05, t_0 = 10, kappa = .75; e_t is used during warm-up and e afterwards.

Where even the longest step is accepted more often than wanted, e stays there: from further off it would not
come back in time.

The first transitions search for a step size from their energy errors d instead. Of steps that are right these
are N(s^2 / 2, s^2), accepted with probability 2 Phi(-s / 2), and s goes as e^2 (Beskos et al. 2013,
arXiv:1001.4460), so their mean size, that of a folded normal number, says how far off e is. Dual averaging
knows of a step that is three times too long that nothing is accepted, and has made it a thousand times
shorter three transitions later.
"""

from __future__ import annotations

import math

import torch
from scipy.special import ndtri
from torch import Tensor

_GAMMA, _DELAY, _KAPPA = 0.05, 10.0, 0.75  # Hoffman and Gelman's
_FIRST_STEP = 0.1  # radians, short enough to be accepted at first: too long a one wastes some ten transitions
# A new start tries longer steps than the last ones. Hoffman and Gelman's are 10 times as long as a first
# guess; here a good step is known, and 10 times it would be turned down for several transitions.
_BOLDER = 1.5
# Of a search: least energy error that is told from none, and most by which one transition changes log e. A
# chain that comes down from far off may have any error, and may be fast.
_LEAST_ERROR, _MOST_DOWN, _MOST_UP = 1e-3, 1.5, 0.7


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
        s = -2.0 * float(ndtri(0.5 * target))
        self._wanted = s * math.sqrt(2.0 / math.pi) * math.exp(-(s**2) / 8.0) + 0.5 * s**2 * (1.0 - target)
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

    def search(self, error: Tensor) -> None:
        """Learn from the mean size (B,) of the energy errors of one transition, which need not be finite."""
        error = error.nan_to_num(math.inf).clamp_min(_LEAST_ERROR)
        change = 0.5 * (self._wanted / error).log()
        self._mean = (self._log + change.clamp(-_MOST_DOWN, _MOST_UP)).clamp(max=self._most)
        self.restart()

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
