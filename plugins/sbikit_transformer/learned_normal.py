r"""What a small network learns of numbers that a first law takes to be standard normal.

Given what is told, x, of C numbers z that are N(0, 1) by a first law, mu and the lower triangular K of

    z = mu(x) + K(x)^-1 e,    e ~ N(0, 1),

are learned by maximum likelihood. Simulations that judge do not teach them, choose how wide the law is, and
keep the first where it is no better.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sbikit import Monitor
from sbikit.learning import Standardise
from sbikit_transformer.conditions import FARTHEST
from sbikit_transformer.data_posterior import WIDTHS_KNOWN, better
from sbikit_transformer.normal import pairs, triangular
from sbikit_transformer.small_networks import fit_small, small_network

# Of log diagonals of K, as far as they go: of what the first law expects of a simulation that is far off.
_MOST_LOG = 4.0
_LEAST_SQUARE = 1e-10  # of what judges find left


class LearnedNormal(nn.Module):
    """The law of C numbers. Build empty, then `fit`, or load its state.

    Args:
        told: length of what is told.
        size: C.

    Attributes:
        used: whether it is better than the first law.
    """

    used: Tensor
    width: Tensor

    def __init__(self, told: int, size: int) -> None:
        super().__init__()
        self._size, self._numbers = size, size + pairs(size + 1)
        self.scale = Standardise(told)
        self.network = small_network(told, self._numbers)
        self.register_buffer("width", torch.ones(size))
        self.register_buffer("used", torch.zeros((), dtype=torch.bool))

    def fit(self, told: Tensor, white: Tensor, judges: int, monitor: Monitor) -> None:
        """Fit to simulations, the first of which judge.

        Args:
            told: (M, T).
            white: (M, C), standard normal by the first law.
            judges: how many judge.
            monitor: is told how far training is.
        """
        self.scale.fit(told[judges:])
        told = self._scaled(told)

        def loss(rows: Tensor) -> Tensor:
            return -_log_density(white[rows], *self._law(told[rows])).mean()

        start = torch.zeros(self._numbers)
        fit_small(self.network, loss, len(told), judges=judges, start=start, monitor=monitor)
        some = white[:judges]
        with torch.no_grad():
            mean, factor = self._law(told[:judges])
            left = (factor @ (some - mean)[..., None])[..., 0]
            known = judges / (judges + 0.5 / WIDTHS_KNOWN**2)
            self.width.copy_(left.square().mean(0).clamp_min(_LEAST_SQUARE).pow(0.5 * known))
            before = -0.5 * some.square().sum(1)
            self.used.fill_(better(_log_density(some, *self._law(told[:judges])) - before))

    @torch.no_grad()
    def forward(self, told: Tensor) -> tuple[Tensor, Tensor]:
        """mu (B, C) and K (B, C, C) given what is told, (B, T)."""
        return self._law(self._scaled(told))

    def _scaled(self, told: Tensor) -> Tensor:
        return self.scale(told).clamp(-FARTHEST, FARTHEST)

    def _law(self, told: Tensor) -> tuple[Tensor, Tensor]:
        """The same given what is standardised."""
        mean, numbers = self.network(told).split([self._size, self._numbers - self._size], 1)
        return mean, triangular(numbers, self._size, _MOST_LOG) / self.width[:, None]


def _log_density(white: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Of z (B, C), without its constant, (B,)."""
    inside = (factor @ (white - mean)[..., None])[..., 0]
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) - 0.5 * inside.square().sum(1)
