"""From the rows of a table, or from source planes, to distributions that are straight between knots.

A row's redshift is a point, between which n(z) is straight, or the lower edge or the centre of a bin of a
histogram, in which n(z) is the same everywhere; a lone row is a source plane. Nothing is read at points of a
grid: what follows integrates over the cells between the knots, however narrow. A source plane at z_s is the
triangle over z_s (1 -+ 0.001), whose lensing differs from the plane's by 2 10^-7.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sbikit import OptionError
from sbikit_lognormal.options import HIGHEST_PLANE, LOWEST_PLANE, Z_MAX, Rows
from sbikit_lognormal.spectra.distributions import Sources
from sbikit_lognormal.spectra.source_files import read_distributions

Array = NDArray[np.float64]

_HALF_WIDTH = 1e-3  # of a source plane, relative to its redshift
_EVEN = 0.01  # scatter of distances between centres, relative to their mean, that rounded numbers may have


def read_sources(path: Path, rows: Rows = "points") -> Sources:
    """The distributions of a file; beyond its redshifts there are no galaxies.

    Args:
        path: .npz with `z` (n_z,) and `n_z` (bins, n_z) or (n_z,), or text with z in the first column.
        rows: what a row's redshift is.

    Raises:
        OptionError: the file cannot be read, or does not hold distributions.
    """
    z, n_z = read_distributions(path)
    highest = n_z.max(axis=-1, keepdims=True)
    n_z = n_z / np.where(highest > 0, highest, 1.0)
    if len(z) == 1:
        if rows == "lower-edges":
            raise _no_table(
                path, "two rows or more, where redshifts are lower edges", "one", "give the next edge"
            )
        if not (n_z > 0).all():
            raise _no_table(path, "galaxies in each bin", "no galaxies in one", "leave the empty bin out")
        return source_planes([float(z[0])] * len(n_z))
    z, n_z = _where_galaxies_are(path, *_knots(path, z, n_z, rows))
    number = np.asarray(np.trapezoid(n_z, z, axis=-1))
    return Sources(z, n_z / number[:, None], "linear")


def source_planes(redshifts: Sequence[float]) -> Sources:
    """Bins whose galaxies all lie at one redshift each.

    Raises:
        OptionError: there are none, or a redshift is out of range.
    """
    planes: Array = np.array(redshifts, dtype=np.float64)
    if not len(planes) or not ((planes >= LOWEST_PLANE) & (planes <= HIGHEST_PLANE)).all():
        raise OptionError(
            "Source planes cannot lie there.",
            where="simulator.sources",
            expected=f"redshifts from {LOWEST_PLANE:g} to {HIGHEST_PLANE:g}",
            got=", ".join(f"{z:g}" for z in planes) or "none",
            fix="move the planes: nearer ones see wave numbers beyond the matter power that is known",
        )
    low, high = planes * (1.0 - _HALF_WIDTH), planes * (1.0 + _HALF_WIDTH)
    z = np.unique(np.concatenate([low, planes, high]))
    height = 1.0 - np.abs(z - planes[:, None]) / (planes[:, None] * _HALF_WIDTH)
    n_z = np.where((z > low[:, None]) & (z < high[:, None]), np.clip(height, 0.0, None), 0.0)
    number = np.asarray(np.trapezoid(n_z, z, axis=-1))
    return Sources(z, n_z / number[:, None], "linear")


def _knots(path: Path, z: Array, n_z: Array, rows: Rows) -> tuple[Array, Array]:
    """Redshifts of the knots, two at each step of a histogram, and the values there."""
    if rows == "points":
        return z, n_z
    width = np.diff(z)
    if rows == "centres":
        if np.ptp(width) > _EVEN * width.mean():
            expected, got = "centres at even distances", f"distances from {width.min():g} to {width.max():g}"
            raise _no_table(path, expected, got, "give lower edges, from which the widths of bins are known")
        edges = np.append(z - 0.5 * width.mean(), z[-1] + 0.5 * width.mean())
    else:
        edges = np.append(z, z[-1] + width[-1])
    return np.repeat(edges, 2)[1:-1], np.repeat(n_z, 2, axis=-1)


def _where_galaxies_are(path: Path, z: Array, n_z: Array) -> tuple[Array, Array]:
    """The knots without those between which there are no galaxies at either end."""
    held = ((n_z[:, :-1] > 0) | (n_z[:, 1:] > 0)) & (np.diff(z) > 0)
    empty = np.flatnonzero(~held.any(-1))
    if len(empty):
        got = f"no galaxies in bin {empty[0] + 1} of {len(n_z)}"
        raise _no_table(path, "galaxies in each bin", got, "leave the empty bin out")
    cells = np.flatnonzero(held.any(0))
    first, last = int(cells[0]), int(cells[-1]) + 1
    if z[first] < 0 or z[last] > Z_MAX:
        raise _no_table(
            path,
            f"galaxies at redshifts between 0 and {Z_MAX:g}",
            f"galaxies between {z[first]:g} and {z[last]:g}",
            f"cut the table at 0 and {Z_MAX:g}",
        )
    return z[first : last + 1], n_z[:, first : last + 1]


def _no_table(path: Path, expected: str, got: str, fix: str) -> OptionError:
    return OptionError(
        "The file does not hold redshift distributions.", where=str(path), expected=expected, got=got, fix=fix
    )
