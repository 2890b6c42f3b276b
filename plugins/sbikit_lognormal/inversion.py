r"""Convergence maps made back from observed shear.

On the periodic box, D takes convergence to shear (see `lensing`), D^T back, and D^T D = 1 but for the mean.
M is 1 in observed pixels and 0 in masked ones and outside the patch, N the variance of the noise.

Kaiser-Squires with a mask looks for the E mode alone that agrees with the shear where there is any, the least
squares of M (gamma - D kappa), by Richardson's iteration from kappa = 0,

    kappa <- kappa + omega_i D^T M (gamma - D kappa).

omega = 1 fills the masked pixels with the shear of the map so far (Papoulis 1975, IEEE Trans. Circuits Syst.
22, 735). The iteration leaves prod_i (1 - omega_i mu) of what lies along an eigenvector
of D^T M D with eigenvalue mu in [0, 1]. The 1 / omega_i here are the Chebyshev nodes of [0.2, 1], stretched
to end in 1: modes that the mask spares have mu = 1, and the first step alone makes them exact. On maps of
64 x 64 pixels four such steps reach what ten of omega = 1 do, in signal and in noise; conjugate gradients
take as many, and their result is not linear in the shear. Stopping early is the regularisation: more steps
follow the signal further into the holes, and fill them with noise.

The Wiener map is the mean of a Gaussian field given the shear,

    kappa = (S^-1 + D^T N^-1 D)^-1 D^T N^-1 gamma,

S(k) being the matrix of the bins' power spectra and N^-1 = 0 where masked. With w the mean of N^-1 over the
box and T T^T = (S^-1 + w)^-1 in each mode, kappa = T u and

    [1 + T^T D^T (N^-1 - w) D T] u = T^T D^T N^-1 gamma.

The bracket is 1 where noise is homogeneous and nothing masked, u then is known at once; else conjugate
gradients solve for u in a fixed number of steps. S need not be invertible. The bracket is well conditioned on
a periodic patch with holes, less so where most of the box is empty, as it is around a patch in a padded one.
The messenger field (Elsner and Wandelt 2013, arXiv:1210.4931) is the fixed-point iteration
of the same equation with w = max N^-1: it needs twice the steps on the former and ten times on the latter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sbikit import SimulationError
from sbikit_lognormal.lensing import KaiserSquires
from sbikit_lognormal.survey import cut, embed

_STEPS = 4
_LOWEST = 0.2  # of the interval whose Chebyshev nodes are the steps
_ROUNDING = 1e-8  # an eigenvalue of S this far below 0, relative to the largest, is rounding


class _Shear:
    """Shear of convergence, from modes to pixels and back.

    Modes are those of rfft2 as real arrays (..., M, M+2), real and imaginary parts by turns along the last
    axis: all they are multiplied with is real.

    Args:
        size: pixels a side of the periodic box, even.
        dtype: precision.
        device: where to compute.
    """

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self.size = size
        point = torch.zeros(size, size, dtype=torch.float64)
        point[0, 0] = 1.0
        factors = torch.fft.rfft2(KaiserSquires(size, torch.float64).shear(point)).real
        self._factors = factors.repeat_interleave(2, -1).to(device, dtype)

    def pixels(self, modes: Tensor) -> Tensor:
        """Shear (..., 2, M, M) of modes of convergence (..., M, M+2)."""
        return self.maps(self._factors * modes.unsqueeze(-3))

    def modes(self, shear: Tensor) -> Tensor:
        """Modes of the E mode, (..., M, M+2), of shear (..., 2, M, M)."""
        one, two = torch.view_as_real(torch.fft.rfft2(shear)).flatten(-2).unbind(-3)
        return torch.addcmul(self._factors[0] * one, self._factors[1], two)

    def maps(self, modes: Tensor) -> Tensor:
        """Maps (..., M, M) of modes (..., M, M+2)."""
        paired = torch.view_as_complex(modes.unflatten(-1, (-1, 2)))
        return torch.fft.irfft2(paired, s=(self.size, self.size))


class MaskedKaiserSquires:
    """Kaiser-Squires that fills masked pixels with the E mode.

    Args:
        mask: (N, N), true where shear is observed.
        padding: side of the periodic box over that of the patch; 1 where the patch itself is periodic.
        dtype: precision of the maps.
        device: where to compute.
    """

    def __init__(
        self,
        mask: Tensor,
        padding: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self._patch = mask.shape[-1]
        self._shear = _Shear(self._patch * padding, dtype, device)
        self._mask = embed(mask.to(device, dtype), self._shear.size)
        self._complete = bool(self._mask.all())
        self._steps = [1.0] if self._complete else _richardson_steps()

    def convergence(self, shear: Tensor) -> Tensor:
        """Map (..., N, N), of mean 0, of shear (..., 2, N, N); its values in masked pixels do not matter."""
        observed = embed(shear, self._shear.size)
        if not self._complete:
            observed = torch.where(self._mask > 0, observed, 0.0)
        data = self._shear.modes(observed)
        modes = self._steps[0] * data
        for step in self._steps[1:]:
            modelled = self._shear.modes(self._mask * self._shear.pixels(modes))
            modes = modes + step * (data - modelled)
        kappa = cut(self._shear.maps(modes), self._patch)
        return kappa - kappa.mean((-2, -1), keepdim=True)


def _richardson_steps() -> list[float]:
    """omega_i, ascending from 1."""
    angles = [math.pi * (2 * i + 1) / (2 * _STEPS) for i in range(_STEPS)]
    nodes = [0.5 * (1 + _LOWEST) + 0.5 * (1 - _LOWEST) * math.cos(angle) for angle in angles]
    return [nodes[0] / node for node in nodes]


class WienerFilter:
    """The mean of a Gaussian convergence field given observed shear.

    Args:
        power: S, (pairs, M, M/2+1), float64: rfft2 of the correlation functions of the bins' pixelised maps
            on the periodic box, pairs in the order of `torch.tril_indices`.
        weight: 1 / variance of one shear component, (bins, N, N), 0 where masked; M is a multiple of N.
        iterations: conjugate gradient steps; none are made where the solution is known in closed form.
        dtype: precision of the maps.
        device: where to compute.

    Raises:
        SimulationError: no field has these power spectra.
    """

    def __init__(
        self,
        power: Tensor,
        weight: Tensor,
        iterations: int = 8,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self._patch = weight.shape[-1]
        self._shear = _Shear(power.shape[-2], dtype, device)
        full = embed(weight.double(), self._shear.size)
        mean = full.mean((-2, -1))
        excess = full - mean[:, None, None]
        homogeneous = bool((excess.abs() <= 1e-12 * mean[:, None, None]).all())
        self._iterations = 0 if homogeneous else iterations
        self._weight = full.to(device, dtype).unsqueeze(-3)
        self._excess = excess.to(device, dtype).unsqueeze(-3)
        root = _root_of_covariance(power, mean)
        self._root = root.repeat_interleave(2, -1).to(device, dtype)
        self._half_plane = torch.full((2 * power.shape[-1],), 2.0, dtype=dtype, device=device)
        self._half_plane[[0, 1, -2, -1]] = 1.0

    def convergence(self, shear: Tensor) -> Tensor:
        """Map (..., bins, N, N) of shear (..., bins, 2, N, N).

        Its mean over the periodic box is 0, and over the patch what its surroundings are expected to be.
        """
        observed = self._weight * embed(shear, self._shear.size)
        u = self._solve(self._turned(self._shear.modes(observed)))
        return cut(self._shear.maps(self._coloured(u)), self._patch).contiguous()

    def _solve(self, right: Tensor) -> Tensor:
        """u (..., bins, M, M+2) after the fixed number of conjugate gradient steps."""
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
        return u + self._turned(self._shear.modes(self._excess * self._shear.pixels(self._coloured(u))))

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
    """A matrix (bins, bins, M, M+2) in each mode times modes (..., bins, M, M+2)."""
    first, *others = zip(matrix.unbind(1), modes.unsqueeze(-3).unbind(-4), strict=True)
    total = first[0] * first[1]
    for column, bin_ in others:
        total = torch.addcmul(total, column, bin_)
    return total


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0: there is nothing left to solve."""
    return torch.where(b > 0, a / b.clamp(min=torch.finfo(b.dtype).tiny), 0.0)


def _root_of_covariance(power: Tensor, weight: Tensor) -> Tensor:
    """T of each mode, (bins, bins, M, M/2+1), float64.

    With L L^T = S and R R^T = 1 + L^T w L, T = L R^-T.

    Args:
        power: S, (pairs, M, M/2+1).
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


__all__ = ["MaskedKaiserSquires", "WienerFilter"]
