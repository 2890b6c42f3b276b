"""How far two Limber sums over the same sources differ, by a stand-in for the matter power.

How finely redshifts have to be taken is decided by the sources; of the power it matters only that it is
smooth. The stand-in grows as 1 / (1 + z) and has the slopes of matter,

    p(z, ell) = k / (1 + (k / k_0)^2)^1.25 / (1 + z)^2,     k = (ell + 1/2) / u,     k_0 = 60 H_0 / c.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sbikit_lognormal.spectra.grid import ELL, Z

REFERENCE = torch.tensor((0.2664, 0.0492, 0.831, 0.6727, 0.9645, -1.0), dtype=torch.float64)
"""The cosmology of the comparison, (6,)."""

_TURNOVER = 60.0  # k_0 in H_0 / c: 0.02 h/Mpc
_JUDGED = torch.from_numpy((ELL > 20.0) & (ELL < 2e4))  # the multipoles of a patch of pixels
_ALIGNED = (1.0, 0.0)  # A_IA and eta_IA


class Spectra(Protocol):
    """Spectra (..., pairs, n_ell) of the bins, as limber.py makes them."""

    bins: int

    def __call__(
        self,
        cosmology: Tensor,
        log_power: Tensor,
        *,
        photo_z_shift: Tensor | None = None,
        alignment: Tensor | None = None,
    ) -> Tensor:
        """See limber.py."""
        ...


def deviation(
    ours: Spectra, theirs: Spectra, u: Tensor, *, aligned: bool, shift: float | None = None
) -> float:
    """The largest difference of two sums, relative to the geometric mean of the two bins' own spectra.

    Args:
        ours: one of them.
        theirs: the other, which the difference is relative to.
        u: distances at the redshifts Z of the matter power in the cosmology `REFERENCE`, (n_z,).
        aligned: whether alignments are compared, too.
        shift: photometric shift of all bins in the first.

    Returns:
        It; infinite where it is not known.
    """
    power, cosmology = _stand_in(u.cpu()).to(u.device), REFERENCE.to(u.device)
    moved = None if shift is None else u.new_full((theirs.bins,), shift)
    errors = []
    for alignment in (None, u.new_tensor(_ALIGNED))[: 1 + aligned]:
        expected = theirs(cosmology, power, alignment=alignment)
        got = ours(cosmology, power, photo_z_shift=moved, alignment=alignment)
        errors.append(_largest((got - expected) / _own(expected, theirs.bins)))
    return max(errors)


def _own(spectra: Tensor, bins: int) -> Tensor:
    """sqrt(C_ii C_jj) of every pair, (pairs, n_ell)."""
    row, column = torch.tril_indices(bins, bins, device=spectra.device)
    own = spectra[row == column]
    return torch.sqrt(own[row] * own[column])


def _largest(errors: Tensor) -> float:
    """The largest modulus at the multipoles that are judged."""
    judged = errors[:, _JUDGED.to(errors.device)].abs()
    return float(judged.nan_to_num(nan=torch.inf).max())


def _stand_in(u: Tensor) -> Tensor:
    """log p at the redshifts Z and multipoles, (n_z, n_ell)."""
    k = (torch.from_numpy(ELL) + 0.5) / u[:, None]
    growth = torch.log1p(torch.from_numpy(Z))[:, None]
    return torch.log(k) - 1.25 * torch.log1p((k / _TURNOVER) ** 2) - 2.0 * growth
