"""Posteriors as the flow of a vector field: flow matching (fmpe) and score matching (npse), by sbi's nets.

Both take noise e to coordinates u by an ordinary differential equation whose right-hand side a network learns
from joint draws, given the data and a time t in (0, 1):

    fmpe   u_t = (1 - t) u + t e;                the network learns e - u       (arXiv:2305.17161)
    npse   u_t = cos(pi t / 2) u + sin(pi t / 2) e;  the network learns e       (arXiv:2209.14249, 2105.05233)

fmpe is solved from t = 1 to 0; npse in y = u_t / cos and s = tan(pi t / 2), in which dy / ds = e, from s = 80
to .002 on the noise levels of Karras et al. 2022 (arXiv:2206.00364). Both by Heun's method, two evaluations a
step.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

Method = Literal["fmpe", "npse"]

_HIGHEST, _LOWEST, _RHO = 80.0, 0.002, 7.0
_EARLIEST, _LATEST = (2 / math.pi * math.atan(s) for s in (_LOWEST, _HIGHEST))


class VectorField(nn.Module):
    """A network of sbi with its embedding of the data, and what it is trained and solved by.

    Args:
        estimator: sbi's vector field estimator; of it the network and the embedding are used.
        method: which of the two.
        steps: of the solver.
    """

    def __init__(self, estimator: Any, method: Method, steps: int) -> None:
        super().__init__()
        self.net, self.embedding_net = estimator.net, estimator.embedding_net
        self._method, self._steps = method, steps

    def loss(self, u: Tensor, rows: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The squared error of each pair, (B,).

        Args:
            u: coordinates (B, D).
            rows: data (B, P).
            noise: standard normal (B, D).
            t: uniform numbers (B,).
        """
        if self._method == "fmpe":
            column = t[:, None]
            at, target = (1 - column) * u + column * noise, noise - u
        else:
            t = _EARLIEST + (_LATEST - _EARLIEST) * t
            column = 0.5 * math.pi * t[:, None]
            at, target = column.cos() * u + column.sin() * noise, noise
        found: Tensor = self.net(at, self.embedding_net(rows), t)
        return (found - target).square().mean(-1)

    def solve(self, noise: Tensor, context: Tensor) -> Tensor:
        """Coordinates (n, D) of noise (n, D) given the embedding of one observation, (1, C)."""
        context = context.expand(len(noise), -1)
        if self._method == "fmpe":
            times = torch.linspace(1.0, 0.0, self._steps + 1, dtype=torch.float64).tolist()
            return self._heun(noise, context, times)
        share = torch.linspace(0.0, 1.0, self._steps + 1, dtype=torch.float64)
        ends = _HIGHEST ** (1 / _RHO), _LOWEST ** (1 / _RHO)
        levels = ((ends[0] + share * (ends[1] - ends[0])) ** _RHO).tolist()
        # Coordinates are about standard normal: at the first level y is u + s e.
        return self._heun(noise * math.hypot(1.0, _HIGHEST), context, levels)

    def _heun(self, y: Tensor, context: Tensor, places: list[float]) -> Tensor:
        for here, there in itertools.pairwise(places):
            slope = self._slope(y, context, here)
            ahead = self._slope(y + (there - here) * slope, context, there)
            y = y + 0.5 * (there - here) * (slope + ahead)
        return y

    def _slope(self, y: Tensor, context: Tensor, place: float) -> Tensor:
        if self._method == "npse":
            t = 2 / math.pi * math.atan(place)
            y = y * math.cos(0.5 * math.pi * t)
        else:
            t = place
        found: Tensor = self.net(y, context, torch.full((len(y),), t, dtype=y.dtype, device=y.device))
        return found
