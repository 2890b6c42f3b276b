"""What data say of the modes of several source bins, were the convergence as linear as it can be described.

In each mode the Gaussian fields have the covariance S = U U^T (field/roots.py), and data d of noise sigma^2
are taken for b G + noise of variance N = sigma^2 + P - b^2 S_ii in each bin, P being the power of its
convergence and b G the best linear description of that (`RandomField.described`). Then G given d has the
covariance

    F F^T = (S^-1 + D)^-1,   F = U C^-T upper triangular,   C C^T = 1 + U^T D U,   D = b^2 / N,

and is made of standard normal numbers u as

    G = F q,   q = u + F^T e,   e = h d,   h = b / N.

A log-normal field of which the mean is known is one of another shift (conditioning.py): the mode 0 is made
first, with b and P, and the others with A b and A^2 B P, of the A and B that its numbers give.

The white numbers w = U^-1 G have |w|^2 = |q|^2 - G^T D G, and log |dw / du| is - sum_modes log det C. Where
noise is not even, or pixels are masked, the same holds with any other numbers for sigma^2 and d: they choose
the coordinates, not the density.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sbikit_lognormal.field import LinearModes, RandomField, multiplicity


class ModeFactors(NamedTuple):
    """What coordinates are mixed by at some parameters, on the quadrant.

    Attributes:
        root: F, (..., pairs, H, H); F_ji, j <= i, in the place of the pair (i, j).
        response: h, (..., bins, H, H).
        precision: D, (..., bins, H, H).
        log_det: log |dw / du|, (...).
    """

    root: Tensor
    response: Tensor
    precision: Tensor
    log_det: Tensor


class JointConditioning:
    """How data condition the modes of several bins.

    Args:
        field: the law of the convergence.
        variance: sigma^2 of a pixel of each bin, (bins,).
        mean_seen: whether the data tell the mean of the maps, too.
        device: where to compute.
    """

    def __init__(
        self, field: RandomField, variance: Tensor, *, mean_seen: bool, device: torch.device
    ) -> None:
        self._field = field
        self._variance = variance.to(device, field.dtype)[:, None, None]
        self._times = torch.from_numpy(multiplicity(field.size)).to(device, field.dtype)
        self._seen = torch.ones_like(self._times)
        self._seen[0, 0] = float(mean_seen)
        self._others = torch.ones_like(self._times)
        self._others[0, 0] = 0.0

    def factors(self, modes: LinearModes, first: Tensor, data: Tensor) -> ModeFactors:
        """Those of modes with leading shape (...).

        Args:
            modes: what is known of them at some parameters.
            first: u of the mode 0, (..., bins).
            data: d of the mode 0, (..., bins).
        """
        root, gain = modes.gaussian.root, modes.gain[..., None, None]
        power = modes.power
        if self._field.bounded:
            amplitude, less = (one[..., None, None] for one in self._given_mean(modes, first, data))
            power = power * (1.0 + (amplitude.square() * less - 1.0) * self._others)
            gain = gain * (1.0 + (amplitude - 1.0) * self._others)
        return self._factors(root, gain, power, self._seen)

    def _given_mean(self, modes: LinearModes, first: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
        """A and B of each bin, (..., bins), of the numbers of the mode 0."""
        root, power = modes.gaussian.root[..., :1, :1], modes.power[..., :1, :1]
        made = self._factors(root, modes.gain[..., None, None], power, self._seen[:1, :1])
        known = made.response * data[..., None, None]
        mean = times_root(made.root, first[..., None, None] + times_transposed(made.root, known))
        sd = _powers(root).sqrt()
        return self._field.given_mean(*(one[..., 0, 0] / self._field.size for one in (mean, sd)))

    def _factors(self, root: Tensor, gain: Tensor, power: Tensor, seen: Tensor) -> ModeFactors:
        noise = self._variance
        if self._field.bounded:
            noise = noise + (power - gain.square() * _powers(root))
        response = gain * seen / noise
        precision = gain * response
        mixed, pivots = _mixed_root(_rows(root), precision.unbind(-3))
        times = self._times[: root.shape[-2], : root.shape[-1]]
        log_det = -(times * torch.stack(pivots, -3).log()).sum((-3, -2, -1))
        return ModeFactors(torch.stack(mixed, -3), response, precision, log_det)


def _powers(root: Tensor) -> Tensor:
    """S_jj of each bin, (..., bins, H, H), of U (..., pairs, H, H)."""
    rows = _rows(root)
    bins = range(len(rows))
    return torch.stack([torch.stack([rows[i][j].square() for i in bins[j:]]).sum(0) for j in bins], -3)


def _rows(root: Tensor) -> list[list[Tensor]]:
    """U_ji, j <= i, of U (..., pairs, *grid), as rows[i][j]."""
    pairs = iter(root.unbind(-3))
    bins = math.isqrt(2 * root.shape[-3])  # of n (n + 1) / 2 pairs
    return [[next(pairs) for _ in range(i + 1)] for i in range(bins)]


@dataclass(frozen=True)
class Known:
    """What coordinates know of data.

    Args:
        conditioning: how modes are conditioned.
        numbers: those of the data's modes as convergence, (B, bins, N, N).
    """

    conditioning: JointConditioning
    numbers: Tensor


def _mixed_root(rows: list[list[Tensor]], precision: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """F in the order of pairs, and the diagonal of C; of U_ji = rows[i][j] and D_j."""
    bins = range(len(rows))
    lower: list[list[Tensor]] = []  # C_ik = lower[i][k]
    for i in bins:
        weighted = [rows[i][j] * precision[j] for j in range(i + 1)]
        lower.append([])
        for k in range(i + 1):
            total = _products(weighted[: k + 1], rows[k])
            if k:
                total = total - _products(lower[i][:k], lower[k][:k])
            lower[i].append((total + 1.0).sqrt() if k == i else total / lower[k][k])
    mixed: list[list[Tensor]] = []  # F_ji = mixed[i][j]
    for i in bins:
        known = [
            rows[i][j] - _products(lower[i][j:i], [mixed[k][j] for k in range(j, i)]) if j < i else rows[i][i]
            for j in range(i + 1)
        ]
        mixed.append([entry / lower[i][i] for entry in known])
    return [entry for row in mixed for entry in row], [lower[i][i] for i in bins]


def times_root(root: Tensor, numbers: Tensor) -> Tensor:
    """F q, (..., bins, N, N).

    Args:
        root: F as factors of the numbers, (..., pairs, N, N).
        numbers: q, (..., bins, N, N).
    """
    rows, each = _rows(root), numbers.unbind(-3)
    bins = range(len(rows))
    return torch.stack([_products([rows[i][j] for i in bins[j:]], each[j:]) for j in bins], -3)


def times_transposed(root: Tensor, numbers: Tensor) -> Tensor:
    """F^T e, arguments as of `times_root`."""
    each = numbers.unbind(-3)
    return torch.stack([_products(row, each[: len(row)]) for row in _rows(root)], -3)


def _products(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """The sum of products, of one at least."""
    total = first[0] * second[0]
    for one, other in zip(first[1:], second[1:], strict=True):
        total = torch.addcmul(total, one, other)
    return total
