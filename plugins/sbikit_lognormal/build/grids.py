"""CAMB runs on the grid of the Limber sum, and how much each place of it matters."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit_lognormal.build.matter import MatterPower
from sbikit_lognormal.cosmology import Cosmology, expansion
from sbikit_lognormal.spectra import ELL, WEIGHTS, Z

Array = NDArray[np.float64]

_PLANES = (
    0.3,
    0.7,
    1.5,
    4.9,
)  # redshifts of the source planes that weigh the grid: those of bins, and the last
_LEAST_WEIGHT = 3e-4  # the median is .04, a tenth of the places have less than this; 0 would let those go
_DISTANCES = 2001  # redshifts of the distance's integral, whose error is of the square of the step, .0025


class Grids(NamedTuple):
    """Runs on the Limber grid: inputs (n, 7) and each quantity (n, n_z n_ell)."""

    points: Array
    nonlinear: Array
    linear: Array
    feedback: Array

    @property
    def cosmology(self) -> Tensor:
        """The six parameters of each run, (n, 6)."""
        return torch.from_numpy(self.points[:, :6].copy())

    @classmethod
    def read(cls, files: list[Path]) -> Grids:
        """From the files of CAMB runs."""
        rows = []
        for file in files:
            power = MatterPower.load(file)
            rows.append(
                (
                    np.append(power.cosmology, power.log_t_agn),
                    power.nonlinear(ELL, Z).ravel(),
                    power.linear(ELL, Z).ravel(),
                    power.feedback(ELL, Z).ravel(),
                )
            )
        return cls(*(np.stack(column) for column in zip(*rows, strict=True)))

    def where(self, rows: NDArray[np.bool_]) -> Grids:
        """Some of the runs; a multiple of eight of them, as matrix products like it."""
        chosen = np.flatnonzero(rows)
        chosen = chosen[: len(chosen) // 8 * 8]
        return Grids(*(column[chosen] for column in self))

    def and_also(self, more: Grids) -> Grids:
        """These runs, then others."""
        return Grids(*(np.concatenate(pair) for pair in zip(self, more, strict=True)))


def grid_weights(cosmology: Tensor, log_power: Array) -> Array:
    """How much each place of the grid matters to the convergence of some source plane, (n_z n_ell,)."""
    z = torch.from_numpy(Z)
    fine = torch.linspace(0.0, float(Z[-1]), _DISTANCES, dtype=torch.float64)
    inverse = 1.0 / expansion(Cosmology.of(cosmology), fine)
    steps = 0.5 * (inverse[:, 1:] + inverse[:, :-1]) * (fine[1] - fine[0])
    chi = torch.cat([torch.zeros(len(cosmology), 1, dtype=torch.float64), steps.cumsum(1)], 1).numpy()
    u = np.stack([np.interp(Z, fine.numpy(), row) for row in chi])
    planes = np.stack([np.interp(_PLANES, fine.numpy(), row) for row in chi])
    kernel = (1 + Z) * np.clip(1.0 - u[:, None] / planes[:, :, None], 0.0, None)
    rate = WEIGHTS / expansion(Cosmology.of(cosmology), z).numpy()
    power = np.exp(log_power.reshape(len(u), 1, len(Z), len(ELL)))
    share = (rate[:, None] * kernel**2)[..., None] * power
    share /= share.sum(2, keepdims=True)
    return np.asarray(np.sqrt((share**2).mean(0).max(0)).ravel() + _LEAST_WEIGHT)
