r"""Quadratic forms of the shear that tell what spectra tell: the optimal quadratic estimator.

With S the power spectra of the bins, C = D S D^T + N the covariance of the shear, and S changing by A when
the parameters do, the score of a Gaussian likelihood is

    1/2 [v^T A v - tr(C^-1 D A D^T)],    v = D^T C^-1 gamma,

whatever mask and noise are (Tegmark 1997, doi:10.1103/PhysRevD.55.5895). The A here are the principal ways in
which spectra vary over the prior, C being taken at its median and orthogonality that of Fisher's matrix,
tr(C^-1 A C^-1 A'): the first few of these forms tell what a Gaussian field lets know near the median, and
much of it elsewhere. v comes from the Wiener map kappa, v = D^T N^-1 (gamma - D kappa).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LEAST_WEIGHT = 1e-12  # of a bin without galaxies, in units of the largest
# Of a way, in units of the first: below, it is rounding, and another one on another machine.
_LEAST_WAY = 1e-9


class Quadratics:
    """R quadratic forms of v, the modes of the shear weighted by the inverse of its covariance.

    Each is less what is expected of it and in units of its standard deviation, at the prior's median and for
    noise that is homogeneous and as heavy as it is on average; zero where spectra vary in fewer ways.

    Args:
        typical: S at the prior's median on the quadrant of modes, (pairs, H, H), float64, of M = 2 (H - 1)
            pixels a side; pairs in the order of `torch.tril_indices`.
        powers: S of parameters from the prior, with the response of the survey in it, (n, pairs, H, H).
        weight: mean over the box of 1 / variance of one shear component, (bins,).
        count: R, less than n.
        dtype: precision.
        device: where to compute.
    """

    def __init__(
        self,
        typical: Tensor,
        powers: Tensor,
        weight: Tensor,
        count: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        bins, half = len(weight), typical.shape[-1]
        typical, powers, weight = (part.detach().cpu().double() for part in (typical, powers, weight))
        first, second = torch.tril_indices(bins, bins)
        noise = weight.clamp_min(_LEAST_WEIGHT * float(weight.max())).reciprocal()
        root = torch.linalg.cholesky(_matrices(typical, bins) + torch.diag(noise))
        white = _matrices(powers - powers.mean(0), bins)  # (n, H, H, bins, bins)
        for _ in range(2):  # L^-1 S L^-T
            white = torch.linalg.solve_triangular(root, white.mT, upper=False)
        times = _times(half)[..., None, None]
        _, sizes, found = torch.linalg.svd((white * times.sqrt()).flatten(1), full_matrices=False)
        found = found[sizes > _LEAST_WAY * sizes[0]][:count]
        ways = torch.cat([found, found.new_zeros(count - len(found), found.shape[1])])
        white = ways.unflatten(1, white.shape[1:]) * times.clamp_min(1.0).rsqrt()
        trace = (white * times).diagonal(dim1=-2, dim2=-1).sum((1, 2, 3))
        white = torch.where(trace < 0, -1.0, 1.0)[:, None, None, None, None] * white  # more power is more
        self._expected = (trace.abs() * math.sqrt(0.5)).to(device, dtype)
        # Half the form, in units of sqrt(1/2), its standard deviation; rfft2 is not divided by M.
        forms = math.sqrt(0.5) * (root @ white @ root.mT) / (2 * (half - 1)) ** 2
        forms = forms[..., first, second].movedim(-1, 1)  # (R, pairs, H, H)
        forms[:, first != second] *= 2.0
        forms = torch.cat([forms, forms[:, :, 1:-1].flip(-2)], -2) * _of_half_plane(half)
        self._forms = forms.repeat_interleave(2, -1).flatten(1).T.contiguous().to(device, dtype)
        self._first, self._second = first.to(device), second.to(device)

    def __call__(self, v: Tensor) -> Tensor:
        """(B, R) of v (B, bins, M, 2H), modes as `KaiserSquires` has them."""
        products = v[:, self._first] * v[:, self._second]
        return products.flatten(1) @ self._forms - self._expected


def _matrices(power: Tensor, bins: int) -> Tensor:
    """Spectra (..., pairs, H, H) as matrices of the bins, (..., H, H, bins, bins)."""
    first, second = torch.tril_indices(bins, bins)
    found = power.new_zeros(*power.shape[:-3], *power.shape[-2:], bins, bins)
    found[..., first, second] = found[..., second, first] = power.movedim(-3, -1)
    return found


def _times(half: int) -> Tensor:
    """How often each mode of the quadrant stands in the whole plane, (H, H); shear has no mode zero."""
    axis = _of_half_plane(half)
    found = axis[:, None] * axis
    found[0, 0] = 0.0
    return found


def _of_half_plane(half: int) -> Tensor:
    """How often each mode of the last axis stands in the whole plane, (H,)."""
    axis = torch.full((half,), 2.0, dtype=torch.float64)
    axis[0] = axis[-1] = 1.0
    return axis
