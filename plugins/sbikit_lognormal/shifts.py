"""The shift lambda of the log-normal field: the depth below zero that the convergence cannot pass.

It is not given by the power spectrum. At small variance the skewness <kappa^3> / <kappa^2>^2 of the field is
3 / lambda, so choosing lambda is choosing how skewed the maps are. The choices:

`Hilbert2011` is for comparison with the many papers that use it. Hilbert, Hartlap and Schneider (2011,
doi:10.1051/0004-6361/201117294) fitted the lower bound of the convergence in ray-tracing through the
Millennium simulation, for sources at one redshift z:

    lambda(z) = 0.008 z + 0.029 z^2 - 0.0079 z^3 + 0.00065 z^4

Here their value at the bin's mean redshift is carried to other cosmologies in proportion to the convergence
of an empty beam, -int du W_i(u), the lowest there can be.

`TreeLevel` is for maps whose skewness shall follow the cosmology: lambda makes the field as skewed as
perturbation theory does at lowest order, within a disc of radius theta. For a cylinder of matter (Bernardeau
1995, astro-ph/9502089; Friedrich et al. 2018, doi:10.1103/PhysRevD.98.023508), with p the linear power,

    V(z)      = int dell ell / (2 pi) p(z, ell) [2 J_1(ell theta) / (ell theta)]^2
    S_3(z)    = 36/7 + 3/2 dln V / dln theta
    <kappa^2> = int du W^2 / u^2 V
    <kappa^3> = int du W^3 / u^4 S_3 V^2
    lambda    = 3 <kappa^2>^2 / <kappa^3>

`Table` is for a shift known from elsewhere on a grid of Omega_m = Omega_c + Omega_b and sigma_8. It is
bilinear between the grid's points. Beyond the grid each coordinate is held at its first or last value, as by
jax's `map_coordinates(order=1, mode="nearest")`, so that the gradient is 0 there.

`Fixed` is one value a bin, for tests and for a shift known from elsewhere.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import jv
from torch import Tensor

from sbikit import OptionError
from sbikit_lognormal.limber import ELL, Limber

Array = NDArray[np.float64]

_MILLENNIUM = (0.205, 0.045, 0.9, 0.73, 1.0, -1.0)
_FINE_ELL = 20_000
_COLUMNS = ("Omega_m", "sigma_8", "lambda")


class Shift(ABC):
    """A rule for lambda."""

    needs_linear: ClassVar[bool]
    """Whether the linear matter power must be given."""

    @abstractmethod
    def __call__(self, cosmology: Tensor, log_linear: Tensor | None = None) -> Tensor:
        """lambda (..., bins), float64; (..., 0) where there is none.

        Args:
            cosmology: the six parameters (..., 6), float64.
            log_linear: log of the linear p(z, ell) at the redshifts and multipoles of limber.py,
                (..., n_z, n_ell); None where `needs_linear` is False.
        """


class Fixed(Shift):
    """The same lambda in every cosmology.

    Args:
        values: lambda of each bin.
        bins: how many bins there are.
        device: where to compute.

    Raises:
        OptionError: not one positive value a bin.
    """

    needs_linear = False

    def __init__(self, values: tuple[float, ...], bins: int, device: torch.device | str = "cpu") -> None:
        if len(values) != bins or not all(0.0 < value < math.inf for value in values):
            raise OptionError(
                "The shifts do not fit the bins.",
                where="shift",
                expected=f"{bins} positive number(s), one a bin",
                got=", ".join(f"{value:g}" for value in values) or "none",
                fix="give the depth of the lower bound of the convergence in each bin",
            )
        self._values = torch.tensor(values, dtype=torch.float64, device=device)

    def __call__(self, cosmology: Tensor, log_linear: Tensor | None = None) -> Tensor:
        return self._values.expand(*cosmology.shape[:-1], -1)


class Unbounded(Shift):
    """None: a Gaussian field has no lower bound; lambda is (..., 0)."""

    needs_linear = False

    def __call__(self, cosmology: Tensor, log_linear: Tensor | None = None) -> Tensor:
        return cosmology[..., :0]


class Table(Shift):
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
        i, x = _place(self._omega_m, cosmology[..., 0] + cosmology[..., 1])
        j, y = _place(self._sigma_8, cosmology[..., 2])
        low = torch.lerp(self._values[i, j], self._values[i, j + 1], y)
        high = torch.lerp(self._values[i + 1, j], self._values[i + 1, j + 1], y)
        return torch.lerp(low, high, x).unsqueeze(-1)


class Hilbert2011(Shift):
    """The fit to the Millennium simulation, carried to other cosmologies by the empty beam.

    Args:
        limber: the spectra of the bins, whose kernels and mean redshifts are used.
    """

    needs_linear = False

    def __init__(self, limber: Limber) -> None:
        self._limber = limber
        device = limber.z.device
        millennium = torch.tensor(_MILLENNIUM, dtype=torch.float64, device=device)
        fit = torch.from_numpy(hilbert2011(limber.sources.mean)).to(device)
        self._per_beam = fit / self._empty_beam(millennium)

    def __call__(self, cosmology: Tensor, log_linear: Tensor | None = None) -> Tensor:
        return self._per_beam * self._empty_beam(cosmology)

    def _empty_beam(self, cosmology: Tensor) -> Tensor:
        """Minus the convergence of a line of sight without matter, (..., bins)."""
        return self._limber.integral(cosmology, self._limber.kernel(cosmology))


class TreeLevel(Shift):
    """The lambda whose skewness is that of perturbation theory at tree level within a disc.

    Args:
        limber: the spectra of the bins, whose kernels are used.
        radius: radius theta of the disc in radians; `disc_of_pixel` gives that of a pixel's area.
    """

    needs_linear = True

    def __init__(self, limber: Limber, radius: float) -> None:
        self._limber = limber
        variance, slope = _disc_weights(radius)
        self._variance = torch.from_numpy(variance).to(limber.z.device)
        self._slope = torch.from_numpy(slope).to(limber.z.device)

    def __call__(self, cosmology: Tensor, log_linear: Tensor | None = None) -> Tensor:
        if log_linear is None:
            raise TypeError("the tree-level shift needs the linear matter power")
        power = log_linear.exp()
        variance, slope = power @ self._variance, power @ self._slope
        # S_3 V^2, with dln V / dln theta = slope / V.
        third = (36.0 / 7.0 * variance + 1.5 * slope) * variance
        u = self._limber.distance(cosmology).unsqueeze(-2)
        kernel = self._limber.kernel(cosmology)
        second_moment = self._limber.integral(cosmology, (kernel / u) ** 2 * variance.unsqueeze(-2))
        third_moment = self._limber.integral(cosmology, kernel**3 / u**4 * third.unsqueeze(-2))
        return 3.0 * second_moment**2 / third_moment


def hilbert2011(z: Array) -> Array:
    """The fitted lambda (...) of sources at redshift z (...) in the Millennium cosmology."""
    return np.asarray(z * (0.008 + z * (0.029 + z * (-0.0079 + z * 0.00065))))


def disc_of_pixel(side: float) -> float:
    """Radius of the disc that is as large as a square of this side, in the side's unit."""
    return side / math.sqrt(math.pi)


def _disc_weights(radius: float) -> tuple[Array, Array]:
    """Weights (n_ell,) that make V, and dV / dln theta, of p at the multipoles `ELL`.

    Between them ell^1.5 p is a cubic spline in log ell; p is left out below the first and above the last.
    """
    log_ell = np.linspace(math.log(ELL[0]), math.log(ELL[-1]), _FINE_ELL)
    ell = np.exp(log_ell)
    x = ell * radius
    window = 2.0 * jv(1, x) / x
    window_slope = -2.0 * jv(2, x)  # x dw/dx
    measure = np.full(_FINE_ELL, log_ell[1] - log_ell[0])
    measure[[0, -1]] *= 0.5
    basis = CubicSpline(np.log(ELL), np.diag(ELL**1.5))(log_ell)
    common = (measure * np.sqrt(ell) / (2.0 * math.pi))[:, None] * basis
    return np.asarray(window**2 @ common), np.asarray(2.0 * window * window_slope @ common)


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
    except (OSError, ValueError) as error:
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


__all__ = ["Fixed", "Hilbert2011", "Shift", "Table", "TreeLevel", "Unbounded", "disc_of_pixel", "hilbert2011"]
