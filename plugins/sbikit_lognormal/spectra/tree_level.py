"""The shift of perturbation theory.

`TreeLevel` is for maps whose skewness shall follow the cosmology: lambda makes the field as skewed as
perturbation theory does at lowest order, within a disc of radius theta. For a cylinder of matter (Bernardeau
1995, astro-ph/9502089; Friedrich et al. 2018, doi:10.1103/PhysRevD.98.023508), with p the linear power,

    V(z)      = int dell ell / (2 pi) p(z, ell) [2 J_1(ell theta) / (ell theta)]^2
    S_3(z)    = 36/7 + 3/2 dln V / dln theta
    <kappa^2> = int du W^2 / u^2 V
    <kappa^3> = int du W^3 / u^4 S_3 V^2
    lambda    = 3 <kappa^2>^2 / <kappa^3>
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import jv
from torch import Tensor

from sbikit_lognormal.spectra.grid import ELL
from sbikit_lognormal.spectra.limber import Limber
from sbikit_lognormal.spectra.shifts import Shift

Array = NDArray[np.float64]

# Points of the integral over ell; in pixels of 2.5 deg 1,000 are right to 1e-6, these to 3e-10.
_FINE_ELL = 20_000


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
        """See `Shift`; the linear power is needed."""
        if log_linear is None:
            raise TypeError("the tree-level shift needs the linear matter power")
        power = log_linear.exp()
        variance = self._limber.carried(power @ self._variance)
        slope = self._limber.carried(power @ self._slope)
        # S_3 V^2, with dln V / dln theta = slope / V.
        third = (36.0 / 7.0 * variance + 1.5 * slope) * variance
        u = self._limber.distance(cosmology).unsqueeze(-2)
        kernel = self._limber.kernel(cosmology)
        second_moment = self._limber.integral(cosmology, (kernel / u) ** 2 * variance.unsqueeze(-2))
        third_moment = self._limber.integral(cosmology, kernel**3 / u**4 * third.unsqueeze(-2))
        return 3.0 * second_moment**2 / third_moment


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
