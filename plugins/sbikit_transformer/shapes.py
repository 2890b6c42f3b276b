r"""Few directions of a field in which all of its pixels move together.

A loss a pixel hardly sees them, since each is one number among thousands, and yet they decide what a drawn
map's variance is, and how it goes with the parameters. With W the guide's field, standardised over its
pixels, they are

    phi_m = He_m(W) / sqrt(m!),    m = 0 ... 3,

Hermite polynomials, orthonormal for a normal W. What the guide did not expect of a noisy field x along them

    k_m = n^(-1/2) sum phi_m (x - W) / sqrt(sigma^2 - v),

of n pixels and a guide that expects the error v, is standard normal where the guide is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sbikit_transformer.conditions import FARTHEST
from sbikit_transformer.normal import innovation

COUNT = 4  # of the directions
# Least variance of the guide's field that is taken for its own, and of the sum of squares of a direction.
_LEAST = 1e-12
_LEAST_SQUARE = 1e-6


@dataclass(frozen=True)
class Shapes:
    """Directions of B fields, and what is told of them.

    Args:
        phi: (B, C, COUNT, *grid), each of unit norm over the pixels.
        innovations: (B, C, COUNT), k.
        moments: (B, 3 C), of W log variance, skewness and mean.
    """

    phi: Tensor
    innovations: Tensor
    moments: Tensor

    @staticmethod
    def of(expected: Tensor, error: Tensor, noisy: Tensor, sigma: Tensor) -> Shapes:
        """Of a guide's field W (B, C, *grid), of the error (B, C) that it expects, and of a noisy field with
        noise of level sigma (B,).
        """
        w = expected.flatten(2)
        mean = w.mean(-1)
        centred = w - mean[..., None]
        variance = centred.square().mean(-1).clamp_min(_LEAST)
        x = centred * variance.rsqrt()[..., None]
        phi = torch.stack(
            [
                torch.ones_like(x),
                x,
                (x.square() - 1.0) / math.sqrt(2.0),
                (x.pow(3) - 3.0 * x) / math.sqrt(6.0),
            ],
            2,
        )
        phi = phi * (phi.square().sum(-1, keepdim=True) + _LEAST_SQUARE).rsqrt()
        of_pixels = innovation((noisy - expected).flatten(2), error[..., None], sigma[:, None, None])
        innovations = (phi @ of_pixels[..., None])[..., 0].clamp(-FARTHEST, FARTHEST)
        skewness = x.pow(3).mean(-1).clamp(-FARTHEST, FARTHEST)
        moments = torch.cat([variance.log(), skewness, mean], 1)
        return Shapes(phi.unflatten(-1, expected.shape[2:]), innovations, moments)
