"""Gaussian maps seen in white noise, mode by mode.

In units of its noise the data of source bin i is

    d_i = g_i kappa_i + n_i,      n white of unit variance,

with g_i(k) the gain, the same in all modes but perhaps the mean. Between modes nothing is correlated; with
S(k) the power of the bins, a matrix, and G = diag(g), the data of a mode has covariance C = 1 + G S G, so
that

    -2 log p(d | theta) = sum_k [log det C + d_k^H C^-1 d_k]

over all N x N modes of the plane: two conjugate modes are one complex number, which each of them counts half;
those that are their own conjugates are real and count themselves. C depends on the class of a mode alone,
0 <= k_1 <= k_2 <= N/2 by the symmetries of the square. So all that the parameters see of the data are the
sums of Re d_i d_j^* over the modes of each class.

A map of the posterior is made from one of the prior (Hoffman and Ribak 1991, doi:10.1086/186160): with kappa'
and n' drawn from theirs and d' = G kappa' + n',

    kappa = kappa' + S G C^-1 (d - d')

has the mean S G C^-1 d of Wiener (1949) and the covariance S - S G C^-1 G S, exactly. Where g = 0 it is
kappa'.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sbikit import SimulationError
from sbikit_lognormal.field import Pixels, white_modes

_ELEMENTS = (
    2**18
)  # numbers in an array that is worked on at once: 2 MiB, about a processor's second-level cache
# Parameter vectors at once, for the spectra's sake, whose emulator compares each with some 3,600 runs.
_MOST_ROWS = 256


class GaussianMaps:
    """The likelihood of the parameters and the posterior of the maps.

    Everything is float64 on the CPU, and what is returned for one observation does not depend on others.

    Args:
        size: pixels a side, N.
        bins: source bins.
        power: S of parameters (Q, D), (Q, pairs, H, H) on the modes 0 <= k_y, k_x <= N/2, H = N/2 + 1, in
            which a white map of unit variance has 1; pairs are those of `torch.tril_indices`.
        gain: g of parameters (Q, D), (Q, bins).
        mean_is_seen: whether the data has the mean of the maps, too: without, g = 0 at k = 0.
    """

    def __init__(
        self,
        size: int,
        bins: int,
        power: Callable[[Tensor], Tensor],
        gain: Callable[[Tensor], Tensor],
        *,
        mean_is_seen: bool,
    ) -> None:
        self.size, self.bins = size, bins
        self._power, self._gain = power, gain
        pixels = Pixels(size, 1.0)
        class_of = torch.from_numpy(pixels.lag_index)
        self._first, self._second = (torch.from_numpy(axis) for axis in pixels.lags)
        self._members = torch.bincount(class_of.flatten()).double()
        self._class_of = class_of[:, : size // 2 + 1].flatten()
        self._times = torch.full((size, size // 2 + 1), 2.0, dtype=torch.float64)
        self._times[:, :: size // 2] = 1.0
        self._seen = torch.ones_like(self._members)
        self._seen[0] = float(mean_is_seen)
        low = torch.tril_indices(bins, bins)
        self._pair_of = torch.zeros(bins, bins, dtype=torch.int64)
        self._pair_of[low[0], low[1]] = self._pair_of[low[1], low[0]] = torch.arange(low.shape[1])

    def statistics(self, data: Tensor) -> Tensor:
        """Sums of Re d_i d_j^* over the modes of each class, (B, bins, bins, K), of data (B, bins, N, N)."""
        sums = torch.zeros(len(data), self.bins, self.bins, len(self._members), dtype=torch.float64)
        for row, one in zip(sums, data, strict=True):
            self._add_products(row, one)
        return sums

    def _add_products(self, sums: Tensor, data: Tensor) -> None:
        modes = torch.fft.rfft2(data) / self.size
        cross = (modes[:, None] * modes.conj()).real * self._times
        sums.index_add_(-1, self._class_of, cross.flatten(-2))

    def log_likelihood(self, theta: Tensor, statistics: Tensor) -> Tensor:
        """log p(d | theta) but for a constant of the data, (B, Q).

        Args:
            theta: parameter vectors (Q, D), float64.
            statistics: (B, bins, bins, K).
        """
        flat = statistics.flatten(1)
        blocks = [self._log_likelihood(part, flat) for part in theta.split(self._rows())]
        return torch.cat(blocks, 1)

    def _log_likelihood(self, theta: Tensor, flat: Tensor) -> Tensor:
        inverse, log_det = _inverse(self._covariance(self._matrix(theta), self._response(theta)))
        constant = log_det @ self._members
        rows = inverse.flatten(1)
        found = torch.empty(len(flat), len(theta), dtype=torch.float64)
        # One product an observation: that with all at once is rounded otherwise in every batch.
        for row, one in zip(found, flat, strict=True):
            row.copy_(-0.5 * (constant + rows @ one))
        return found

    def draw(self, theta: Tensor, data: Tensor, source: torch.Generator) -> Tensor:
        """One map of the posterior for each parameter vector, (Q, bins, N, N).

        Args:
            theta: parameter vectors (Q, D), float64.
            data: (bins, N, N).
            source: where randomness comes from.

        Raises:
            SimulationError: the power is not positive in a mode.
        """
        modes = torch.fft.rfft2(data)
        return torch.cat([self._draw(part, modes, source) for part in theta.split(self._rows())])

    def _draw(self, theta: Tensor, data: Tensor, source: torch.Generator) -> Tensor:
        shape = (2, len(theta), self.bins, self.size, self.size)
        white = white_modes(torch.randn(shape, generator=source, dtype=torch.float64))
        power, response = self._matrix(theta), self._response(theta)
        inverse, _ = _inverse(self._covariance(power, response))
        wiener = (power * response[:, None]).unsqueeze(3).mul(inverse[:, None]).sum(2)
        prior = self._mixed(_root(power), white[0])
        surprise = data - (self._on_half_plane(response) * prior + white[1])
        return torch.fft.irfft2(prior + self._mixed(wiener, surprise), s=(self.size, self.size))

    def _rows(self) -> int:
        """Parameter vectors that are worked on at once."""
        return min(_MOST_ROWS, max(1, _ELEMENTS // (self.bins**2 * self.size**2)))

    def _matrix(self, theta: Tensor) -> Tensor:
        """S (Q, bins, bins, K) of parameters (Q, D)."""
        return self._power(theta)[..., self._first, self._second][:, self._pair_of]

    def _response(self, theta: Tensor) -> Tensor:
        """g (Q, bins, K) of parameters (Q, D)."""
        return self._gain(theta)[..., None] * self._seen

    def _covariance(self, power: Tensor, response: Tensor) -> Tensor:
        """C (Q, bins, bins, K) of S and g."""
        unit = torch.eye(self.bins, dtype=torch.float64)[..., None]
        return unit + response[:, :, None] * power * response[:, None]

    def _mixed(self, matrix: Tensor, modes: Tensor) -> Tensor:
        """The product of matrices (Q, bins, bins, K) and modes (Q, bins, N, H)."""
        return (self._on_half_plane(matrix) * modes[:, None]).sum(2)

    def _on_half_plane(self, values: Tensor) -> Tensor:
        """Values of classes (..., K) at the modes of an rfft2, (..., N, H)."""
        return values[..., self._class_of].unflatten(-1, (self.size, -1))


def _inverse(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse and log determinant (Q, K) of positive definite matrices (Q, b, b, K), by Gauss and Jordan."""
    swept = matrix.clone()
    log_det = torch.zeros_like(swept[:, 0, 0])
    for k in range(swept.shape[1]):
        pivot = swept[:, k, k].clone()
        log_det += pivot.log()
        column = swept[:, :, k].clone()
        column[:, k] = -1.0
        swept[:, :, k] = swept[:, k] = 0.0
        swept -= column[:, :, None] * (column / pivot[:, None])[:, None]
    return swept.neg_(), log_det


def _root(matrix: Tensor) -> Tensor:
    """A lower triangular L with L L^T the matrices (Q, b, b, K)."""
    root, failed = torch.linalg.cholesky_ex(matrix.movedim(-1, 1))
    if bool(failed.any()):
        raise SimulationError(
            "No Gaussian field has these spectra: the power of the bins in a mode is not positive.",
            where="the posterior of the maps",
            expected="positive power of all bins and of their combinations in every mode",
            got=f"{int((failed != 0).sum())} modes where it is not",
            fix="choose bins that overlap less, or narrow the prior",
        )
    return root.movedim(1, -1)
