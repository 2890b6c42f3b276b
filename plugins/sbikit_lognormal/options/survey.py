"""Options of what hides galaxies, and of how their density varies."""

from __future__ import annotations

from pathlib import Path

import pydantic

from sbikit import Options


class StarMask(Options):
    """A mask of discs around stars, and of a border; it depends on these options and the patch alone.

    The default stars hide 5 % of the sky (survey/masks.py).
    """

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

    path: Path = pydantic.Field(
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

    path: Path = pydantic.Field(
        description="an .npy file, or an .npz file of one array, with the galaxy density of each pixel, "
        "(size, size), in any unit: it is divided by its mean"
    )
