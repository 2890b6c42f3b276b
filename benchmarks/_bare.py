"""The transformer without a guide and without statistics: what is left of it for networks to learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor

from sbikit import Field, Simulator, Spec
from sbikit.learning import Parts
from sbikit_transformer import denoiser as place
from sbikit_transformer import estimator
from sbikit_transformer.conditions import DataMap
from sbikit_transformer.data_posterior import LinearLaw
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.guide import Guess
from sbikit_transformer.guided_flow import Expected
from sbikit_transformer.network import Networks, Transformer
from sbikit_transformer.normal import Normal, pairs
from sbikit_transformer.shapes import COUNT, Shapes


class NoGuide(torch.nn.Module):
    """Knows that pixels have mean zero and variance one, and nothing else; called as `Guide` is.

    Args:
        channels, grid: of the latent field.
    """

    def __init__(self, channels: int, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.channels, self.grid = channels, grid

    def fit(self, parts: Parts, law: LinearLaw) -> None:
        """Nothing is learned."""

    def posterior(self, prior: Normal, data_modes: Tensor) -> Normal:
        """The scalars given data: as before."""
        return prior

    def told(self, data: Tensor) -> Tensor:
        """Nothing, (B, 0)."""
        return data.new_zeros(len(data), 0)

    def forward(self, field: Tensor, u: Tensor, data_modes: Tensor, vectors: Tensor, sigma: Tensor) -> Guess:
        """The noisy field, shrunk."""
        noise = sigma.square()[:, None]
        shrunk = field / (1.0 + noise[(..., *[None] * (field.dim() - 2))])
        return Guess(shrunk, (noise / (1.0 + noise)).sqrt().expand(-1, field.shape[1]))

    def expected(self, u: Tensor, data_modes: Tensor, vectors: Tensor) -> Expected:
        """Standard normal pixels."""
        mean = u.new_zeros(len(u), self.channels, *self.grid)
        return Expected(mean, torch.ones_like(mean), lambda field: field, lambda along: along)


class NoShapes(torch.nn.Module):
    """No directions of the whole field."""

    def forward(self, expected: Tensor, error: Tensor, noisy: Tensor, sigma: Tensor) -> Shapes:
        """Zeros for all of them."""
        size, channels, *grid = expected.shape
        phi = expected.new_zeros(size, channels, COUNT, *grid)
        return Shapes(phi, phi.new_zeros(size, channels, COUNT), phi.new_zeros(size, 3 * channels))


class MapsAlone(DataMap):
    """Observations without statistics of them."""

    def unscaled(self, maps: Tensor) -> Tensor:
        return maps.new_zeros(len(maps), 0)


class BareDenoiser(Denoiser):
    """The parameters' network, which nothing else tells of the data, has patches of their maps as tokens."""

    def __init__(
        self, simulator: Simulator, spec: Spec, *, patch: int, width: int, depth: int, heads: int, nodes: int
    ) -> None:
        super().__init__(simulator, spec, patch=patch, width=width, depth=depth, heads=heads, nodes=nodes)
        scalars, of_field = self.coordinates.size, self.network.field
        of_scalars = Transformer(
            grid=self.grid,
            patch=of_field.patch,
            channels_in=len(self.data_map.maps.mean),
            channels_out=0,
            scalars=scalars,
            scalar_features=3,
            summary=2 * scalars + pairs(scalars) + len(self.data_map.vectors.mean),
            width=width,
            depth=depth,
            heads=heads,
        )
        self.network = Networks(of_scalars, of_field)


@contextmanager
def bare() -> Iterator[None]:
    """Whatever is fitted or loaded meanwhile is bare."""

    def no_guide(
        fields: Sequence[Field], quadratic: object, grid: tuple[int, ...], *_: object, **__: object
    ) -> NoGuide:
        return NoGuide(sum(field.channels for field in fields), grid)

    with (
        mock.patch.object(place, "make_guide", no_guide),
        mock.patch.object(place, "ShapesOf", return_value=NoShapes()),
        mock.patch.object(place, "DataMap", MapsAlone),
        mock.patch.object(estimator, "Denoiser", BareDenoiser),
    ):
        yield
