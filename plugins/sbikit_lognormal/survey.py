"""What a survey does to shear: noise that varies over the sky, a mask, and a patch cut out of a larger sky.

A pixel of area A whose usable fraction is f, in a place where galaxies are rho times as dense as on average,
holds n_gal A f rho galaxies, so that each component of its mean shear has noise of standard deviation

    sigma = sigma_e / sqrt(n_gal A f rho).

The signal stays the shear averaged over the whole pixel. A pixel that is less than a quarter usable, or holds
no galaxies, is masked: its shear is 0, its noise 0 and its weight 1 / sigma^2 also 0. A survey that observes
convergence does the same to that.

Stars lie at random, N(>r) ~ r^-3 of them per area hiding a disc wider than r: counts N(>F) ~ F^-3/2, those
of evenly strewn stars, with r ~ F^1/2. The radii run from the option `radius` to five times that, where the
brightest are held; the mean of r^2 is then 2.6 radius^2, and discs that may overlap leave free the fraction
exp(-2.6 pi density radius^2) of the sky.

The density of galaxies varies as rho ~ exp(s g), with g Gaussian of correlation exp(-r^2 / 2 scale^2) and s
such that over the patch the mean is 1 and the scatter the asked one.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor

from sbikit import OptionError, Options
from sbikit.problem.seeds import derive_seed, generator, normals, uniforms

Array = NDArray[np.float64]

LEAST_USABLE = 0.25
"""A pixel of which a smaller fraction is usable is masked."""

_WIDEST = 5.0  # radius of the brightest stars' discs over that of the faintest
_FINEST = 4096  # sub-pixels a side at most, for the memory's sake
_STEEPEST = 20.0  # exp(s g) of any standardised map is finite up to here and its scatter well above 1


class StarMask(Options):
    """A mask of discs around stars, and of a border; it depends on these options and the patch alone."""

    density: float = pydantic.Field(default=10.0, ge=0.0, le=200.0, description="stars per square degree")
    radius: float = pydantic.Field(
        default=1.5,
        gt=0.0,
        le=60.0,
        description="radius in arcmin of the faintest stars' discs; brighter ones have up to five times it, "
        "N(>r) ~ r^-3",
    )
    edge: float = pydantic.Field(default=0.0, ge=0.0, description="width of the masked border in arcmin")
    seed: int = pydantic.Field(default=0, ge=0, description="which stars")


class MaskFile(Options):
    """A mask from a file."""

    path: str = pydantic.Field(
        description="an .npy file, or an .npz file of one array, with the usable fraction of each pixel, "
        "(size, size), 0 to 1 or true and false"
    )


class VaryingDepth(Options):
    """Galaxies that are denser in some places; the map depends on these options and the patch alone."""

    scatter: float = pydantic.Field(
        default=0.2,
        gt=0.0,
        le=1.0,
        description="rms of the galaxy density over the patch, relative to its mean",
    )
    scale: float = pydantic.Field(
        default=60.0, gt=0.0, le=600.0, description="correlation length of the galaxy density in arcmin"
    )
    seed: int = pydantic.Field(default=0, ge=0, description="which map")


class DepthFile(Options):
    """The density of galaxies from a file."""

    path: str = pydantic.Field(
        description="an .npy file, or an .npz file of one array, with the galaxy density of each pixel, "
        "(size, size), in any unit: it is divided by its mean"
    )


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
        OptionError: the bins do not fit together, a file does not fit the patch, or all is masked.
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
    galaxies = np.where(observed, area * usable * density, 0.0)
    weight = galaxies * (np.asarray(n_gal) / np.square(sigma_e))[:, None, None]
    noise = np.divide(1.0, np.sqrt(weight), out=np.zeros_like(weight), where=weight > 0)
    return Survey(
        mask=torch.from_numpy(observed),
        noise=torch.from_numpy(noise),
        weight=torch.from_numpy(weight),
        uniform=bool((galaxies == galaxies[0, 0]).all()),
    )


def usable_fraction(mask: StarMask | MaskFile, size: int, extent: float) -> Array:
    """Fraction of each pixel that is not hidden, (N, N).

    Args:
        mask: the options.
        size: pixels a side, N.
        extent: side in degrees.

    Raises:
        OptionError: the file does not fit.
    """
    if isinstance(mask, MaskFile):
        return _read_map(mask.path, "simulator.mask.path", size, highest=1.0)
    pixel = extent * 60.0 / size
    fine = int(np.clip(math.ceil(4.0 * pixel / mask.radius), 4, max(4, _FINEST // size)))
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


def relative_density(depth: VaryingDepth | DepthFile, size: int, extent: float) -> Array:
    """Density of galaxies over its mean over the patch, (N, N).

    Args:
        depth: the options.
        size: pixels a side, N.
        extent: side in degrees.

    Raises:
        OptionError: the file does not fit.
    """
    if isinstance(depth, DepthFile):
        density = _read_map(depth.path, "simulator.depth.path", size)
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
    whole = size + math.ceil(4.0 * scale)
    seed = np.array([derive_seed(depth.seed, "depth")])
    white = normals(seed, (whole, whole))[0].double().numpy()
    k = 2.0 * math.pi * np.fft.fftfreq(whole)
    square = k[:, None] ** 2 + k[None, : whole // 2 + 1] ** 2
    smooth = np.fft.irfft2(np.fft.rfft2(white) * np.exp(-0.25 * square * scale**2), s=(whole, whole))
    patch = smooth[:size, :size]
    return (patch - patch.mean()) / patch.std()


def cut(maps: Tensor, size: int) -> Tensor:
    """The central patch (..., N, N) of maps (..., M, M), M - N even; a view.

    Args:
        maps: the maps.
        size: pixels a side of the patch, N.
    """
    edge = (maps.shape[-1] - size) // 2
    return maps[..., edge : edge + size, edge : edge + size]


def embed(maps: Tensor, size: int) -> Tensor:
    """Maps (..., M, M) that hold the patch (..., N, N) in their centre, M - N even, and 0 (masked) outside.

    Args:
        maps: the patch.
        size: pixels a side of the larger maps, M.
    """
    edge = (size - maps.shape[-1]) // 2
    return torch.nn.functional.pad(maps, (edge, edge, edge, edge))


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


def _read_map(path: str, where: str, size: int, highest: float = math.inf) -> Array:
    """A map (N, N) of finite values from 0 to `highest`, not all 0, from a file."""
    found = _read_array(path, where)
    if found.shape != (size, size) or found.dtype.kind not in "biuf":
        got = f"shape {found.shape}, type {found.dtype}"
    elif not np.isfinite(found).all():
        got = f"{int((~np.isfinite(found)).sum())} values that are not finite"
    elif found.min() < 0 or found.max() > highest:
        got = f"values from {found.min():.6g} to {found.max():.6g}"
    elif not found.any():
        got = "0 everywhere"
    else:
        return found.astype(np.float64)
    limit = "0 or more" if highest == math.inf else f"from 0 to {highest:g}"
    raise OptionError(
        f"The map in {path} does not fit the patch.",
        where=where,
        expected=f"shape ({size}, {size}) of finite numbers {limit}, not all 0",
        got=got,
        fix="make the map on the simulator's pixels, or set the simulator's size to that of the map",
    )


def _read_array(path: str, where: str) -> NDArray[np.generic]:
    """The array of an .npy file, or the one array of an .npz file; nothing is unpickled."""
    got = f"a file named {Path(path).name}"
    if Path(path).suffix in {".npy", ".npz"}:
        try:
            with open(path, "rb") as stream:
                found = np.load(stream, allow_pickle=False)
                if isinstance(found, np.ndarray):
                    return found
                if len(found.files) == 1:
                    return np.asarray(found[found.files[0]])
                got = f"arrays {', '.join(found.files) or 'none'}"
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            got = f"{type(error).__name__}: {error}"
    raise OptionError(
        f"No map can be read from {path}.",
        where=where,
        expected="an .npy file, or an .npz file of one array, of numbers",
        got=got,
        fix="write the map with numpy.save or numpy.savez and give the path of that file",
    )


__all__ = [
    "LEAST_USABLE",
    "DepthFile",
    "MaskFile",
    "StarMask",
    "Survey",
    "VaryingDepth",
    "cut",
    "embed",
    "make_survey",
    "relative_density",
    "usable_fraction",
]
