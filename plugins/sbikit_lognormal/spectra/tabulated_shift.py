"""The shift from a file.

It is known on a grid of Omega_m = Omega_c + Omega_b and sigma_8, and bilinear between the grid's points.
Beyond the grid each coordinate is held at its first or last value, as by jax's `map_coordinates(order=1,
mode="nearest")`, so that the gradient is 0 there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import OptionError
from sbikit_lognormal.spectra.shifts import Shift

Array = NDArray[np.float64]

_COLUMNS = ("Omega_m", "sigma_8", "lambda")


class TabulatedShift(Shift):
    """The lambda of one bin on a grid of cosmologies, bilinear between and constant beyond.

    Args:
        path: text; a first line `Omega_m, sigma_8, lambda`, then these three numbers for every point of the
            grid, in any order, commas between them.
        bins: how many bins there are.
        device: where to compute.

    Raises:
        OptionError: there are several bins, the file cannot be read, or it does not hold such a table.
    """

    needs_linear = False

    def __init__(self, path: Path, bins: int, device: torch.device | str = "cpu") -> None:
        if bins != 1:
            raise OptionError(
                "A table holds the shift of one bin.",
                where="simulator.shift.table",
                expected="1 source bin",
                got=str(bins),
                fix="choose one bin, or another shift",
            )
        omega_m, sigma_8, values = _read_table(path)
        self._omega_m = torch.from_numpy(omega_m).to(device)
        self._sigma_8 = torch.from_numpy(sigma_8).to(device)
        self._values = torch.from_numpy(values).to(device)

    def __call__(self, cosmology: Tensor, log_linear: Tensor | None = None) -> Tensor:
        """See `Shift`."""
        i, x = _place(self._omega_m, cosmology[..., 0] + cosmology[..., 1])
        j, y = _place(self._sigma_8, cosmology[..., 2])
        low = torch.lerp(self._values[i, j], self._values[i, j + 1], y)
        high = torch.lerp(self._values[i + 1, j], self._values[i + 1, j + 1], y)
        return torch.lerp(low, high, x).unsqueeze(-1)


def _place(nodes: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The interval (...) of ascending nodes in which x (...), held within them, lies, and how far along."""
    held = x.clamp(float(nodes[0]), float(nodes[-1]))
    i = (torch.searchsorted(nodes, held.detach().contiguous(), right=True) - 1).clamp(0, len(nodes) - 2)
    return i, (held - nodes[i]) / (nodes[i + 1] - nodes[i])


def _read_table(path: Path) -> tuple[Array, Array, Array]:
    """Ascending Omega_m (n,) and sigma_8 (m,), and lambda (n, m), of a file."""
    try:
        header, *lines = path.read_text(encoding="utf-8").strip().splitlines() or [""]
        rows = np.array([line.split(",") for line in lines if line.strip()], dtype=np.float64)
    # A file that is no table makes numpy raise by several classes.
    except Exception as error:
        raise _no_table(path, f"{type(error).__name__}: {error}") from error
    if [name.strip() for name in header.split(",")] != list(_COLUMNS):
        raise _no_table(path, f"a first line {header[:80]!r}")
    if rows.ndim != 2 or rows.shape[1] != len(_COLUMNS):
        raise _no_table(path, f"numbers of shape {rows.shape}")
    if not np.isfinite(rows).all() or not (rows[:, 2] > 0.0).all():
        raise _no_table(path, "values that are not finite, or a lambda that is not positive")
    omega_m, i = np.unique(rows[:, 0], return_inverse=True)
    sigma_8, j = np.unique(rows[:, 1], return_inverse=True)
    values = np.full((len(omega_m), len(sigma_8)), np.nan)
    values[i, j] = rows[:, 2]
    if min(values.shape) < 2 or len(rows) != values.size or np.isnan(values).any():
        raise _no_table(path, f"{len(rows)} rows of {len(omega_m)} Omega_m and {len(sigma_8)} sigma_8")
    return omega_m, sigma_8, values


def _no_table(path: Path, got: str) -> OptionError:
    return OptionError(
        f"The shift cannot be read from {path}.",
        where="simulator.shift.table",
        expected=f"a line `{', '.join(_COLUMNS)}`, then a row of three numbers for every pair of two or more "
        "Omega_m and two or more sigma_8, once each, lambda above 0",
        got=got,
        fix="check the path and the file's format",
    )
