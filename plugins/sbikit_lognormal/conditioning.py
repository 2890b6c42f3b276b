"""What data say of each mode of one source bin, were the convergence as linear as it can be described.

See `density.ConditionedDensity`: with white modes w = K d + U u made of the data's numbers d and standard
normal numbers u, and modes m = R w of the Gaussian field G,

    R = S^1/2,   K = a = b S^1/2 / (P + sigma^2),   U = c^1/2,   c = 1 - b^2 S / (P + sigma^2),

where S is the power of G, P that of the convergence and b their regression.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sbikit_lognormal.field import Gaussian, RandomField, multiplicity


@dataclass(frozen=True)
class Conditioned:
    """The modes at some parameters.

    Args:
        gaussian: the Gaussian field; R is its root.
        known: K on the quadrant of modes, (..., 1, H, H).
        unknown: U, (..., 1, H, H).
        log_det: sum over the modes of log U, (...).
    """

    gaussian: Gaussian
    known: Tensor
    unknown: Tensor
    log_det: Tensor


class Conditioning:
    """From spectra and shift to the modes that data condition.

    Args:
        field: the law of the convergence, of one bin.
        variance: sigma^2 of a pixel of the data.
        mean_seen: whether the data tell the mean of the map, too; if not theirs is 0.
    """

    def __init__(self, field: RandomField, variance: float, *, mean_seen: bool, device: torch.device) -> None:
        self.field, self.variance, self.mean_seen = field, variance, mean_seen
        self._modes = torch.from_numpy(multiplicity(field.size)).to(device)
        self._seen = torch.ones_like(self._modes)
        self._seen[0, 0] = float(mean_seen)

    def __call__(self, spectra: Tensor, shift: Tensor) -> Conditioned:
        """The modes.

        Args:
            spectra: C(ell), (..., 1, n_ell), float64.
            shift: lambda, (..., 1), float64; without bound (..., 0).
        """
        gaussian, gain, power = self.field.regression(spectra, shift)
        root = gaussian.root
        seen = self._seen * gain[..., None, None] / (power + self.variance)
        left = 1.0 - gain[..., None, None] * root.square() * seen
        log_det = 0.5 * (self._modes * left.log()).sum((-3, -2, -1))
        return Conditioned(gaussian, root * seen, left.sqrt(), log_det)


def on_numbers(quadrant: Tensor) -> Tensor:
    """Real factors (..., H, H) of the modes as those of the numbers that make them, (..., N, N)."""
    parts = [1, quadrant.shape[-1] - 2, 1]
    first, inner, last = quadrant.split(parts, -1)
    columns = torch.cat([first, last, torch.stack([inner, inner], -1).flatten(-2)], -1)
    first, inner, last = columns.split(parts, -2)
    return torch.cat([first, inner, last, inner.flip(-2)], -2)


__all__ = ["Conditioned", "Conditioning", "on_numbers"]
