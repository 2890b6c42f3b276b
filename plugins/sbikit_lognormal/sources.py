"""Redshift distributions of source galaxies, in tomographic bins.

All galaxies together follow Smail, Ellis and Fitchett (1994)

    n(z) ~ z^alpha exp(-(z / z0)^beta)

Bin i holds those whose photometric redshift lies between its two edges. Given z it is Gaussian about z with
standard deviation s (1 + z), and not negative (Amara and Refregier 2007,
doi:10.1111/j.1365-2966.2007.12271.x):

    n_i(z) ~ n(z) [erf((z - low_i) / t) - erf((z - high_i) / t)] / [1 + erf(z / t)],    t = sqrt(2) s (1 + z)

or the distributions are read from a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic
from numpy.typing import NDArray
from scipy.special import erf

from sbikit import OptionError, Options

Array = NDArray[np.float64]

Z_MAX = 5.0
"""The largest redshift of a source."""

_Z = np.linspace(0.0, Z_MAX, 1001)


@dataclass(frozen=True, eq=False)
class Sources:
    """Source distributions, normalised.

    Args:
        z: redshifts (n_z,), ascending from 0 to 5.
        n_z: distributions (bins, n_z), each of integral 1.
    """

    z: Array
    n_z: Array

    @property
    def bins(self) -> int:
        """How many tomographic bins there are."""
        return len(self.n_z)

    @cached_property
    def mean(self) -> Array:
        """Mean redshift of each bin, (bins,)."""
        return np.asarray(np.trapezoid(self.n_z * self.z, self.z, axis=-1))


class SourceOptions(Options):
    """Smail's distribution in bins of equal number or with given edges, or a table."""

    alpha: float = pydantic.Field(default=2.0, ge=0.5, le=5.0, description="n(z) ~ z^alpha exp(-(z/z0)^beta)")
    beta: float = pydantic.Field(default=0.68, ge=0.4, le=5.0, description="n(z) ~ z^alpha exp(-(z/z0)^beta)")
    z0: float = pydantic.Field(default=0.11, ge=0.02, le=2.0, description="n(z) ~ z^alpha exp(-(z/z0)^beta)")
    bins: int = pydantic.Field(
        default=1, ge=1, le=10, description="tomographic bins of equal number; one bin holds all galaxies"
    )
    edges: tuple[Annotated[float, pydantic.Field(ge=0.0, le=Z_MAX)], ...] | None = pydantic.Field(
        default=None, description="photometric redshifts that bound the bins, instead of `bins`"
    )
    photo_z: float = pydantic.Field(
        default=0.05, ge=0.005, le=0.5, description="photometric redshift scatter at z = 0; it grows as 1 + z"
    )
    table: Path | None = pydantic.Field(
        default=None,
        description="file of distributions, instead of all else: .npz with `z` (n_z,) and `n_z` (bins, n_z), "
        "or text with z in the first column and a column a bin",
    )


def sources(options: SourceOptions) -> Sources:
    """The distributions that the options describe.

    Raises:
        OptionError: options contradict each other, edges do not ascend, or the table is not one.
    """
    _refuse_contradictions(options)
    if options.table is not None:
        return read_sources(options.table)
    if options.edges is not None:
        return binned_sources(options.alpha, options.beta, options.z0, options.edges, options.photo_z)
    return equal_sources(options.alpha, options.beta, options.z0, options.bins, options.photo_z)


def equal_sources(alpha: float, beta: float, z0: float, bins: int, photo_z: float) -> Sources:
    """Bins of equal number; a single one holds all galaxies whatever their photometric redshift.

    Args:
        alpha: power of the redshift distribution.
        beta: power in its cut-off.
        z0: redshift of its cut-off.
        bins: tomographic bins.
        photo_z: scatter s of the photometric redshift.
    """
    total = _smail(alpha, beta, z0)
    if bins == 1:
        return Sources(_Z, _normalised(_Z, total[None, :]))
    return binned_sources(alpha, beta, z0, _equal_edges(total, bins), photo_z)


def binned_sources(alpha: float, beta: float, z0: float, edges: tuple[float, ...], photo_z: float) -> Sources:
    """Bins between given photometric redshifts (bins + 1 of them); the rest as in `equal_sources`.

    Raises:
        OptionError: the edges are fewer than two or do not ascend, or a bin is empty.
    """
    bounds = np.asarray(edges, dtype=np.float64)
    if len(bounds) < 2 or not (np.diff(bounds) > 0).all():
        raise OptionError(
            "These are no edges of redshift bins.",
            where="edges",
            expected="two or more redshifts in ascending order",
            got=", ".join(f"{edge:g}" for edge in edges) or "none",
            fix="give one more edge than there are bins, the lowest first",
        )
    t = np.sqrt(2.0) * photo_z * (1.0 + _Z)
    below = erf((_Z - bounds[:, None]) / t)
    binned = _smail(alpha, beta, z0) * (below[:-1] - below[1:]) / (1.0 + erf(_Z / t))
    return Sources(_Z, _normalised(_Z, binned))


def read_sources(path: Path) -> Sources:
    """The distributions of a file; between its redshifts they are linear, beyond them zero.

    Args:
        path: .npz with `z` (n_z,) and `n_z` (bins, n_z) or (n_z,), or text with z in the first column.

    Raises:
        OptionError: the file cannot be read, or does not hold distributions.
    """
    z, n_z = _read(path)
    _check_table(path, z, n_z)
    resampled = np.array([np.interp(_Z, z, row, left=0.0, right=0.0) for row in n_z])
    return Sources(_Z, _normalised(_Z, resampled))


def _smail(alpha: float, beta: float, z0: float) -> Array:
    """Smail's distribution on the grid, normalised, (n_z,)."""
    n_z = _Z**alpha * np.exp(-((_Z / z0) ** beta))
    return np.asarray(n_z / np.trapezoid(n_z, _Z))


def _equal_edges(total: Array, bins: int) -> tuple[float, ...]:
    """Redshifts between which equal numbers of galaxies lie."""
    share = np.concatenate([[0.0], np.cumsum(0.5 * (total[1:] + total[:-1]) * np.diff(_Z))])
    edges = np.interp(np.linspace(0.0, 1.0, bins + 1), share / share[-1], _Z)
    return tuple(edges.tolist())


def _normalised(z: Array, n_z: Array) -> Array:
    """Distributions (bins, n_z) of integral 1."""
    number = np.asarray(np.trapezoid(n_z, z, axis=-1))
    if not (number > 0).all():
        raise OptionError(
            "A redshift bin holds no galaxies.",
            where=f"bin {int(np.argmin(number)) + 1} of {len(number)}",
            expected=f"galaxies between redshift 0 and {Z_MAX:g}",
            got="none",
            fix="move the bin's edges to where there are galaxies, or leave the bin out",
        )
    return np.asarray(n_z / number[:, None])


def _refuse_contradictions(options: SourceOptions) -> None:
    """No option shall be without effect."""
    given = options.model_fields_set
    idle: set[str] = set()
    reason = ""
    if options.table is not None:
        idle, reason = given - {"table"}, "a table says all"
    elif options.edges is not None:
        idle, reason = given & {"bins"}, "the edges say how many bins there are"
    elif options.bins == 1:
        idle, reason = given & {"photo_z"}, "one bin holds all galaxies whatever their photometric redshift"
    idle = {name for name in idle if getattr(options, name) != type(options).model_fields[name].default}
    if idle:
        raise OptionError(
            "Options of the sources contradict each other.",
            where=", ".join(sorted(idle)),
            expected=f"left out: {reason}",
            got=", ".join(f"{name} = {getattr(options, name)}" for name in sorted(idle)),
            fix=f"leave out {', '.join(sorted(idle))}",
        )


def _read(path: Path) -> tuple[Array, Array]:
    """z (n_z,) and n_z (bins, n_z) as they stand in the file."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                z, n_z = file["z"], file["n_z"]
        else:
            columns = np.loadtxt(path, ndmin=2).T
            z, n_z = columns[0], columns[1:]
        return np.asarray(z, dtype=np.float64), np.atleast_2d(np.asarray(n_z, dtype=np.float64))
    except (OSError, ValueError, KeyError) as error:
        raise OptionError(
            "The redshift distributions cannot be read.",
            where=str(path),
            expected=".npz with arrays `z` and `n_z`, or text of numbers with z in the first column",
            got=f"{type(error).__name__}: {error}",
            fix="check the path and the file's format",
        ) from error


def _check_table(path: Path, z: Array, n_z: Array) -> None:
    """Refuse what are not distributions over redshift."""
    faults = [
        (
            z.ndim != 1 or n_z.ndim != 2 or len(z) < 2 or n_z.shape[-1:] != z.shape or not len(n_z),
            "z (n_z,) and n_z (bins, n_z)",
            f"z {z.shape} and n_z {n_z.shape}",
            "give one value of every bin at each redshift",
        ),
        (
            not (np.isfinite(z).all() and np.isfinite(n_z).all()),
            "finite numbers",
            "NaN or infinity",
            "take out the values that are not finite",
        ),
        (
            not bool((np.diff(z, axis=0) > 0).all()) or bool((z < 0).any()) or bool((z > Z_MAX).any()),
            f"redshifts ascending, between 0 and {Z_MAX:g}",
            f"{z.min(initial=0.0):g} to {z.max(initial=0.0):g}",
            f"sort the rows by redshift and cut them at {Z_MAX:g}",
        ),
        (
            bool((n_z < 0).any()),
            "no negative numbers of galaxies",
            f"{n_z.min(initial=0.0):g}",
            "set negative values to zero",
        ),
    ]
    for wrong, expected, got, fix in faults:
        if wrong:
            raise OptionError(
                "The file does not hold redshift distributions.",
                where=str(path),
                expected=expected,
                got=got,
                fix=fix,
            )


__all__ = [
    "Z_MAX",
    "SourceOptions",
    "Sources",
    "binned_sources",
    "equal_sources",
    "read_sources",
    "sources",
]
