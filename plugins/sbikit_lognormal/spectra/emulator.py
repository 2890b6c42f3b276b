"""The matter power of CAMB as a function of the cosmology that torch can differentiate.

Emulated is log p(z, ell), p = (h / D_H)^3 P(k = (ell + 1/2) / chi(z), z), on the fixed redshifts and
multipoles of the Limber sum: from it the spectra of any sources follow without another run of CAMB. Three
quantities have an emulator each (process.py): the non-linear power, the linear power and the ratio that
feedback makes. How they are fitted stands in `sbikit_lognormal.build`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbikit_lognormal.spectra.process import Process, inputs
from sbikit_lognormal.spectra.table import MatterTable, shipped_table


class Emulator:
    """Matter power on the Limber grid, differentiable in the cosmology, float64.

    Args:
        table: what was fitted; the shipped one if left out.
        device: where to compute.
    """

    def __init__(self, table: MatterTable | None = None, device: torch.device | str = "cpu") -> None:
        fits = (shipped_table() if table is None else table).fits
        self._processes = {name: Process(fit, device) for name, fit in fits.items()}

    def nonlinear(self, cosmology: Tensor) -> Tensor:
        """log p(z, ell), (..., n_z, n_ell), of the six parameters (..., 6)."""
        return self._processes["nonlinear"](inputs(cosmology))

    def linear(self, cosmology: Tensor) -> Tensor:
        """The same of the linear power."""
        return self._processes["linear"](inputs(cosmology))

    def feedback(self, cosmology: Tensor, log_t_agn: Tensor) -> Tensor:
        """log of the power with feedback over that without, (..., n_z, n_ell).

        Args:
            cosmology: the six parameters (..., 6).
            log_t_agn: log10 of the heating temperature in K (...).
        """
        return self._processes["feedback"](torch.cat([inputs(cosmology), log_t_agn[..., None]], -1))
