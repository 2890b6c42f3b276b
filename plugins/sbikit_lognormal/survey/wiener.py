r"""The Wiener map: the mean of a Gaussian convergence field given shear.

On the periodic box, D takes convergence to shear (lensing.py), D^T back, and D^T D = 1 but for the mean. With
S(k) the matrix of the bins' power spectra and N the variance of the noise, N^-1 = 0 where masked, the map is

    kappa = (S^-1 + D^T N^-1 D)^-1 D^T N^-1 gamma.

With w the mean of N^-1 over the box and T T^T = (S^-1 + w)^-1 in each mode, kappa = T u and

    [1 + T^T D^T (N^-1 - w) D T] u = T^T D^T N^-1 gamma.

The bracket is 1 where noise is homogeneous and nothing masked, u then is known at once; else conjugate
gradients solve for u in a fixed number of steps. S need not be invertible. The bracket is well conditioned on
a periodic patch with holes, less so where most of the box is empty, as it is around a patch in a padded one.
The messenger field (Elsner and Wandelt 2013, arXiv:1210.4931) is the fixed-point iteration
of the same equation with w = max N^-1: it needs twice the steps on the former and ten times on the latter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbikit import SimulationError
from sbikit_lognormal.survey.lensing import KaiserSquires
from sbikit_lognormal.survey.patch import cut, embed

ITERATIONS = 8
"""Conjugate gradient steps. On 64 x 64 masked pixels of uneven noise 4, 8 and 16 leave 6e-3, 5e-5 and 3e-9 of
the map's rms where the patch is periodic, and 0.06, 0.03 and 0.006 where it is padded; there 8 steps cost
0.2 % of the squared error of the map."""

_EVEN = 1e-12  # relative scatter of the weight that is rounding
_ROUNDING = 1e-8  # an eigenvalue of S this far below 0, relative to the largest, is rounding


class WienerFilter:
    """The mean of a Gaussian convergence field given observed shear.

    Args:
        lensing: of the periodic box, M x M pixels, in its precision and where it computes.
        power: S, (pairs, M, H), float64: rfft2 of the correlation functions of the bins' pixelised maps
            on the box, H = M // 2 + 1, pairs in the order of `torch.tril_indices`.
        weight: 1 / variance of one shear component, (bins, N, N), 0 where masked; M - N is even.
        iterations: conjugate gradient steps; none are made where the solution is known in closed form.

    Raises:
        SimulationError: no field has these power spectra.
    """

    def __init__(
        self, lensing: KaiserSquires, power: Tensor, weight: Tensor, iterations: int = ITERATIONS
    ) -> None:
        self._patch, self._lensing = weight.shape[-1], lensing
        dtype, device = lensing.dtype, lensing.device
        full = embed(weight.double(), self._lensing.size)
        mean = full.mean((-2, -1))
        excess = full - mean[:, None, None]
        homogeneous = bool((excess.abs() <= _EVEN * mean[:, None, None]).all())
        self._iterations = 0 if homogeneous else iterations
        self._weight = full.to(device, dtype).unsqueeze(-3)
        self._excess = excess.to(device, dtype).unsqueeze(-3)
        root = _root_of_covariance(power, mean)
        self._root = root.repeat_interleave(2, -1).to(device, dtype)
        self._half_plane = torch.full((2 * power.shape[-1],), 2.0, dtype=dtype, device=device)
        self._half_plane[:2] = 1.0
        if self._lensing.size % 2 == 0:
            self._half_plane[-2:] = 1.0

    def convergence(self, shear: Tensor) -> Tensor:
        """Map (..., bins, N, N) of shear (..., bins, 2, N, N).

        Its mean over the periodic box is 0, and over the patch what its surroundings are expected to be.
        """
        return self._map(self._modes(self._observed(shear)))

    def with_weighted(self, shear: Tensor) -> tuple[Tensor, Tensor]:
        """The map, and the modes D^T N^-1 (gamma - D kappa), (..., bins, M, 2H): the shear weighted by the
        inverse of its covariance.
        """
        observed = self._observed(shear)
        modes = self._modes(observed)
        left = observed - self._weight * self._lensing.shear_of_modes(modes)
        return self._map(modes), self._lensing.e_modes(left)

    def _observed(self, shear: Tensor) -> Tensor:
        """N^-1 gamma on the box."""
        return self._weight * embed(shear, self._lensing.size)

    def _modes(self, observed: Tensor) -> Tensor:
        """Those of kappa, (..., bins, M, 2H), of N^-1 gamma."""
        return self._coloured(self._solve(self._turned(self._lensing.e_modes(observed))))

    def _map(self, modes: Tensor) -> Tensor:
        return cut(self._lensing.maps(modes), self._patch).contiguous()

    def _solve(self, right: Tensor) -> Tensor:
        """u (..., bins, M, 2H) after the fixed number of conjugate gradient steps."""
        if not self._iterations:
            return right
        u, residual, direction = torch.zeros_like(right), right, right
        norm = self._inner(residual, residual)
        for _ in range(self._iterations):
            image = self._bracket(direction)
            length = _ratio(norm, self._inner(direction, image))
            u = u + length * direction
            residual = residual - length * image
            previous, norm = norm, self._inner(residual, residual)
            direction = residual + _ratio(norm, previous) * direction
        return u

    def _bracket(self, u: Tensor) -> Tensor:
        """[1 + T^T D^T (N^-1 - w) D T] u."""
        return u + self._turned(
            self._lensing.e_modes(self._excess * self._lensing.shear_of_modes(self._coloured(u)))
        )

    def _coloured(self, u: Tensor) -> Tensor:
        """T u."""
        return _product(self._root, u)

    def _turned(self, modes: Tensor) -> Tensor:
        """T^T times modes."""
        return _product(self._root.transpose(0, 1), modes)

    def _inner(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner product of real maps given by their modes, one for all bins, (..., 1, 1, 1)."""
        return (a * b * self._half_plane).sum((-3, -2, -1), keepdim=True)


def _product(matrix: Tensor, modes: Tensor) -> Tensor:
    """A matrix (bins, bins, M, 2H) in each mode times modes (..., bins, M, 2H)."""
    first, *others = zip(matrix.unbind(1), modes.unsqueeze(-3).unbind(-4), strict=True)
    total = first[0] * first[1]
    for column, bin_ in others:
        total = torch.addcmul(total, column, bin_)
    return total


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0: there is nothing left to solve."""
    return torch.where(b > 0, a / b.clamp(min=torch.finfo(b.dtype).tiny), 0.0)


def _root_of_covariance(power: Tensor, weight: Tensor) -> Tensor:
    """T of each mode, (bins, bins, M, H), float64.

    With L L^T = S and R R^T = 1 + L^T w L, T = L R^-T.

    Args:
        power: S, (pairs, M, H).
        weight: w, (bins,).
    """
    bins = len(weight)
    i, j = torch.tril_indices(bins, bins)
    matrix = power.new_zeros((*power.shape[1:], bins, bins), dtype=torch.float64, device="cpu")
    matrix[..., i, j] = matrix[..., j, i] = power.detach().to("cpu", torch.float64).movedim(0, -1)
    values, vectors = torch.linalg.eigh(matrix)
    if not bool((values >= -_ROUNDING * values.abs().amax()).all()):
        raise SimulationError(
            "No field has these power spectra.",
            where="power",
            expected="a matrix of the bins without negative eigenvalues in each mode",
            got=f"eigenvalues from {float(values.min()):.3g} to {float(values.max()):.3g}",
            fix="give the power spectra of one cosmology on the pixels of the box",
        )
    root = (vectors * values.clamp(min=0.0).sqrt().unsqueeze(-2)) @ vectors.mT
    capacity = torch.eye(bins, dtype=torch.float64) + root.mT @ (weight.cpu()[:, None] * root)
    coloured = torch.linalg.solve_triangular(torch.linalg.cholesky(capacity), root.mT, upper=False).mT
    return coloured.movedim((-2, -1), (0, 1)).contiguous()
