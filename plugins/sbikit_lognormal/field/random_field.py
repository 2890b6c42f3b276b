"""What every law of the convergence is: Gaussian fields, and what is made of them.

White numbers z become Gaussian fields G of given power by a root in each mode (roots.py), and these the maps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit_lognormal.field.pixels import Pixels
from sbikit_lognormal.field.roots import mixed

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gaussian:
    """Gaussian fields, mode by mode.

    Args:
        root: U on the modes 0 <= k_y, k_x <= N/2, (..., pairs, H, H) with H = N/2 + 1; U_ji, j <= i, in the
            place of the pair (i, j).
        variance: v, (..., bins).
        shift: lambda, (..., bins); without bound (..., 0).
        lowest: the smallest pivot in any mode, in units of the bin's mean power, (...). Unless it is above
            zero no such field exists, and `root` holds no sense.
    """

    root: Tensor
    variance: Tensor
    shift: Tensor
    lowest: Tensor


@dataclass(frozen=True)
class LinearModes:
    """The modes of each bin as linear as they can be described, kappa_i = b_i G_i + rest.

    Args:
        gaussian: the Gaussian fields; of one bin its root is S^1/2.
        gain: b, (..., bins).
        power: P of the kappa_i on the quadrant, as S, (..., bins, H, H).
    """

    gaussian: Gaussian
    gain: Tensor
    power: Tensor


@dataclass(frozen=True, eq=False)
class RandomField(ABC):
    """Turns spectra and white numbers into convergence maps of correlated source bins.

    Everything is differentiable. Pairs of bins are in the order of a row-major lower triangle.

    Args:
        pixels: the patch.
        ell: multipoles (n_ell,) of the spectra, ascending.
        bins: source bins.
        dtype: precision of the maps and of the correlation functions.
        device: where to compute.
    """

    law: ClassVar[str]
    """What it is called."""
    bounded: ClassVar[bool]
    """Whether it has a lower bound, -lambda."""
    remedy: ClassVar[str]
    """What a user can do where no such field has the asked spectra."""

    pixels: Pixels
    ell: Array
    bins: int
    dtype: torch.dtype
    device: torch.device | str = "cpu"

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.pixels.size

    @cached_property
    def _autos(self) -> Tensor:
        """Which pairs are a bin with itself, (bins,)."""
        return torch.arange(self.bins, device=self.device).add(1).cumsum(0) - 1

    @abstractmethod
    def gaussian(self, spectra: Tensor, shift: Tensor) -> Gaussian:
        """The Gaussian fields behind convergences of these spectra.

        Args:
            spectra: C_ij(ell), (..., pairs, n_ell), float64.
            shift: lambda_i, (..., bins), float64; without bound (..., 0).
        """

    def convergence(self, white: Tensor, gaussian: Gaussian) -> Tensor:
        """The maps kappa_i, (..., bins, N, N).

        Args:
            white: rfft2 of maps of standard normal numbers, (..., bins, N, N/2+1), complex.
            gaussian: of the same leading shape.
        """
        return self.transform(mixed(white, gaussian.root), gaussian)

    @abstractmethod
    def transform(self, modes: Tensor, gaussian: Gaussian) -> Tensor:
        """The maps kappa_i, (..., bins, N, N), of the modes of G.

        Args:
            modes: rfft2 of the G_i, (..., bins, N, N/2+1), complex; overwritten.
            gaussian: of the same leading shape.
        """

    @abstractmethod
    def described(self, spectra: Tensor, shift: Tensor) -> LinearModes:
        """The best linear description of each bin alone.

        Args:
            spectra: C_ij(ell), (..., pairs, n_ell), float64.
            shift: lambda_i, (..., bins), float64; without bound (..., 0).
        """

    @abstractmethod
    def given_mean(self, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
        """What knowing the mean of G over the map makes of b and of the power of the other modes.

        Args:
            mean: of G, (...).
            sd: its standard deviation, (...).

        Returns:
            A and B, (...): b becomes A b and the power A^2 B P.
        """
