"""Spectra of CAMB at cosmologies that no table was fitted to."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sbikit_lognormal.build.grids import Grids
from sbikit_lognormal.spectra import ELL, Limber, Z, equal_sources

Array = NDArray[np.float64]

PAPER_SOURCES = equal_sources(2.0, 0.68, 0.11, 5, 0.05)
"""The five bins of JADE and sbi_lens, whose spectra judge the emulator."""

JUDGED = (ELL >= 20) & (ELL <= 6000)
"""Multipoles that a survey uses; below Limber's sum is the larger error, above the halo model is."""


def held_out_spectra(grids: Grids) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Spectra of the paper's bins without and with feedback, each (n, pairs, n), for 20 <= ell <= 6000."""
    limber = Limber(PAPER_SOURCES)
    cosmology = grids.cosmology

    def spectra(log_power: Array) -> NDArray[np.float32]:
        power = torch.from_numpy(log_power.reshape(len(cosmology), len(Z), len(ELL)))
        return limber(cosmology, power).numpy()[..., JUDGED].astype(np.float32)

    return spectra(grids.nonlinear), spectra(grids.nonlinear + grids.feedback)
