"""Masks of discs around stars.

Stars lie at random, N(>r) ~ r^-3 of them per area hiding a disc wider than r: counts N(>F) ~ F^-3/2, those
of evenly strewn stars, with r ~ F^1/2. The radii run from the option `radius` to five times that, where the
brightest are held; the mean of r^2 is then 2.6 radius^2, and discs that may overlap leave free the fraction
exp(-2.6 pi density radius^2) of the sky.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit import derive_seed, generator, uniforms
from sbikit_lognormal.options import MaskFile, StarMask
from sbikit_lognormal.survey.files import read_map

Array = NDArray[np.float64]

_WIDEST = 5.0  # radius of the brightest stars' discs over that of the faintest: 3.5 magnitudes for r ~ F^1/2
_ACROSS = 4  # sub-pixels of a pixel, and of the radius of the smallest disc, at least
_FINEST = 4096  # sub-pixels a side at most: 16 MiB of true and false


def usable_fraction(mask: StarMask | MaskFile, size: int, extent: float) -> Array:
    """Fraction of each of the N x N pixels that is not hidden, (N, N), on a patch of `extent` degrees.

    Raises:
        OptionError: the file does not fit.
    """
    if isinstance(mask, MaskFile):
        return read_map(mask.path, "simulator.mask.path", size, highest=1.0)
    pixel = extent * 60.0 / size
    fine = math.ceil(_ACROSS * pixel / mask.radius)
    fine = int(np.clip(fine, _ACROSS, max(_ACROSS, _FINEST // size)))
    centres = (np.arange(size * fine) + 0.5) * (pixel / fine)
    inside = np.minimum(centres, centres[::-1]) >= mask.edge
    free = inside[:, None] & inside[None, :]
    for x, y, radius in _stars(mask, 60.0 * extent):
        rows = slice(*np.searchsorted(centres, (y - radius, y + radius)))
        columns = slice(*np.searchsorted(centres, (x - radius, x + radius)))
        distance = (centres[rows, None] - y) ** 2 + (centres[None, columns] - x) ** 2
        free[rows, columns] &= distance > radius**2
    return free.reshape(size, fine, size, fine).mean((1, 3))


def _stars(mask: StarMask, side: float) -> Array:
    """Position from the patch's corner and disc radius of each star that can reach the patch, (n, 3), arcmin.

    Args:
        mask: the options.
        side: side of the patch in arcmin.
    """
    reach = _WIDEST * mask.radius
    mean = torch.tensor(mask.density * ((side + 2.0 * reach) / 60.0) ** 2, dtype=torch.float64)
    count = int(torch.poisson(mean, generator=generator(derive_seed(mask.seed, "number of stars"))))
    names = ("x of stars", "y of stars", "radius of stars")
    x, y, u = uniforms(np.array([derive_seed(mask.seed, name) for name in names]), count)
    place = np.stack([x, y], axis=-1) * (side + 2.0 * reach) - reach
    radius = np.minimum(mask.radius * u ** (-1.0 / 3.0), reach)
    return np.concatenate([place, radius[:, None]], axis=-1)
