r"""Few directions of a field in which all of its pixels move together.

A loss a pixel hardly sees them, since each is one number among thousands, and yet they decide what a drawn
map's power and variance are, and how they go with the parameters. With W the guide's field, they are

    phi ~ 1,  W_low, W_mid, W_high,  He_2(W),  He_3(W),

each of unit norm over the pixels: W_b is the part of W in one of three bands of wave numbers, equal parts of
log |k|, and the Hermite polynomials are of W standardised over its pixels, orthonormal for a normal W. What
the guide did not expect of a noisy field x along them

    k = sum phi (x - W) / sqrt(sigma^2 - v),

of a guide that expects the error v, is standard normal where the guide is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sbikit.fields import Rings
from sbikit_transformer.conditions import FARTHEST
from sbikit_transformer.normal import innovation

# Without bands, by one direction W in their place, draws of convergence maps had the parameters' correlations
# with power on large and small scales wrong by .06 (docs/results/joint.md).
_BANDS = 3
COUNT = _BANDS + 3  # of the directions
# Least variance of the guide's field that is taken for its own, and of the sum of squares of a direction.
_LEAST = 1e-12
_LEAST_SQUARE = 1e-6


@dataclass(frozen=True)
class Shapes:
    """Directions of B fields, and what is told of them.

    Args:
        phi: (B, C, COUNT, *grid), each of unit norm over the pixels, or 0 where W has nothing of it.
        innovations: (B, C, COUNT), k.
        moments: (B, 3 C), of W log variance, skewness and mean.
    """

    phi: Tensor
    innovations: Tensor
    moments: Tensor


class ShapesOf(nn.Module):
    """The shapes of fields on a grid.

    Args:
        grid: pixels along each axis.
    """

    def __init__(self, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.bands = Rings.logarithmic(grid, tuple(map(float, grid)), _BANDS)

    def forward(self, expected: Tensor, error: Tensor, noisy: Tensor, sigma: Tensor) -> Shapes:
        """Of a guide's field W (B, C, *grid), of the error (B, C) that it expects, and of a noisy field with
        noise of level sigma (B,).
        """
        w = expected.flatten(2)
        mean = w.mean(-1)
        centred = w - mean[..., None]
        variance = centred.square().mean(-1).clamp_min(_LEAST)
        x = centred * variance.rsqrt()[..., None]
        square = x.square()
        cube = square * x
        bands = self._in_bands(x.view_as(expected)).flatten(3).unbind(2)
        hermite = (square - 1.0) / math.sqrt(2.0), (cube - 3.0 * x) / math.sqrt(6.0)
        phi = torch.stack([torch.ones_like(x), *bands, *hermite], 2)
        norm = torch.linalg.vector_norm(phi, dim=-1, keepdim=True)
        # A part that W lacks is made of rounding errors: nothing, and not one of unit norm.
        phi *= norm / (norm.square() + _LEAST_SQUARE)
        along = (phi @ (noisy - expected).flatten(2)[..., None])[..., 0]
        innovations = innovation(along, error[..., None], sigma[:, None, None]).clamp(-FARTHEST, FARTHEST)
        skewness = cube.mean(-1).clamp(-FARTHEST, FARTHEST)
        moments = torch.cat([variance.log(), skewness, mean], 1)
        return Shapes(phi.unflatten(-1, expected.shape[2:]), innovations, moments)

    def _in_bands(self, field: Tensor) -> Tensor:
        """The parts of a field (B, C, *grid) without a mean in the bands, (B, C, _BANDS, *grid); zero where
        there are fewer bands, on grids of few modes.
        """
        modes = self.bands.transform(field)
        parts = [torch.where(self.bands.index == band, modes, 0.0) for band in range(_BANDS)]
        return self.bands.inverse(torch.stack(parts, 2))
