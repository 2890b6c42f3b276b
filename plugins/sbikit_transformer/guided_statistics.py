"""What several channels of data look like together, as the guide sees them.

Each channel of data, a tomographic bin say, is mostly noise, and much of what is known of one is seen in the
others. The guide's mean of the field given the data, with the scalars in the middle of their prior, is linear
in all of them at once and keeps what is signal, so its statistics tell more of the scalars than those of data
maps do. Of one channel it would be the data map again, with weights of its rings. Beside them stand power and
correlations of the data themselves in bands of wave numbers, all that a Gaussian field has to tell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sbikit.fields import Rings, Scales
from sbikit.learning import Standardise
from sbikit_transformer.guide import Guide
from sbikit_transformer.normal import pairs

_BANDS = 12  # of wave numbers, equal parts of log |k|
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
        self._scalars = scalars
        self.scales = Scales(grid, periodic=periodic)
        self.bands = Rings.logarithmic(grid, tuple(map(float, grid)), _BANDS)
        channels = guide.channels
        self.register_buffer("pairs", torch.triu_indices(channels, channels, offset=1), persistent=False)
        self.scale = Standardise(self.scales.count(channels) + pairs(channels + 1) * len(self.bands))

    pairs: Tensor

    def unscaled(self, modes: Tensor) -> Tensor:
        """Of what the guide is told of observations, (B, C, modes), statistics, (B, S), not standardised by
        `scale` yet.
        """
        (guide,) = self._guide
        middle = torch.zeros(len(modes), self._scalars, device=modes.device)
        expected = guide.expected(middle, modes, middle[:, :0]).mean
        return torch.cat([self.scales(expected), *self._power(modes)], 1)

    def _power(self, modes: Tensor) -> list[Tensor]:
        """Of modes (B, C, modes) log power of each channel in bands, and correlations of each two."""
        own, (one, other) = self.bands.power(modes, modes), self.pairs
        both = self.bands.power(modes[:, one], modes[:, other])
        correlations = both / ((own[:, one] * own[:, other]).sqrt() + _TINY)
        return [self.bands.log_power(modes).flatten(1), correlations.flatten(1)]
