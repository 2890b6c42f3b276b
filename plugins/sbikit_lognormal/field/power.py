"""From spectra to the power of the pixelised convergences, mode by mode."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit_lognormal.field.pixels import Pixels, power_matrix
from sbikit_lognormal.field.quadrant import at_lags

Array = NDArray[np.float64]


class ModePower:
    """From spectra to the power S of the pixelised convergences, mode by mode.

    Args:
        pixels: the patch.
        ell: multipoles (n_ell,) of the spectra, ascending.
        dtype: precision.
        device: where to compute.
    """

    def __init__(
        self, pixels: Pixels, ell: Array, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self._dtype, self._half = dtype, pixels.size // 2 + 1
        matrix = (pixels.size / pixels.extent) ** 2 * power_matrix(pixels, ell).T
        self._matrix = torch.from_numpy(matrix).to(device, dtype)
        lags = pixels.lag_index[: self._half, : self._half]
        self._lags = torch.from_numpy(lags.ravel()).to(device)

    def __call__(self, spectra: Tensor) -> Tensor:
        """S = P N^2 / A, (..., pairs, H, H), on the modes 0 <= k_y, k_x <= N/2, H = N/2 + 1.

        It is rfft2 of the correlation functions, the variance of a mode of rfft2 of the maps over N^2.

        Args:
            spectra: C_ij(ell), (..., pairs, n_ell).
        """
        power = spectra.to(self._dtype) @ self._matrix
        return at_lags(power, self._lags, (self._half, self._half))
