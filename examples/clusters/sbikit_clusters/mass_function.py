"""How many clusters of which mass there are (Press and Schechter 1974, doi:10.1086/152650).

With M in solar masses over h, M_8 the mass within 8 Mpc/h and a power law for the spread of density,

    dn / dlnM = sqrt(2 / pi) rho / M nu |dln sigma / dlnM| exp(-nu^2 / 2),
    nu = 1.686 / sigma(M),   sigma(M) = sigma_8 (M / M_8)^-0.28.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

VOLUME = 5e7
"""Of the survey, (Mpc/h)^3."""
EDGES = np.linspace(14.1, 15.1, 61) * math.log(10.0)
"""Of the bins of observed ln M."""
LIMIT, BLUR = 14.2 * math.log(10.0), 0.3
"""ln M of which half the clusters are found, and how blurred that is."""
SCATTER = 0.25
"""Of the observed ln M about the true one."""
LEAST, MOST = 13.0 * math.log(10.0), 16.0 * math.log(10.0)
"""Of the true ln M that is looked at: of smaller ones none is found in a bin."""

_DENSITY = 2.775e11  # of the universe at Omega_m = 1, solar masses h^2 over Mpc^3
_SLOPE, _COLLAPSE = 0.28, 1.686


def density(ln_mass: ArrayLike, omega_m: ArrayLike, sigma_8: ArrayLike) -> NDArray[np.float64]:
    """dn / dlnM in (h/Mpc)^3; the three broadcast."""
    ln_mass, omega_m, sigma_8 = (np.asarray(x, np.float64) for x in (ln_mass, omega_m, sigma_8))
    rho = _DENSITY * omega_m
    ln_8 = np.log(4.0 / 3.0 * math.pi * 8.0**3 * rho)
    nu = _COLLAPSE / sigma_8 * np.exp(_SLOPE * (ln_mass - ln_8))
    found: NDArray[np.float64] = (
        math.sqrt(2.0 / math.pi) * rho * np.exp(-ln_mass) * nu * _SLOPE * np.exp(-0.5 * nu**2)
    )
    return found
