r"""What the guide leaves out where data are missing.

The guide takes all pixels of a channel to be seen alike. Given data d and a noisy field x = y + sigma e it
expects W, with an error of covariance B^-1; of data alone it expects W_0, and m = W - W_0 is what the noisy
field tells. Where noise is independent from pixel to pixel, one without data lacks precision, and with what
pixels lack, H = diag(h), the field is

    W_0 + (B - H)^-1 (x - W_0) / sigma^2  =  W + B^-1 H m + B^-1 H B^-1 H m + ...

Here the field is taken to be

    W + B^-1 (H_1 m + H_2 B^-1 m / e^2),

with e the rms error of W. The guide has the precision of an average pixel, so one that is seen lacks less
than none. Pixels are of three kinds, missing, beside a missing one, and all others, and h is a number of each
kind and channel. Data may be maps made of others, whose noise is not known, so the h of each noise level are
those that leave simulations the least squared error. Where data tell nothing of a channel's mean, as shear
does not, its guess lacks nothing in missing pixels: that mean is left out of m and of what is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool1d, max_pool2d, max_pool3d

from sbikit import Monitor, Simulator, SupportsMasks, supports
from sbikit.fields import Rings
from sbikit.learning import LeastSquares
from sbikit_transformer.grids import Grids
from sbikit_transformer.levels import between
from sbikit_transformer.linear_model import applied

# Noise levels, ln sigma, at which h is found: it changes slowly with them, and is taken linearly between.
_FIRST, _LAST, _LEVELS = -3.0, 5.0, 17
_TERMS = 2
# Share of the variance of a channel's mean that data tell at least where it is kept: maps made of shear tell
# next to nothing of it, maps of the field itself nearly all.
_LEAST_TOLD = 0.5
_RIDGE = 1e-6  # of the unknowns' own squares: keeps the solution finite where a kind has few pixels


@dataclass(frozen=True)
class Guessed:
    """What the guide expects of simulations at a level of noise.

    Args:
        moved: modes of m, (B, C, modes).
        covariance: B^-1 of each ring, (B, rings, C, C).
        error: e, (B, C).
        left: modes of y - W, (B, C, modes).
    """

    moved: Tensor
    covariance: Tensor
    error: Tensor
    left: Tensor


def missing(simulator: Simulator, grids: Grids) -> Tensor | None:
    """The share of the masked fields that misses a pixel of the network's grid, (*grid); None where nothing
    is missing. Fields that have no place there are left out.
    """
    if not supports(simulator, SupportsMasks):
        return None
    shares = []
    for name, mask in simulator.masks().items():
        found = grids.maps(name, (~mask.cpu()).float()[None])
        if found is not None:
            shares.append(found[0, : len(mask)])  # the means of blocks
    if not shares:
        return None
    share = torch.cat(shares).mean(0)
    return share if bool(share.any()) else None


class Missing(nn.Module):
    """What the guide's field lacks. Build empty, then `fit`, or load its state.

    Args:
        share: of what is observed, that misses a pixel, (*grid).
        channels: C.
        rings: of the grid.
    """

    kinds: Tensor
    lack: Tensor
    levels: Tensor
    with_mean: Tensor

    def __init__(self, share: Tensor, channels: int, rings: Rings) -> None:
        super().__init__()
        self.rings, self._axes = rings, share.ndim
        pool = (max_pool1d, max_pool2d, max_pool3d)[share.ndim - 1]
        near = pool(share[None, None], 3, stride=1, padding=1)[0, 0]
        kinds = torch.stack([share, near - share, 1.0 - near])
        self.register_buffer("kinds", kinds[kinds.flatten(1).any(1)], persistent=False)
        levels = torch.linspace(_FIRST, _LAST, _LEVELS)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("with_mean", torch.ones(channels, dtype=torch.bool))
        self.register_buffer("lack", torch.zeros(_TERMS, _LEVELS, len(self.kinds), channels))

    def forward(self, moved: Tensor, covariance: Tensor, error: Tensor, log_sigma: Tensor) -> Tensor:
        """What is to be added to the modes of the guide's field, (B, C, modes).

        Args:
            moved: modes of m, (B, C, modes).
            covariance: B^-1 of each ring, (B, rings, C, C).
            error: e, (B, C).
            log_sigma: of the noise, (B,).
        """
        below, share = between(log_sigma, self.levels)
        lack = torch.lerp(self.lack[:, below], self.lack[:, below + 1], share[:, None, None])
        precision = torch.tensordot(lack.transpose(0, 1).mT, self.kinds, dims=1)
        lacked = (precision * self._terms(moved, covariance, error)).sum(1)
        return self._kept(applied(covariance, self.rings.transform(lacked), self.rings))

    def fit(self, told: Tensor, guesses: Callable[[float], Iterable[Guessed]], monitor: Monitor) -> None:
        """Fit h.

        Args:
            told: share of the variance of each channel's mean that data tell, (C,).
            guesses: of simulations, in parts, at a noise level ln sigma.
            monitor: is told how far it is.
        """
        self.with_mean.copy_(told > _LEAST_TOLD)
        with monitor.progress("fitting what masks hide", _LEVELS) as advance:
            for level, log_sigma in enumerate(self.levels.tolist()):
                found, unit = LeastSquares(_RIDGE), torch.zeros(0)
                for guess in guesses(log_sigma):
                    # In units of the precision that the guide has, as it is found in the first part.
                    unit = unit if len(unit) else guess.error.square().mean(0)
                    found.add(*self._rows(guess, unit))
                lack = found.solution().view(_TERMS, len(self.kinds), -1) / unit
                self.lack[:, level] = lack.to(self.lack.dtype)
                advance(1)

    def _rows(self, guess: Guessed, unit: Tensor) -> tuple[Tensor, Tensor]:
        """What a term does to a mode where h of one kind and channel is 1 / unit, and what is left of the
        mode, in units of e: (rows, terms kinds C) and (rows, 1), float64.
        """
        terms = self._terms(guess.moved, guess.covariance, guess.error) / unit.view(-1, *[1] * self._axes)
        modes = self.rings.transform(self.kinds[:, None] * terms[:, :, None]).flatten(1, 2)
        gain = guess.covariance[:, self.rings.index]
        weight = self._kept(self.rings.weight.double().sqrt() / guess.error[..., None])
        told = torch.einsum("bmck,brkm,bcm->bcmrk", gain.to(modes.dtype), modes, weight.to(modes.dtype))
        rows = torch.view_as_real(told.flatten(3)).transpose(-1, -2).flatten(0, 3)
        left = torch.view_as_real(guess.left * weight).flatten()[:, None]
        return rows.double(), left.double()

    def _terms(self, moved: Tensor, covariance: Tensor, error: Tensor) -> Tensor:
        """m, and B^-1 m / e^2, (B, terms, C, *grid)."""
        kept = self._kept(moved)
        further = applied(covariance, kept / error.square()[..., None], self.rings)
        return self.rings.inverse(torch.stack([kept, further], 1))

    def _kept(self, modes: Tensor) -> Tensor:
        """Modes (B, C, modes) without the means of which data tell nothing."""
        lost = (self.rings.index == 0) & ~self.with_mean[:, None]
        return modes.masked_fill(lost, 0.0)
