"""How densely galaxies lie over the patch.

Their density varies as rho ~ exp(s g), with g Gaussian of correlation exp(-r^2 / 2 scale^2) and s such that
over the patch the mean is 1 and the scatter the asked one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from sbikit import derive_seed, normals
from sbikit_lognormal.options import DepthFile, VaryingDepth
from sbikit_lognormal.survey.files import read_map

Array = NDArray[np.float64]

_APART = 4.0  # correlation lengths between the patch and its periodic image: a correlation of exp(-8)
_STEEPEST = 20.0  # exp(s g) of any standardised map is finite up to here and its scatter well above 1


def relative_density(depth: VaryingDepth | DepthFile, size: int, extent: float) -> Array:
    """Density of galaxies over its mean, in N x N pixels of a patch of `extent` degrees, (N, N).

    Raises:
        OptionError: the file does not fit.
    """
    if isinstance(depth, DepthFile):
        density = read_map(depth.path, "simulator.depth.path", size)
        return density / density.mean()
    g = _smooth_field(depth, size, extent)

    def density_of(steepness: float) -> Array:
        density = np.exp(steepness * g)
        return density / density.mean()

    steepness = brentq(lambda s: density_of(s).std() - depth.scatter, 0.0, _STEEPEST)
    return density_of(steepness)


def _smooth_field(depth: VaryingDepth, size: int, extent: float) -> Array:
    """A Gaussian field, (N, N), brought to mean 0 and variance 1 over the patch.

    It is cut out of a periodic one so much larger that opposite edges of the patch are independent.
    """
    scale = depth.scale * size / (extent * 60.0)
    whole = size + math.ceil(_APART * scale)
    seed = np.array([derive_seed(depth.seed, "depth")])
    white = normals(seed, (whole, whole))[0].double().numpy()
    k = 2.0 * math.pi * np.fft.fftfreq(whole)
    square = k[:, None] ** 2 + k[None, : whole // 2 + 1] ** 2
    smooth = np.fft.irfft2(np.fft.rfft2(white) * np.exp(-0.25 * square * scale**2), s=(whole, whole))
    patch = smooth[:size, :size]
    return (patch - patch.mean()) / patch.std()
