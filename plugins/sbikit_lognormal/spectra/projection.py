"""The integrals over a source distribution that the Limber sum needs, as matrices made once.

A function of cosmology, z / u, is a polynomial in y (grid.py), so that each integral is a fixed matrix. The
matrices are Chebyshev series in the shift delta of the distribution.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import SimulationError
from sbikit_lognormal.chebyshev import polynomials
from sbikit_lognormal.options import MAX_PHOTO_Z_SHIFT, Z_MAX
from sbikit_lognormal.spectra.distributions import Sources
from sbikit_lognormal.spectra.grid import coefficients, panels, y_of_z

Array = NDArray[np.float64]

_MODES = 24  # polynomials that hold z / u; 12 made an error of 1e-3 in spectra, 16 of 1e-4, 20 none
SHIFT_TERMS = (24, 48, 96)
"""Terms of the series in delta, fewest first; of bins of a scatter of .05 (1 + z) 12 made 1.3e-4, 16 8e-5."""

# Width of a panel: four steps of a source distribution's table; smooth ones need but 0.1.
_KNOT_DISTANCE = 0.02


class Projection:
    """The three integrals over the distributions of some sources.

    Args:
        sources: the source distributions.
        at: redshifts from which on the integrals are wanted, (n,).
        device: where to compute.
    """

    def __init__(self, sources: Sources, at: Array, device: torch.device | str) -> None:
        self._sources, self._at, self._device = sources, at, device
        self._modes = torch.from_numpy(coefficients(_MODES)).to(device)
        self._unshifted = _Series([_shifted_matrices(sources, at, 0.0)], device)
        self._shifted: _Series | None = None

    def __call__(self, z_over_u: Tensor, photo_z_shift: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Integrals over n_i and n_i / u from z on, and n_i, each (..., bins, n).

        Args:
            z_over_u: z / u at the redshifts of grid.py, (..., n_z).
            photo_z_shift: delta of each bin, (..., bins).

        Raises:
            SimulationError: a shift delta is larger than `MAX_PHOTO_Z_SHIFT`.
        """
        modes = z_over_u @ self._modes
        if photo_z_shift is None:
            return self._unshifted(modes)
        _refuse_large(photo_z_shift)
        if self._shifted is None:
            self.resolve_shifts(SHIFT_TERMS[0])
        assert self._shifted is not None
        return self._shifted(modes, photo_z_shift / MAX_PHOTO_Z_SHIFT)

    def resolve_shifts(self, terms: int) -> None:
        """Make the series in the shift.

        Args:
            terms: of the series.
        """
        nodes = MAX_PHOTO_Z_SHIFT * np.cos(np.pi * (np.arange(terms) + 0.5) / terms)
        tables = [_shifted_matrices(self._sources, self._at, float(node)) for node in nodes]
        self._shifted = _Series(tables, self._device)


class _Series:
    """The three integrals over a source distribution, as Chebyshev series in its shift.

    Args:
        tables: what `_shifted_matrices` gives at the roots of the Chebyshev polynomial of their number.
        device: where to compute.
    """

    def __init__(self, tables: list[tuple[Array, Array, Array]], device: torch.device | str) -> None:
        size = len(tables)
        roots = np.pi * (np.arange(size) + 0.5) / size
        transform = np.cos(np.arange(size)[:, None] * roots) * (2.0 / size)
        transform[0] *= 0.5
        beyond, inverse, density = (
            torch.from_numpy(np.tensordot(transform, np.array(table), 1)).to(device)
            for table in zip(*tables, strict=True)
        )
        # (bins, terms, n_z), and (n_modes, bins * terms * n_z) for one product.
        self._beyond, self._density = beyond.transpose(0, 1), density.transpose(0, 1)
        self._shape = tuple(self._beyond.shape)
        self._inverse = inverse.permute(3, 1, 0, 2).flatten(1).contiguous()

    def __call__(self, modes: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The integrals, each (..., bins, n_z), of modes (..., n_modes) and shifts (..., bins) in -1 to 1."""
        inverse = (modes @ self._inverse).unflatten(-1, self._shape)
        if shift is None:
            return self._beyond[:, 0], inverse[..., 0, :], self._density[:, 0]
        series = polynomials(shift, self._shape[1]).unsqueeze(-2)
        return (
            (series @ self._beyond).squeeze(-2),
            (series @ inverse).squeeze(-2),
            (series @ self._density).squeeze(-2),
        )


def _refuse_large(photo_z_shift: Tensor) -> None:
    """The series holds within its range only."""
    largest = float(photo_z_shift.detach().abs().max()) if photo_z_shift.numel() else 0.0
    if not largest <= MAX_PHOTO_Z_SHIFT:
        raise SimulationError(
            "A photometric redshift shift is larger than the spectra are made for.",
            where="photo_z_shift",
            expected=f"between -{MAX_PHOTO_Z_SHIFT:g} and {MAX_PHOTO_Z_SHIFT:g}",
            got=f"{largest:.3g}",
            fix="narrow the prior of the shifts",
        )


def _shifted_matrices(sources: Sources, at: Array, shift: float) -> tuple[Array, Array, Array]:
    """The integrals over the distributions moved by `shift`.

    Args:
        sources: the source distributions.
        at: redshifts (n,).
        shift: how far they are moved.

    Returns:
        The integral of n_i from each redshift on (bins, n), the matrix from the modes of z/u to that of
        n_i / u (bins, n, n_modes), and n_i (bins, n).
    """
    moved = sources.moved(shift)
    even = np.arange(0.0, Z_MAX + _KNOT_DISTANCE, _KNOT_DISTANCE) + shift
    knots = even if sources.between == "cubic" else np.concatenate([even, moved.z])
    bounds = np.unique(np.concatenate([[0.0, Z_MAX], at, knots[(knots > 0.0) & (knots < Z_MAX)]]))
    z, measure = panels(bounds)
    number = moved.density(z) * measure
    modes = np.polynomial.legendre.legvander(y_of_z(z), _MODES - 1) / z[..., None]
    total = number.sum((-2, -1))
    _refuse_lost(total, shift)
    from_each = np.searchsorted(bounds, at)
    beyond = _sums_above(number.sum(-1)[..., None])[:, from_each, 0]
    inverse = _sums_above(np.einsum("bpk,pkm->bpm", number, modes))[:, from_each]
    return beyond / total[:, None], inverse / total[:, None, None], moved.density(at) / total[:, None]


def _sums_above(values: Array) -> Array:
    """Sums over each panel and those above, (bins, n_panels, n), of values a panel of the same shape."""
    return np.flip(np.flip(values, 1).cumsum(1), 1)


def _refuse_lost(number: Array, shift: float) -> None:
    """What a shift moves below redshift 0 is lost; something has to be left."""
    if (number > 0.0).all():
        return
    raise SimulationError(
        "A photometric redshift shift moves a bin out of the redshifts that are looked at.",
        where=f"photo_z_shift of bin {int(np.argmin(number)) + 1}",
        expected=f"galaxies between redshift 0 and {Z_MAX:g}",
        got=f"none after a shift of {shift:.3g}",
        fix="leave out photo_z_shift of this bin, or the bin",
    )
