"""Options of the `lognormal` simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from sbikit import Options
from sbikit_lognormal.options.laws import Nuisance, PerBin
from sbikit_lognormal.options.limits import LOG_T_AGN, MAX_PHOTO_Z_SHIFT
from sbikit_lognormal.options.sources import SourceOptions
from sbikit_lognormal.options.survey import DepthFile, MaskFile, StarMask, VaryingDepth


class ShiftTable(Options):
    """The shift from a file."""

    table: Path = pydantic.Field(
        description="text with a line `Omega_m, sigma_8, lambda` and a row for every point of a grid; one bin"
    )


Positive = Annotated[float, pydantic.Field(gt=0.0, le=1e6)]
Dispersion = Annotated[float, pydantic.Field(gt=0.0, le=1.0)]
Depth = Annotated[float, pydantic.Field(ge=1e-4, le=1.0)]

Cosmological = Nuisance | None
"""A value, or the law of a free parameter; None: the benchmark's law."""

_FREE = "a value, or a free parameter's {uniform: [low, high]} or {normal: [mean, sd]}"
_OWN_LAW = "its value or law, null for that of the benchmarks (prior wcdm)"


class LogNormalOptions(Options):
    """Options of the `lognormal` simulator.

    The prior `s8` is uniform and as wide as data alone decide; it leaves out values of S8 far from any
    survey's. The prior `wcdm` is that of the JADE and sbi_lens benchmarks.

    Sources, their density and dispersion are by default those of ten years of LSST (LSST DESC 2018,
    arXiv:1809.01669), as in these benchmarks. At the edge of the largest patch, ten degrees from its centre,
    a flat sky has distances wrong by 0.5 %.
    """

    size: int = pydantic.Field(default=32, ge=8, le=256, multiple_of=2, description="pixels a side")
    extent: float = pydantic.Field(default=10.0, ge=1.0, le=20.0, description="side of the patch in degrees")
    pixel_window: bool = pydantic.Field(
        default=True,
        description="whether a pixel holds the mean of the convergence over its area; false: mode k has the "
        "power C(k), without window and aliases, as in sbi_lens",
    )
    padding: int = pydantic.Field(
        default=1,
        ge=1,
        le=4,
        description="1: the patch is periodic; more: it is cut out of a periodic one so many times as wide",
    )
    prior: Literal["s8", "wcdm"] = pydantic.Field(
        default="s8",
        description="s8: Omega_m, S8 and w0, uniform; "
        "wcdm: omega_c, omega_b, sigma_8, h, n_s and w_0, normal",
    )
    omega_m: tuple[float, float] = pydantic.Field(
        default=(0.17, 0.47), description="range of the matter density Omega_m (prior s8)"
    )
    s8: tuple[float, float] = pydantic.Field(
        default=(0.6, 1.0), description="range of S8 = sigma_8 (Omega_m / 0.3)^0.5 (prior s8)"
    )
    w0: tuple[float, float] = pydantic.Field(
        default=(-1.8, -0.45), description="range of the equation of state w0 of dark energy (prior s8)"
    )
    omega_c: Cosmological = pydantic.Field(default=None, description=f"density of dark matter, {_OWN_LAW}")
    omega_b: Cosmological = pydantic.Field(default=None, description=f"density of baryons, {_OWN_LAW}")
    sigma_8: Cosmological = pydantic.Field(
        default=None, description=f"linear fluctuations in spheres of 8 Mpc/h today, {_OWN_LAW}"
    )
    h: Cosmological = pydantic.Field(default=None, description=f"Hubble constant / 100 km/s/Mpc, {_OWN_LAW}")
    n_s: Cosmological = pydantic.Field(default=None, description=f"primordial slope, {_OWN_LAW}")
    w_0: Cosmological = pydantic.Field(
        default=None, description=f"equation of state of dark energy, {_OWN_LAW}"
    )
    sources: SourceOptions = pydantic.Field(
        default=SourceOptions(), description="redshifts of the source galaxies, and their bins"
    )
    n_gal: Positive | tuple[Positive, ...] = pydantic.Field(
        default=27.0,
        description="source galaxies per square arcminute: of all bins together, split evenly, or one a bin",
    )
    sigma_e: Dispersion | tuple[Dispersion, ...] = pydantic.Field(
        default=0.26, description="ellipticity dispersion a component, one for all bins or one a bin"
    )
    field: Literal["lognormal", "gaussian"] = pydantic.Field(
        default="lognormal",
        description="law of the convergence; gaussian: of the same power, without a lower bound",
    )
    shift: Literal["hilbert2011", "tree-level"] | ShiftTable | Depth | tuple[Depth, ...] = pydantic.Field(
        default="hilbert2011",
        description="depth lambda of the field's lower bound -lambda: the fit of Hilbert et al. 2011 to "
        "ray-tracing, the tree-level skewness of the convergence, a table over cosmologies, or fixed values",
    )
    decorrelation: float = pydantic.Field(
        default=0.0,
        ge=0.0,
        le=0.1,
        description="fraction by which the correlation of the Gaussian fields of two bins is lowered, so "
        "that bins that overlap much can be log-normal together; each bin's own power stays",
    )
    observes: Literal["shear", "convergence"] = pydantic.Field(
        default="shear",
        description="what the survey sees: shear, noise in both components, or the convergence, noise once",
    )
    mask: StarMask | MaskFile | None = pydantic.Field(
        default=None, description="what hides galaxies: stars and an edge, or a file"
    )
    depth: VaryingDepth | DepthFile | None = pydantic.Field(
        default=None, description="how the density of galaxies varies over the patch: at random, or a file"
    )
    a_ia: Nuisance = pydantic.Field(
        default=0.0, description=f"amplitude A_IA of intrinsic alignments (NLA): {_FREE}"
    )
    eta_ia: Nuisance = pydantic.Field(
        default=0.0, description=f"slope of their growth with redshift, about z = 0.62: {_FREE}"
    )
    shear_bias: PerBin = pydantic.Field(
        default=0.0, description=f"multiplicative bias m of what is observed, for all bins or a list: {_FREE}"
    )
    photo_z_shift: PerBin = pydantic.Field(
        default=0.0,
        description=f"shift of a bin's redshifts, at most {MAX_PHOTO_Z_SHIFT:g} either way, for all bins or "
        f"a list: {_FREE}",
    )
    baryons: Nuisance | None = pydantic.Field(
        default=None,
        description="log10 of the temperature in K to which active galaxies heat gas (mead2020_feedback), "
        f"{LOG_T_AGN[0]:g} to {LOG_T_AGN[1]:g}; null: dark matter alone; {_FREE}",
    )
    wiener: bool = pydantic.Field(
        default=False, description="whether a Wiener map is a summary beside the Kaiser-Squires map"
    )
    quadratics: int = pydantic.Field(
        default=0,
        ge=0,
        le=32,
        description="how many quadratic forms of the shear, weighted by the inverse of its covariance, are a "
        "summary: near the prior's median 12 tell nearly all that spectra do, with a mask, too",
    )
