"""The embedding net: observed fields, their summaries and observed vectors to one context vector.

Fields on one grid are channels of one image. Of stationary fields its features are the spatial means of a
convolutional net at all scales, which do not say where things are. If one of them is not stationary they do:
each pixel has its own scale and is told its place, and the coarsest grid and the leading principal components
are features, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sbikit import Simulator, Spec, Values
from sbikit.learning import Parts, PrincipalComponents, Standardise, declared_fields, seen_by_networks
from sbikit_npe.convolutions import PooledConvolutions

# Principal components of an image: a line of as many pixels is seen whole, as a vector would be. More cost a
# wider first layer.
_COMPONENTS = 64

ROWS = "rows"
"""Under which name rows travel."""


@dataclass(frozen=True)
class Input:
    """One variable that the net sees: (D,) for a vector, (C, *grid) for a field with the facts about it."""

    name: str
    shape: tuple[int, ...]
    stationary: bool = False
    periodic: bool = False


class Reader:
    """Packs what was observed, and its summaries, into one row an observation.

    Args:
        simulator: may know summaries.
        spec: names the observed variables.
    """

    def __init__(self, simulator: Simulator, spec: Spec) -> None:
        self._simulator = simulator
        self.spec = spec

    def inputs(self, observation: Values) -> tuple[Input, ...]:
        """What there is to see in observations (B, *shape)."""
        fields = declared_fields(self._simulator, self.spec)
        made = []
        for name, value in self._seen(observation).items():
            known = fields.get(name)
            facts = (False, False) if known is None else (known.stationary, known.periodic)
            made.append(Input(name, tuple(value.shape[1:]), *facts))
        return tuple(made)

    def rows(self, observation: Values) -> Tensor:
        """Observations (B, *shape) as rows (B, P)."""
        return torch.cat([value.flatten(1) for value in self._seen(observation).values()], 1)

    def _seen(self, observation: Values) -> dict[str, Tensor]:
        return seen_by_networks(self._simulator, self.spec, observation)


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
        self.images = nn.ModuleList([Image(group, channels) for group in self._groups])
        seen = sum(i.shape[0] for i in vectors)
        self.vectors = Standardise(seen)
        features = seen + sum(image.features for image in self.images)  # type: ignore[misc]
        self.features = Standardise(features)
        self.head = nn.Sequential(
            nn.Linear(features, 2 * width), nn.SiLU(), nn.Linear(2 * width, width), nn.SiLU()
        )

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.features(self._pool(rows)))

    @torch.no_grad()
    def fit_scales(self, parts: Parts) -> None:
        """Set all scales from training rows in parts, `ROWS` (m, P)."""
        for i, image in enumerate(self.images):
            image.fit(parts.through(lambda part, i=i: {ROWS: self._split(part[ROWS])[i]}))  # type: ignore[operator,misc]
        self.vectors.fit_parts(self._split(rows)[-1] for rows in parts.each(ROWS))
        self.features.fit(parts.through(lambda part: {ROWS: self._pool(part[ROWS])}).joined()[ROWS])

    def _split(self, rows: Tensor) -> list[Tensor]:
        """One tensor (B, C, *grid) a grid, then the vectors (B, D)."""
        pieces = rows.split([math.prod(i.shape) for i in self._inputs], -1)
        values = {i: piece.unflatten(-1, i.shape) for i, piece in zip(self._inputs, pieces, strict=True)}
        images = [torch.cat([values[i] for i in group], 1) for group in self._groups]
        return [*images, torch.cat([rows[:, :0], *(values[i] for i in self._vectors)], 1)]

    def _pool(self, rows: Tensor) -> Tensor:
        *images, vectors = self._split(rows)
        pooled = [image(value) for image, value in zip(self.images, images, strict=True)]
        return torch.cat([*pooled, self.vectors(vectors)], 1)


class Image(nn.Module):
    """All fields on one grid, (B, C, *grid), to features (B, features).

    Args:
        inputs: the fields.
        channels: channels of the convolutions.
    """

    def __init__(self, inputs: list[Input], channels: int) -> None:
        super().__init__()
        placed = not all(i.stationary for i in inputs)
        periodic = all(i.periodic for i in inputs)
        grid, size = inputs[0].shape[1:], sum(i.shape[0] for i in inputs)
        self.convolutions = PooledConvolutions(grid, size, channels, periodic=periodic, placed=placed)
        self.scale = Standardise(size, *(grid if placed else ()))
        pixels = size * math.prod(grid) if placed else 0
        self.components = PrincipalComponents(pixels, _COMPONENTS)
        self.features = self.convolutions.features + self.components.count

    def fit(self, parts: Parts) -> None:
        """Set the scales and find the components of training draws in parts, `ROWS` (m, C, *grid)."""
        self.scale.fit_parts(parts.each(ROWS))
        if self.components.count:
            self.components.fit_parts(self.scale(values).flatten(1) for values in parts.each(ROWS))

    def forward(self, values: Tensor) -> Tensor:
        scaled = self.scale(values)
        found = self.convolutions(scaled)
        if not self.components.count:
            return found
        return torch.cat([found, self.components(scaled.flatten(1))], 1)
