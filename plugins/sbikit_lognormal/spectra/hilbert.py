"""The shift fitted to ray-tracing.

`Hilbert2011` is for comparison with the many papers that use it. Hilbert, Hartlap and Schneider (2011,
doi:10.1051/0004-6361/201117294) fitted the lower bound of the convergence in ray-tracing through the
Millennium simulation, for sources at one redshift z:

    lambda(z) = 0.008 z + 0.029 z^2 - 0.0079 z^3 + 0.00065 z^4

Here their value at the bin's mean redshift is carried to other cosmologies in proportion to the convergence
of an empty beam, -int du W_i(u), the lowest there can be.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit_lognormal.spectra.limber import Limber
from sbikit_lognormal.spectra.shifts import Shift

Array = NDArray[np.float64]

_MILLENNIUM = (0.205, 0.045, 0.9, 0.73, 1.0, -1.0)  # Springel et al. 2005, doi:10.1038/nature03597


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
        """See `Shift`."""
        return self._per_beam * self._empty_beam(cosmology)

    def _empty_beam(self, cosmology: Tensor) -> Tensor:
        """Minus the convergence of a line of sight without matter, (..., bins)."""
        return self._limber.integral(cosmology, self._limber.kernel(cosmology))


def hilbert2011(z: Array) -> Array:
    """The fitted lambda (...) of sources at redshift z (...) in the Millennium cosmology."""
    return np.asarray(z * (0.008 + z * (0.029 + z * (-0.0079 + z * 0.00065))))
