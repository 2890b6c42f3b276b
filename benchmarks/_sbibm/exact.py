"""Draws from the exact posteriors of those problems, for observations that do not come with sbibm.

Settings are chosen by these, so that no figure that is reported had a part in the choice. bernoulli_glm has
none.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.stats import binom
from torch import Tensor

import sbikit
from _sbibm.tasks import factor, infected

_TRIED = 2**20  # draws of the prior that are weighed
_TURNS = 600  # of chains


def exact_draws(task: str, x: Tensor, n: int, seed: int) -> Tensor:
    """Draws (n, P) from p(theta | x) of one observation (D,)."""
    return _BY[task](x.double(), n, sbikit.generator(seed)).float()


def _linear(x: Tensor, n: int, source: torch.Generator) -> Tensor:
    """The prior is as wide as the error."""
    return 0.5 * x + math.sqrt(0.05) * torch.randn(n, 10, generator=source, dtype=torch.float64)


def _cut(x: Tensor, n: int, source: torch.Generator) -> Tensor:
    """A normal law in the box, each number by itself."""
    sd = math.sqrt(0.1)
    low, high = torch.special.ndtr((-1 - x) / sd), torch.special.ndtr((1 - x) / sd)
    share = low + (high - low) * torch.rand(n, 10, generator=source, dtype=torch.float64)
    return (x + sd * torch.special.ndtri(share)).clamp(-1.0, 1.0)


def _mixture(x: Tensor, n: int, source: torch.Generator) -> Tensor:
    """Of two normal laws in the box, by refusal."""
    found = x.new_zeros(0, 2)
    while len(found) < n:
        white = torch.randn(4 * n, 3, generator=source, dtype=torch.float64)
        theta = x + torch.where(white[:, 2:] > 0, 1.0, 0.1) * white[:, :2]
        found = torch.cat([found, theta[(theta.abs() <= 10).all(-1)]])
    return found[:n]


def _moons(x: Tensor, n: int, source: torch.Generator) -> Tensor:
    """The crescent is turned back, with either sign."""
    found = x.new_zeros(0, 2)
    while len(found) < n:
        angle = math.pi * (torch.rand(4 * n, generator=source, dtype=torch.float64) - 0.5)
        radius = 0.1 + 0.01 * torch.randn(4 * n, generator=source, dtype=torch.float64)
        crescent = torch.stack([radius * angle.cos() + 0.25, radius * angle.sin()], -1)
        folded = math.sqrt(2.0) * (x - crescent)
        sign = 2.0 * torch.randint(0, 2, (4 * n,), generator=source) - 1.0
        total, difference = -sign * folded[:, 0], folded[:, 1]
        theta = torch.stack([total - difference, total + difference], -1) / 2.0
        found = torch.cat([found, theta[(folded[:, 0] <= 0) & (theta.abs() <= 1).all(-1)]])
    return found[:n]


def _slcp(x: Tensor, n: int, source: torch.Generator) -> Tensor:
    """The means given the three others are normal in the box, and are drawn; the others by chains.

    Many chains of random steps, each begun from one of many draws that are weighed; either sign of the third
    and of the fourth parameter is as probable.
    """
    points = x.view(4, 2)
    middle, left = points.mean(0), points - points.mean(0)

    def log_density(theta: Tensor) -> Tensor:
        """Of (n, 5), the means among them."""
        root = factor(theta)
        away = torch.linalg.solve_triangular(root, (points - theta[:, None, :2]).mT, upper=False)
        found = -4.0 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1) - 0.5 * away.square().sum((-2, -1))
        return torch.where((theta.abs() <= 3).all(-1), found, -math.inf)

    def marginal(theta: Tensor) -> Tensor:
        """Of the three others, the means free."""
        root = factor(theta)
        away = torch.linalg.solve_triangular(root, left.mT.expand(len(theta), 2, 4), upper=False)
        return -3.0 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1) - 0.5 * away.square().sum((-2, -1))

    def with_means(theta: Tensor) -> Tensor:
        """The means drawn given the others; where they fall outside of the box, as they were."""
        white = torch.randn(len(theta), 2, 1, generator=source, dtype=torch.float64)
        means = middle + 0.5 * (factor(theta) @ white)[..., 0]
        inside = (means.abs() <= 3).all(-1, keepdim=True)
        return torch.cat([torch.where(inside, means, theta[:, :2]), theta[:, 2:]], -1)

    tried = 6.0 * torch.rand(_TRIED, 5, generator=source, dtype=torch.float64) - 3.0
    weights = torch.cat([marginal(part) for part in tried.split(2**17)])
    theta = tried[torch.multinomial((weights - weights.max()).exp(), n, True, generator=source)]
    theta[:, :2] = middle.clamp(-3.0, 3.0)
    for turn in range(_TURNS):
        theta = with_means(theta)
        sign = 2.0 * torch.randint(0, 2, (n, 2), generator=source) - 1.0
        theta = torch.cat([theta[:, :2], theta[:, 2:4] * sign, theta[:, 4:]], -1)  # changes no density
        step = 0.1 ** (turn % 3) * torch.randn(n, 5, generator=source, dtype=torch.float64)
        moved = theta + step * (theta.new_tensor([0.0, 0.0, 1.0, 1.0, 1.0]) if turn % 2 else 1.0)
        share = torch.rand(n, generator=source, dtype=torch.float64)
        taken = share.log() < log_density(moved) - log_density(theta)
        theta = torch.where(taken[:, None], moved, theta)
    return theta


def _sir(x: Tensor, n: int, source: torch.Generator) -> Tensor:
    """By a grid in the logarithms, fine where the density is, and a shift inside of its cells."""
    centre = torch.tensor([0.4, 0.125], dtype=torch.float64).log()
    sd = torch.tensor([0.5, 0.2], dtype=torch.float64)
    low, high = centre - 5 * sd, centre + 5 * sd
    size = 400
    for _ in range(6):
        wide = high - low
        axes = [low[i] + wide[i] * (torch.arange(size) + 0.5) / size for i in range(2)]
        grid = torch.cartesian_prod(*axes)
        share = infected(grid.exp()).numpy()
        data = torch.from_numpy(binom.logpmf(x.numpy(), 1000, share)).sum(-1)
        log_density = data - 0.5 * ((grid - centre) / sd).square().sum(-1)
        weights = (log_density - log_density.max()).exp()
        inside = grid[weights > 1e-7]
        low = torch.maximum(low, inside.amin(0) - 2 * wide / size)
        high = torch.minimum(high, inside.amax(0) + 2 * wide / size)
    index = torch.multinomial(weights, n, True, generator=source)
    moved = grid[index] + wide / size * (torch.rand(n, 2, generator=source, dtype=torch.float64) - 0.5)
    return moved.exp()


_BY: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "two_moons": _moons,
    "slcp": _slcp,
    "gaussian_mixture": _mixture,
    "gaussian_linear": _linear,
    "gaussian_linear_uniform": _cut,
    "sir": _sir,
}
