"""Redshift distributions of source galaxies, in tomographic bins.

All galaxies together follow Smail, Ellis and Fitchett (1994)

    n(z) ~ z^alpha exp(-(z / z0)^beta)

Bin i holds those whose photometric redshift lies between its two edges. Given z it is Gaussian about z with
standard deviation s (1 + z), and not negative (Amara and Refregier 2007,
doi:10.1111/j.1365-2966.2007.12271.x):

    n_i(z) ~ n(z) [erf((z - low_i) / t) - erf((z - high_i) / t)] / [1 + erf(z / t)],    t = sqrt(2) s (1 + z)

or the distributions are read from a file, or are source planes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from sbikit import OptionError
from sbikit_lognormal.options import Z_MAX, SourceOptions
from sbikit_lognormal.spectra.distributions import Sources
from sbikit_lognormal.spectra.source_tables import read_sources, source_planes

Array = NDArray[np.float64]

_Z = np.linspace(0.0, Z_MAX, 1001)  # steps as wide as the narrowest photometric scatter that may be asked for


def make_sources(options: SourceOptions) -> Sources:
    """The distributions that the options describe.

    Raises:
        OptionError: options contradict each other, edges do not ascend, or the table is not one.
    """
    _refuse_contradictions(options)
    if options.table is not None:
        return read_sources(options.table, options.rows)
    if options.planes is not None:
        return source_planes(options.planes)
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
        idle, reason = given - {"table", "rows"}, "a table says all"
    elif options.planes is not None:
        idle, reason = given - {"planes"}, "planes say all"
    elif options.edges is not None:
        idle, reason = (
            given & {"bins", "rows"},
            "the edges say how many bins there are, and there is no table",
        )
    elif options.bins == 1:
        idle, reason = (
            given & {"photo_z", "rows"},
            "one bin holds all galaxies whatever their photometric redshift",
        )
    else:
        idle, reason = given & {"rows"}, "there is no table"
    idle = {name for name in idle if getattr(options, name) != type(options).model_fields[name].default}
    if idle:
        raise OptionError(
            "Options of the sources contradict each other.",
            where=", ".join(sorted(idle)),
            expected=f"left out: {reason}",
            got=", ".join(f"{name} = {getattr(options, name)}" for name in sorted(idle)),
            fix=f"leave out {', '.join(sorted(idle))}",
        )
