"""What a survey does to shear: noise that varies over the sky, and a mask.

A pixel of area A whose usable fraction is f, in a place where galaxies are rho times as dense as on average,
holds n_gal A f rho galaxies, so that each component of its mean shear has noise of standard deviation

    sigma = sigma_e / sqrt(n_gal A f rho).

The signal stays the shear averaged over the whole pixel. A pixel that is less than a quarter usable, or holds
no galaxies, is masked: its shear is 0, its noise 0 and its weight 1 / sigma^2 also 0. A survey that observes
convergence does the same to that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import OptionError
from sbikit_lognormal.options import DepthFile, MaskFile, StarMask, VaryingDepth
from sbikit_lognormal.survey.depth import relative_density
from sbikit_lognormal.survey.masks import usable_fraction

_NOISE = (1e-15, 1e15)

LEAST_USABLE = 0.25
"""A pixel of which a smaller fraction is usable is masked: more loses good pixels, less keeps noisy ones."""


@dataclass(frozen=True)
class Survey:
    """Noise and mask of a patch of N x N pixels in several source bins.

    Args:
        mask: (N, N), true where shear is observed.
        noise: standard deviation of one shear component, (bins, N, N); 0 where masked.
        weight: 1 / noise^2, (bins, N, N); 0 where masked.
        uniform: whether nothing is masked and the noise of a bin is everywhere the same.
    """

    mask: Tensor
    noise: Tensor
    weight: Tensor
    uniform: bool

    def observe(self, clean: Tensor, white: Tensor) -> Tensor:
        """Observed data (..., bins, components, N, N), 0 where masked.

        Args:
            clean: the data without noise, (..., bins, components, N, N): 2 components of shear, 1 of
                convergence.
            white: standard normal numbers of the same shape.
        """
        noise = self.noise.unsqueeze(-3)
        if self.uniform:
            return torch.addcmul(clean, white, noise[..., :1, :1])
        return torch.addcmul(clean, white, noise).masked_fill_(~self.mask, 0.0)

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Survey:
        """The same survey in another precision or on another device."""
        return replace(
            self,
            mask=self.mask.to(device),
            noise=self.noise.to(device, dtype),
            weight=self.weight.to(device, dtype),
        )


def make_survey(
    size: int,
    extent: float,
    n_gal: Sequence[float],
    sigma_e: Sequence[float],
    *,
    mask: StarMask | MaskFile | None = None,
    depth: VaryingDepth | DepthFile | None = None,
) -> Survey:
    """The survey of a patch, float64 on the CPU.

    Args:
        size: pixels a side.
        extent: side in degrees.
        n_gal: galaxies per square arcminute in each bin, averaged over the patch as if it had no mask.
        sigma_e: ellipticity dispersion a component in each bin.
        mask: what hides galaxies, if anything.
        depth: how their density varies, if it does.

    Raises:
        OptionError: the bins do not fit together, a file does not fit the patch, all is masked, or single
            precision cannot hold the noise.
    """
    _check_bins(n_gal, sigma_e)
    usable = np.ones((size, size)) if mask is None else usable_fraction(mask, size, extent)
    density = np.ones((size, size)) if depth is None else relative_density(depth, size, extent)
    observed = (usable >= LEAST_USABLE) & (density > 0.0)
    if not observed.any():
        raise OptionError(
            "The whole patch is masked.",
            where="simulator.mask, simulator.depth",
            expected=f"a pixel at least {LEAST_USABLE:g} usable that holds galaxies",
            got=f"largest usable fraction {usable.max():.3g}",
            fix="mask fewer or smaller stars or a narrower edge, or mend the file",
        )
    area = (extent * 60.0 / size) ** 2
    _check_noise(np.asarray(sigma_e) / np.sqrt(np.asarray(n_gal) * area))
    galaxies = np.where(observed, area * usable * density, 0.0)
    weight = galaxies * (np.asarray(n_gal) / np.square(sigma_e))[:, None, None]
    noise = np.divide(1.0, np.sqrt(weight), out=np.zeros_like(weight), where=weight > 0)
    return Survey(
        mask=torch.from_numpy(observed),
        noise=torch.from_numpy(noise),
        weight=torch.from_numpy(weight),
        uniform=bool((galaxies == galaxies[0, 0]).all()),
    )


def _check_noise(noise: NDArray[np.float64]) -> None:
    """Refuse noise (bins,) whose square, or its inverse, is none in single precision."""
    low, high = _NOISE
    if not ((noise >= low) & (noise <= high)).all():
        raise OptionError(
            "The noise of a pixel is out of range.",
            where="simulator.n_gal, simulator.sigma_e",
            expected=f"sigma_e / sqrt(galaxies in a pixel) from {low:g} to {high:g}",
            got=", ".join(f"{value:.3g}" for value in noise),
            fix="give galaxies per square arcminute, and the dispersion of one component of the ellipticity",
        )


def _check_bins(n_gal: Sequence[float], sigma_e: Sequence[float]) -> None:
    """Refuse numbers of the bins that do not fit together or are not positive."""
    values = [*n_gal, *sigma_e]
    if not n_gal or len(n_gal) != len(sigma_e) or not all(0.0 < v < math.inf for v in values):
        raise OptionError(
            "The galaxies of the source bins are not described.",
            where="simulator.n_gal, simulator.sigma_e",
            expected="one positive number a bin in each",
            got=f"n_gal {list(n_gal)}, sigma_e {list(sigma_e)}",
            fix="give as many densities as dispersions, all positive",
        )
