"""The shift lambda of the log-normal field: the depth below zero that the convergence cannot pass.

It is not given by the power spectrum. At small variance the skewness <kappa^3> / <kappa^2>^2 of the field is
3 / lambda, so choosing lambda is choosing how skewed the maps are. The choices are here, in hilbert.py,
tree_level.py and tabulated_shift.py; `Fixed` is one value a bin, for tests and for a shift known from
elsewhere.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from sbikit import OptionError


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
        """See `Shift`."""
        return self._values.expand(*cosmology.shape[:-1], -1)


class Unbounded(Shift):
    """None: a Gaussian field has no lower bound; lambda is (..., 0)."""

    needs_linear = False

    def __call__(self, cosmology: Tensor, log_linear: Tensor | None = None) -> Tensor:
        """See `Shift`."""
        return cosmology[..., :0]
