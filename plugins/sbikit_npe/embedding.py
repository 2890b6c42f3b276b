"""The embedding net: observed fields, their summaries and observed vectors to one context vector.

Fields on one grid are channels of one image, standardised. A convolutional net with circular padding halves
the grid until 4 pixels are left; the spatial means of all its scales are the features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sbikit import Simulator, Spec, UnsupportedError, Values
from sbikit.learning import Standardise, seen_by_networks

# Pixels a side where halving ends: a layer of 3 pixels with circular padding still sees all of it. More
# would leave out the largest scales, fewer add a layer that sees what the last one saw.
_SMALLEST_GRID = 4
_CONVOLUTIONS: tuple[type[nn.Conv1d | nn.Conv2d | nn.Conv3d], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_POOLS = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)


@dataclass(frozen=True)
class Input:
    """One variable that the net sees: (D,) for a vector, (C, *grid) for a field."""

    name: str
    shape: tuple[int, ...]


class Reader:
    """Packs what was observed, and its summaries, into one row an observation.

    Args:
        simulator: may know summaries.
        spec: names the observed variables.
    """

    def __init__(self, simulator: Simulator, spec: Spec) -> None:
        self._simulator = simulator
        self._spec = spec

    def inputs(self, observation: Values) -> tuple[Input, ...]:
        """What there is to see in observations (B, *shape)."""
        return tuple(Input(name, tuple(value.shape[1:])) for name, value in self._seen(observation).items())

    def rows(self, observation: Values) -> Tensor:
        """Observations (B, *shape) as rows (B, P)."""
        return torch.cat([value.flatten(1) for value in self._seen(observation).values()], 1)

    def _seen(self, observation: Values) -> dict[str, Tensor]:
        return seen_by_networks(self._simulator, self._spec, observation)


class Embedding(nn.Module):
    """Rows (B, P) of a `Reader` to contexts (B, width).

    Args:
        inputs: what a row holds, in order.
        channels: channels of the convolutions.
        width: size of the context.
    """

    def __init__(self, inputs: tuple[Input, ...], channels: int, width: int) -> None:
        super().__init__()
        self._inputs = inputs
        vectors = [i for i in inputs if len(i.shape) == 1]
        grids = sorted({i.shape[1:] for i in inputs if len(i.shape) > 1})
        self._groups = [[i for i in inputs if i.shape[1:] == grid and len(i.shape) > 1] for grid in grids]
        self._vectors = vectors
        self.scales = nn.ModuleList(
            [Standardise(sum(i.shape[0] for i in group)) for group in [*self._groups, vectors] if group]
        )
        self.images = nn.ModuleList(
            [
                PooledConvolutions(grid, sum(i.shape[0] for i in group), channels)
                for grid, group in zip(grids, self._groups, strict=True)
            ]
        )
        features = sum(i.shape[0] for i in vectors)
        features += sum(image.features for image in self.images)  # type: ignore[misc]
        self.features = Standardise(features)
        self.head = nn.Sequential(
            nn.Linear(features, 2 * width), nn.SiLU(), nn.Linear(2 * width, width), nn.SiLU()
        )

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.features(self._pool(rows)))

    @torch.no_grad()
    def fit_scales(self, rows: Tensor) -> None:
        """Set all scales from training rows (M, P)."""
        for scale, value in zip(self.scales, self._split(rows), strict=True):
            scale.fit(value)  # type: ignore[operator]
        self.features.fit(self._pool(rows))

    def _split(self, rows: Tensor) -> list[Tensor]:
        """One tensor (B, C, *grid) a grid, then the vectors (B, D) if there are any."""
        pieces = rows.split([math.prod(i.shape) for i in self._inputs], -1)
        values = {i: piece.unflatten(-1, i.shape) for i, piece in zip(self._inputs, pieces, strict=True)}
        groups = [*self._groups, self._vectors]
        return [torch.cat([values[i] for i in group], 1) for group in groups if group]

    def _pool(self, rows: Tensor) -> Tensor:
        scaled = [scale(value) for scale, value in zip(self.scales, self._split(rows), strict=True)]
        pooled = [image(value) for image, value in zip(self.images, scaled, strict=False)]
        return torch.cat([*pooled, *scaled[len(pooled) :]], 1)


class PooledConvolutions(nn.Module):
    """A field (B, C, *grid) to the spatial means of convolutional features at every scale (B, features)."""

    def __init__(self, grid: tuple[int, ...], in_channels: int, channels: int) -> None:
        super().__init__()
        if len(grid) > len(_CONVOLUTIONS):
            raise UnsupportedError(
                f"The estimator 'npe' cannot look at fields of {len(grid)} dimensions.",
                where="the observed fields and their summaries",
                expected="1, 2 or 3 dimensions",
                got=str(grid),
            )
        self._pool = _POOLS[len(grid) - 1]
        halvings = max(0, math.ceil(math.log2(max(grid) / _SMALLEST_GRID)))
        self.features = channels * (1 + halvings)
        convolution = _CONVOLUTIONS[len(grid) - 1]

        def layer(fan_in: int) -> nn.Module:
            return convolution(fan_in, channels, 3, padding=1, padding_mode="circular")

        self.first = layer(in_channels)
        self.inner = nn.ModuleList([layer(channels) for _ in range(halvings)])
        self.outer = nn.ModuleList([layer(channels) for _ in range(halvings)])

    def forward(self, x: Tensor) -> Tensor:
        h = functional.silu(self.first(x))
        means = [h.flatten(2).mean(-1)]
        for inner, outer in zip(self.inner, self.outer, strict=True):
            h = self._pool(h, 2, ceil_mode=True, count_include_pad=False)
            h = functional.silu(h + outer(functional.silu(inner(h))))
            means.append(h.flatten(2).mean(-1))
        return torch.cat(means, 1)
