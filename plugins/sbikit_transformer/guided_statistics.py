"""What several channels of data look like together, as the guide sees them.

Each channel of data, a tomographic bin say, is mostly noise, and much of what is known of one is seen in the
others. The guide's mean of the field given the data is linear in all of them at once and keeps what is
signal, so its statistics tell more of the scalars than those of data maps do. Of one channel it would be the
data map again, with weights of its rings. Power and correlations of the data themselves in bands of wave
numbers, all that a Gaussian field has to tell, stand beside them, and a law that is linear in these says for
which scalars the guide is asked: what is signal depends on them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sbikit.fields import Rings, Scales
from sbikit.learning import Standardise
from sbikit_transformer.conditions import BANDS
from sbikit_transformer.data_posterior import LinearLaw
from sbikit_transformer.guide import Guide
from sbikit_transformer.normal import pairs

# Of scalars for which the guide is asked, in prior standard deviations: a line may leave the prior.
_EDGE = 3.0
_TINY = 1e-30  # keeps correlations of data that are zero everywhere finite


class GuidedStatistics(nn.Module):
    """Statistics at several scales of the guide's map of C channels, and of the data's power.

    Args:
        guide: whose map it is.
        scalars: P.
        grid: of the field.
        periodic: whether the grid closes on itself.
    """

    def __init__(self, guide: Guide, scalars: int, grid: tuple[int, ...], *, periodic: bool) -> None:
        super().__init__()
        self._guide = (guide,)  # in a tuple: its state is not that of this module
        self.scales = Scales(grid, periodic=periodic)
        self.bands = Rings.logarithmic(grid, tuple(map(float, grid)), BANDS)
        channels = guide.channels
        self.register_buffer("pairs", torch.triu_indices(channels, channels, offset=1), persistent=False)
        self.power_scale = Standardise(pairs(channels + 1) * len(self.bands))
        self.where = LinearLaw(scalars, len(self.power_scale.mean))
        self.scale = Standardise(self.scales.count(channels))

    pairs: Tensor

    @property
    def count(self) -> int:
        """How many statistics there are, S."""
        return len(self.power_scale.mean) + len(self.scale.mean)

    def fit_power(self, u: Tensor, power: Tensor) -> None:
        """Fit the scale of `power` (M, ...), and what it lets expect of scalars u (M, P), to simulations."""
        self.power_scale.fit(power)
        self.where.fit(u, self.power_scale(power))

    def of_map(self, modes: Tensor, power: Tensor) -> Tensor:
        """Statistics of the guide's map, not standardised by `scale` yet.

        Args:
            modes: what the guide is told of observations, (B, C, modes).
            power: of these, as `power` gives it.
        """
        (guide,) = self._guide
        u = self.where(self.power_scale(power)).mean.clamp(-_EDGE, _EDGE)
        return self.scales(guide.expected(u, modes, u[:, :0]).mean)

    def scaled(self, power: Tensor, of_map: Tensor) -> Tensor:
        """All statistics, standardised, (B, S)."""
        return torch.cat([self.power_scale(power), self.scale(of_map)], 1)

    def power(self, modes: Tensor) -> Tensor:
        """Of modes (B, C, modes) log power of each channel in bands, and correlations of each two; not
        standardised.
        """
        own, (one, other) = self.bands.power(modes, modes), self.pairs
        both = self.bands.power(modes[:, one], modes[:, other])
        correlations = both / ((own[:, one] * own[:, other]).sqrt() + _TINY)
        return torch.cat([self.bands.log_power(modes).flatten(1), correlations.flatten(1)], 1)
