r"""What linear laws expect of the scalars that are right in one region each.

How numbers go with scalars depends on the scalars: one linear law is a compromise over the whole prior, and a
network has to find what is best where, of a thousand numbers, from simulations alone. So the space of what
the first law expects is divided into K regions, around centres found by k-means, and each has the linear law
that is best there, by ridge regression with weights

    w_k = softmax_k(-|e - c_k|^2 / h),

e what the first law expects, c_k the centres, all in units of the spread of e. Near its centre such a law
compresses data as the score does there (Alsing and Wandelt 2018, arXiv:1712.00012), which for one parameter
point loses nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sbikit import derive_seed, generator
from sbikit.learning import Standardise
from sbikit_transformer.conditions import FARTHEST

REGIONS = 12
# Simulations for each number that a region's law has a slope on; where there are fewer, there are fewer
# regions. With half as many what is expected of those that taught it is much better than of others.
_ROWS = 10
_ROUNDS = 8  # of k-means
# h, in mean squared distances to the nearest centre.
_WIDTH = 2.0
_LEAST_WIDTH = 1e-6  # in units of the spread of what is expected, where that never varies
_LEAST_WEIGHT = 1e-3  # of a simulation, below which it is left out of a region's law: less work
# Ridges tried, in units of the numbers' variances there.
_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
_LEAST_VARIANCE = 1e-3  # of a number that hardly varies in a region, in units of its variance everywhere
_LEAST_SPREAD = 1e-6  # of what is expected, in prior standard deviations
_AT_ONCE = 8192


class LocalLaws(nn.Module):
    """Up to `REGIONS` linear laws of P scalars.

    Args:
        scalars: P.
        told: length of what is told of data, W.
    """

    unit: Tensor
    centres: Tensor
    width: Tensor
    linear: Tensor
    known: Tensor

    def __init__(self, scalars: int, told: int) -> None:
        super().__init__()
        self.count = (REGIONS + 2) * scalars
        self.register_buffer("unit", torch.ones(2, scalars))
        self.register_buffer("centres", torch.zeros(REGIONS, scalars))
        self.register_buffer("width", torch.ones(()))
        self.register_buffer("linear", torch.zeros(REGIONS, 1 + told, scalars))
        self.register_buffer("known", torch.zeros((), dtype=torch.bool))
        self.scale = Standardise(self.count)

    def fit(self, u: Tensor, told: Tensor, expected: Tensor, judges: int) -> None:
        """Fit to simulations, the first of which judge and do not teach.

        Args:
            u: (M, P) white scalars.
            told: (M, W), standardised.
            expected: (M, P), by the first law.
            judges: how many judge.
        """
        taught = slice(judges, None)
        regions = min(REGIONS, (len(u) - judges) // (_ROWS * (1 + told.shape[1])))
        self.known.fill_(regions > 1)
        self.unit[0] = expected[taught].mean(0)
        self.unit[1] = expected[taught].std(0).clamp_min(_LEAST_SPREAD)
        if not self.known:
            return
        self.linear.zero_()
        self._fit_centres(self._where(expected[taught]), regions)
        weights = self._weights(expected[taught])
        sums = [
            _moments(told[taught][some], u[taught][some], weights[some, k])
            for k in range(regions)
            for some in (weights[:, k] > _LEAST_WEIGHT,)
        ]
        best, least = self.linear.clone(), float("inf")
        for ridge in _RIDGES:
            for k, (mean, mean_u, squares, products) in enumerate(sums):
                own = squares.diagonal().clamp_min(_LEAST_VARIANCE)
                slopes = torch.linalg.solve(squares + ridge * torch.diag(own), products)
                self.linear[k] = torch.cat([(mean_u - mean @ slopes)[None], slopes])
            left = (
                u[:judges] - self._unscaled(told[:judges], expected[:judges])[:, u.shape[1] : 2 * u.shape[1]]
            )
            if (found := float(left.square().mean())) < least:
                best, least = self.linear.clone(), found
        self.linear.copy_(best)
        self.scale.fit(self._unscaled(told[taught], expected[taught]))

    def forward(self, told: Tensor, expected: Tensor) -> Tensor:
        """What the first law, the laws of the regions together, and each of them expect, (B, (K + 2) P),
        standardised; zero where there are none.

        Args:
            told: (B, W).
            expected: (B, P), by the first law.
        """
        if not self.known:
            return told.new_zeros(len(told), self.count)
        return self.scale(self._unscaled(told, expected)).clamp(-FARTHEST, FARTHEST)

    def _unscaled(self, told: Tensor, expected: Tensor) -> Tensor:
        parts = zip(told.split(_AT_ONCE), expected.split(_AT_ONCE), strict=True)
        return torch.cat([self._of_few(*part) for part in parts])

    def _of_few(self, told: Tensor, expected: Tensor) -> Tensor:
        each = self.linear[:, 0] + torch.einsum("bw,kwp->bkp", told, self.linear[:, 1:])
        together = (self._weights(expected)[..., None] * each).sum(1)
        return torch.cat([expected, together, each.flatten(1)], 1)

    def _where(self, expected: Tensor) -> Tensor:
        return (expected - self.unit[0]) / self.unit[1]

    def _weights(self, expected: Tensor) -> Tensor:
        """Of each law, (B, K)."""
        square = (self._where(expected)[:, None] - self.centres).square().sum(2)
        return torch.softmax(-square / self.width, 1)

    def _fit_centres(self, where: Tensor, regions: int) -> None:
        """By k-means; those that are left over lie where nothing is."""
        first = torch.randperm(len(where), generator=generator(derive_seed(0, "regions")))[:regions]
        centres = where[first]
        for _ in range(_ROUNDS):
            nearest = torch.cdist(where, centres).argmin(1)
            count = torch.bincount(nearest, minlength=regions).clamp_min(1)
            sums = torch.zeros_like(centres).index_add_(0, nearest, where)
            centres = sums / count[:, None]
        self.centres.fill_(torch.inf)
        self.centres[:regions] = centres
        nearest = torch.cdist(where, centres).amin(1).square().mean()
        self.width.copy_(_WIDTH * nearest.clamp_min(_LEAST_WIDTH))


def _moments(x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted means of rows x (M, W) and y (M, P), covariance of x, and of x with y; summed in float64."""
    weight = weight / weight.sum()
    mean, mean_y = weight @ x, weight @ y
    squares = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    products = torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64)
    for rows, targets, some in zip(x.split(_AT_ONCE), y.split(_AT_ONCE), weight.split(_AT_ONCE), strict=True):
        weighted = (rows - mean) * some[:, None]
        squares += (weighted.T @ (rows - mean)).double()
        products += (weighted.T @ (targets - mean_y)).double()
    return mean.double(), mean_y.double(), squares, products
