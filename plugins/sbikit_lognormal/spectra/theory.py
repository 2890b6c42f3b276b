"""From the parameters of a draw to the spectra and shifts of its field: emulator, Limber sum and shift."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from sbikit_lognormal.cosmology import Parameters
from sbikit_lognormal.spectra.emulator import Emulator
from sbikit_lognormal.spectra.limber import Limber
from sbikit_lognormal.spectra.shifts import Shift


class Spectra(Protocol):
    """Spectra of the convergence and shifts of its field; differentiable, float64.

    Attributes:
        rows: parameter vectors that are best worked on at once.
    """

    rows: int

    def __call__(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """C_ij(ell) of shape (..., pairs, n_ell) and lambda_i of shape (..., bins), (..., 0) if unbounded.

        Args:
            theta: parameter vectors (..., D).
        """
        ...


class DirectSpectra:
    """The direct way.

    Args:
        parameters: what a parameter vector means.
        limber: the sources.
        shift: lambda.
        emulator: the matter power.
    """

    rows = 16  # 200 us a draw; fewer pay more for each operation, more need much memory for little

    def __init__(self, parameters: Parameters, limber: Limber, shift: Shift, emulator: Emulator) -> None:
        self.parameters, self.limber, self.shift, self.emulator = parameters, limber, shift, emulator

    def __call__(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """See `Spectra`."""
        cosmology = self.parameters.cosmology(theta)
        power = self.emulator.nonlinear(cosmology)
        log_t_agn = self.parameters.log_t_agn(theta)
        if log_t_agn is not None:
            power = power + self.emulator.feedback(cosmology, log_t_agn)
        spectra = self.limber(
            cosmology,
            power,
            photo_z_shift=self.parameters.photo_z_shift(theta),
            alignment=self.parameters.alignment(theta),
        )
        linear = self.emulator.linear(cosmology) if self.shift.needs_linear else None
        return spectra, self.shift(cosmology, linear)
