r"""The denoisers of a problem: maps to working coordinates, first laws and guide, transformers.

A joint posterior is p(u | d) p(y | u, d), of scalars u and a field y given data d, and is drawn so: scalars
first, from noise and data alone, then the field, from noise, data and clean scalars. Each factor has a
transformer that corrects what is known without it: a law of the scalars, learned from more simulations than a
transformer can see, and the guide's field.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from sbikit import Simulator, Spec, Values
from sbikit.learning import Coordinates
from sbikit_transformer.conditions import FARTHEST, Condition, DataMap, alien, bounded
from sbikit_transformer.data_posterior import DataPosterior, LinearLaw
from sbikit_transformer.grids import Grids, common_grid
from sbikit_transformer.guide import Guide
from sbikit_transformer.guided_flow import follow
from sbikit_transformer.guided_statistics import GuidedStatistics
from sbikit_transformer.levels import NARROW, TrainingLevels
from sbikit_transformer.linear_guide import make_guide
from sbikit_transformer.map_kinds import by_modes
from sbikit_transformer.mean_law import MeanLaw
from sbikit_transformer.missing import missing
from sbikit_transformer.network import Networks, Transformer
from sbikit_transformer.normal import Mixture, innovation, pairs
from sbikit_transformer.perceptron import Perceptron
from sbikit_transformer.polynomials import Quadratic
from sbikit_transformer.shape_errors import ShapeErrors
from sbikit_transformer.shapes import COUNT, Shapes, ShapesOf
from sbikit_transformer.transforms import FieldMap

# Least unit of a scalar's correction, in standard deviations of its noise: the law may be surer than it is
# right. A larger value makes the network's task coarse where the law is good, a smaller one lets scalars
# whose law is too sure rule the loss.
_SCALAR_ERROR = 0.3
# Least unit of a field's correction, in the field's own spread, where the guide expects no error at all.
_FIELD_ERROR = 1e-4

State: TypeAlias = tuple[Tensor, Tensor]
"""Field (B, C, *grid) and scalars (B, P)."""


def patch_size(grid: tuple[int, ...], patch: int) -> tuple[int, ...]:
    """The largest divisor of each axis that is at most `patch`."""
    return tuple(max(p for p in range(1, patch + 1) if n % p == 0) for n in grid)


@dataclass(frozen=True)
class Known:
    """What is known of B clean fields without the network, given noisy ones, data and scalars.

    Args:
        field: (B, C, *grid), the field that is expected.
        error: (B, C), the rms error of the guide's field that the guide expects.
        shapes: of the guide's field.
        surprise: (B, P), what of the scalars data did not let expect, in standard deviations.
    """

    field: Tensor
    error: Tensor
    shapes: Shapes
    surprise: Tensor


class Denoiser(nn.Module):
    """E[clean scalars | noisy ones, data] and E[clean field | noisy one, scalars, data] of one problem.

    Args:
        simulator: declares the problem.
        spec: the problem.
        patch, width, depth, heads: of the transformers.
        nodes: of the guide.
    """

    data_channel: Tensor
    by_guide: Tensor
    low: Tensor
    end: Tensor
    path: Tensor
    knots: Tensor
    places: Tensor
    precision: torch.dtype = torch.float32
    """Of the products inside the networks; what is around them stays in float32."""

    def __init__(
        self, simulator: Simulator, spec: Spec, *, patch: int, width: int, depth: int, heads: int, nodes: int
    ) -> None:
        super().__init__()
        self.simulator, self.spec = simulator, spec
        self.grid = common_grid(spec)
        self.coordinates = Coordinates(simulator.prior, spec.vectors)
        scalars = self.coordinates.size
        quadratic = Quadratic(self.coordinates.bounded)
        self.field_map = FieldMap(simulator, spec.fields, quadratic)
        channels = self.field_map.channels
        # Of several channels the guide's map tells more than data maps do, each of which is mostly noise.
        guided = channels > 1 and by_modes(spec.fields)
        grids = Grids.of(simulator, spec, self.grid)
        self.data_map = DataMap(simulator, spec, grids, guided=guided)
        maps, vectors, statistics = (
            len(scale.mean) for scale in (self.data_map.maps, self.data_map.vectors, self.data_map.statistics)
        )
        self.register_buffer("data_channel", torch.zeros(channels, dtype=torch.long))
        self.register_buffer("by_guide", torch.ones((), dtype=torch.bool))
        self.register_buffer("low", torch.ones(2))
        self.register_buffer("end", torch.ones(2))
        # Where the field is denoised on the way to a draw: first level, last level, how many.
        self.register_buffer("path", torch.ones(3, dtype=torch.float64))
        # At how many levels the scalars' network is evaluated.
        self.register_buffer("knots", torch.full((), 2))
        self.first_law = LinearLaw(scalars, vectors)
        share = missing(simulator, grids)
        self.guide = make_guide(spec.fields, quadratic, self.grid, vectors, nodes=nodes, share=share)
        # Where data are missing is one more map to the field's network.
        places = torch.zeros(0, *self.grid) if share is None else share[None]
        self.register_buffer("places", places, persistent=False)
        periodic = bool(spec.fields) and all(f.periodic for f in spec.fields)
        self.guided_statistics = None
        if guided and isinstance(self.guide, Guide):
            self.guided_statistics = GuidedStatistics(self.guide, scalars, self.grid, periodic=periodic)
            statistics += self.guided_statistics.count
        self.shapes = ShapesOf(self.grid) if channels else None
        self.shape_errors = ShapeErrors(quadratic, channels) if channels else None
        # Of vectors alone, where a perceptron learns all that is not linear from the start.
        self.of_vectors = not channels and not maps
        self.posterior = DataPosterior(scalars, vectors + statistics, mixed=not self.of_vectors)
        self.mean_law = None
        if isinstance(self.guide, Guide):
            self.mean_law = MeanLaw(quadratic, channels, self.posterior.combinations, self.posterior.told)
        moments = 2 * scalars + pairs(scalars)
        told = statistics + vectors
        transformer = partial(Transformer, scalars=scalars, width=width, depth=depth, heads=heads)
        sides = patch_size(self.grid, patch)
        self.network = Networks(
            Perceptron(scalars, moments + told)
            if self.of_vectors
            else transformer(
                grid=() if channels else self.grid,
                patch=() if channels else sides,
                channels_in=maps,
                channels_out=0,
                scalar_features=3,
                summary=moments + told,
            ),
            transformer(
                grid=self.grid,
                patch=sides,
                channels_in=2 * channels + maps + len(places),
                channels_out=channels,
                scalar_features=3,
                summary=2 * scalars + moments + (4 + COUNT) * channels + told,
                periodic=periodic,
            )
            if channels
            else None,
        )

    def _law(self, vectors: Tensor, statistics: Tensor, modes: Tensor) -> Mixture:
        """Of the scalars given data."""
        if self.guide is not None and bool(self.by_guide):
            return self.guide.posterior(self.first_law(vectors), modes).alone()
        law: Mixture = self.posterior(bounded(vectors, statistics))
        return law

    def told(self, values: Values) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of observations (B, *shape) standardised maps, what the guide is told, vectors and statistics."""
        maps, vectors = self.data_map.maps_and_vectors(self.data_map.seen(values))
        modes = self.modes(maps)
        return maps, modes, vectors, self.scaled(self.unscaled(maps, modes))

    def unscaled(self, maps: Tensor, modes: Tensor) -> dict[str, Tensor]:
        """Statistics of standardised maps and of the guide's map, neither standardised."""
        found = {"statistics": self.data_map.unscaled(maps)}
        if self.guided_statistics is not None:
            power = self.guided_statistics.power(modes)
            found |= {"power": power, "of_map": self.guided_statistics.of_map(modes, power)}
        return found

    def scaled(self, unscaled: Values) -> Tensor:
        """All statistics, standardised, (B, S)."""
        found = self.data_map.statistics(unscaled["statistics"])
        if self.guided_statistics is None:
            return found
        guided = self.guided_statistics.scaled(unscaled["power"], unscaled["of_map"])
        return torch.cat([found, guided], 1)

    def modes(self, maps: Tensor) -> Tensor:
        """What the guide is told of standardised maps (B, K, *grid): (B, ...)."""
        return maps.new_zeros(len(maps), 0) if self.guide is None else self.guide.told(self.data(maps))

    @contextmanager
    def multiplying(self, precision: torch.dtype) -> Iterator[None]:
        """Denoise with products of another precision inside the networks."""
        own, self.precision = self.precision, precision
        try:
            yield
        finally:
            self.precision = own

    @contextmanager
    def using(self, network: nn.Module) -> Iterator[None]:
        """Denoise with another network of the same shape."""
        own = self.network
        self.network = network  # type: ignore[assignment]
        try:
            yield
        finally:
            self.network = own

    def scalar_levels(self) -> TrainingLevels:
        """The noise levels of the scalars in training, once the law is learned."""
        return TrainingLevels(float(self.low[0]), with_field=False, of_vectors=self.of_vectors)

    def field_levels(self) -> TrainingLevels:
        """The noise levels of the field in training, once the guide is fitted."""
        return TrainingLevels(float(self.low[1]), with_field=True)

    @torch.no_grad()
    def noise_left(self, simulations: Iterable[Values], sigma: float, source: torch.Generator) -> Tensor:
        """Share of the noise of a level that is left after denoising, of each channel.

        Args:
            simulations: in parts, on the denoiser's device.
            sigma: the level.
            source: of the noise.

        Returns:
            (C,): of a channel the share below which it is in 5 % of its pixels.
        """
        left: list[Tensor] = []
        for values in simulations:
            (clean, u), told = self.encode(values), self.condition(values)
            noise = sigma * torch.randn(clean.shape, generator=source).to(clean.device)
            log_sigma = torch.full((len(u),), math.log(sigma), device=u.device)
            found, _ = self.denoise_field(clean + noise, u, log_sigma, told)
            sums = [(found - clean).square().sum(0), noise.square().sum(0)]
            left = [a + b for a, b in zip(left, sums, strict=True)] if left else sums
        return self._low_of_channels(left[0] / left[1])

    def narrowest(self, draws: State) -> tuple[float, ...]:
        """The least spread of a scalar, and that of all but 5 % of a channel's pixels, over n draws."""
        field, u = draws
        of_scalars = float(u.std(0).min())
        if not self.field_map.channels:
            return (of_scalars,)
        of_channels = self._low_of_channels(field.std(0))
        return (of_scalars, float(of_channels.min())) if len(of_channels) else (of_scalars,)

    def _low_of_channels(self, field: Tensor) -> Tensor:
        """Figures of pixels (C, *grid) to a low one of each channel that varies."""
        vary = zip(field, self.field_map.vary(), strict=True)
        found = [channel[pixels].quantile(NARROW) for channel, pixels in vary if bool(pixels.any())]
        return torch.stack(found) if found else field.new_zeros(0)

    def data(self, maps: Tensor) -> Tensor:
        """The data field of each latent channel, (B, C, *grid); zero where nothing is observed."""
        if maps.shape[1] == 0:
            return maps.new_zeros(len(maps), self.field_map.channels, *self.grid)
        there = (self.data_channel >= 0)[(..., *[None] * len(self.grid))]
        return torch.where(there, maps[:, self.data_channel.clamp_min(0)], 0.0)

    def encode(self, values: Values) -> State:
        """Latents `(B, shape)` in working coordinates."""
        u = self.coordinates.encode(values)
        if not self.field_map.channels:
            return u.new_zeros(len(u), 0, *self.grid), u
        return self.field_map.encode(values, u), u

    def decode(self, state: State) -> dict[str, Tensor]:
        """Working coordinates to latents."""
        field, u = state
        vectors = self.coordinates.decode(u)
        if not self.field_map.channels:
            return vectors
        return vectors | self.field_map.decode(field, vectors, u)

    @torch.no_grad()
    def condition(self, observation: Values) -> Condition:
        """What the networks are told of observations `(B, shape)`."""
        maps, modes, vectors, statistics = self.told(observation)
        strange = alien(vectors, statistics)
        statistics = statistics.clamp(-FARTHEST, FARTHEST)
        law = self._law(vectors, statistics, modes)
        components = self.posterior.combined(bounded(vectors, statistics))
        return Condition(maps, modes, vectors, statistics, components, strange, law, law.whole().moments())

    def denoise_scalars(
        self, u: Tensor, log_sigma: Tensor, condition: Condition, kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The clean scalars, and the scale on which the network corrects the law, (B, P) each.

        Args:
            u: (B, P), noisy.
            log_sigma: (B,).
            condition: of B observations.
            kept: of a perceptron in training, see there.
        """
        mean, sd, scale = self._guess_scalars(u, log_sigma, condition)
        sigma = log_sigma.exp()
        shrink = (1.0 + sigma.square()).rsqrt()[:, None]
        scalars = torch.stack([u * shrink, mean, sd.log()], -1)
        summary = torch.cat([condition.moments, condition.told], 1)
        unexpected = innovation(u - mean, sd, sigma[:, None]).clamp(-FARTHEST, FARTHEST)
        with self._products(u):
            network = self.network.scalars
            if isinstance(network, Perceptron):
                out = network(u * shrink, unexpected, summary, log_sigma, kept)
            else:
                out = network.of_scalars(condition.maps, scalars, unexpected, summary, log_sigma)
        return mean + scale * out.to(u.dtype), scale

    def guess_scalars(self, u: Tensor, log_sigma: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """What the law alone expects of the clean scalars, and the scale, as `denoise_scalars`."""
        mean, _, scale = self._guess_scalars(u, log_sigma, condition)
        return mean, scale

    def _guess_scalars(
        self, u: Tensor, log_sigma: Tensor, condition: Condition
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the law expects of the clean scalars, its standard deviation, and the scale."""
        sigma = log_sigma.exp()
        mean, sd = condition.law.given_noisy(u, sigma)
        floor = _SCALAR_ERROR * (sigma * (1.0 + sigma.square()).rsqrt())[:, None]
        return mean, sd, (sd.square() + floor.square()).sqrt()

    def denoise_field(
        self, field: Tensor, u: Tensor, log_sigma: Tensor, condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """The clean field, and the scale on which the network corrects the guide, (B, C, 1, ...).

        Args:
            field: (B, C, *grid), noisy.
            u: (B, P), clean.
            log_sigma: (B,).
            condition: of B observations.
        """
        with torch.no_grad():
            known = self.known_of_field(field, u, log_sigma, condition)
        shapes, surprise = known.shapes, known.surprise
        spread = (..., *[None] * len(self.grid))
        shrink = (1.0 + log_sigma.exp().square()).rsqrt()[:, None]
        places = self.places.expand(len(u), *self.places.shape)
        inputs = torch.cat([field * shrink[spread], known.field, condition.maps, places], 1)
        innovations = shapes.innovations.flatten(1)
        of_field = [known.error.log(), shapes.moments, innovations]
        summary = torch.cat([u, surprise, condition.moments, *of_field, condition.told], 1)
        _, log_sd = self._expected(condition)
        scalars = torch.stack([u, surprise, log_sd], -1)
        told = torch.cat([innovations, surprise], 1)
        with self._products(u):
            out = self.network.field.of_field(inputs, scalars, (shapes.phi, told), summary, log_sigma)
        scale = known.error[spread]
        return known.field + scale * out.to(u.dtype), scale

    def known_of_field(self, field: Tensor, u: Tensor, log_sigma: Tensor, condition: Condition) -> Known:
        """What is known of the clean field without the network, see `denoise_field`."""
        guessed = self.guess_field(field, u, log_sigma, condition)
        assert self.shape_errors is not None
        added = self.shape_errors.added(u, guessed.surprise, guessed.shapes, log_sigma)
        error = guessed.error[(..., *[None] * len(self.grid))]
        return replace(guessed, field=guessed.field + error * added)

    def guess_field(self, field: Tensor, u: Tensor, log_sigma: Tensor, condition: Condition) -> Known:
        """What the guide alone knows of it."""
        assert self.guide is not None, "there is no latent field"
        assert self.shapes is not None
        more, sigma = self._of_mean(u, condition), log_sigma.exp()
        guess = self.guide(field, u, condition.modes, condition.vectors, sigma, **more)
        shapes = self.shapes(guess.field, guess.error, field, sigma)
        surprise = self.surprise(u, condition).clamp(-FARTHEST, FARTHEST)
        return Known(guess.field, guess.error.clamp_min(_FIELD_ERROR), shapes, surprise)

    def surprise(self, u: Tensor, condition: Condition) -> Tensor:
        """What of scalars (B, P) data did not let expect, in standard deviations of what they tell."""
        expected, log_sd = self._expected(condition)
        return (u - expected) / log_sd.exp()

    def _expected(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Means of the scalars given data, and the logarithms of their standard deviations, (B, P) each."""
        size = self.coordinates.size
        return condition.moments[:, :size], condition.moments[:, size : 2 * size]

    def _of_mean(self, u: Tensor, condition: Condition) -> dict[str, MultivariateNormal]:
        """What the guide is told of the field's mean given scalars (B, P), where a law of it is learned."""
        law = None
        if self.mean_law is not None:
            data = condition.modes[..., 0].real
            law = self.mean_law(
                u, condition.components, data, bounded(condition.vectors, condition.statistics)
            )
        return {} if law is None else {"of_mean": law}

    def draw_field(self, noise: Tensor, u: Tensor, condition: Condition, levels: Sequence[float]) -> Tensor:
        """Draws of the field given data and scalars, (B, C, *grid).

        Args:
            noise: (B, C, *grid), standard normal.
            u: (B, P), clean.
            condition: of B observations.
            levels: where the field is denoised.
        """
        assert self.guide is not None, "there is no latent field"

        def denoise(state: Tensor, sigma: float) -> Tensor:
            log_sigma = torch.full((len(state),), sigma, device=state.device).log()
            return self.denoise_field(state, u, log_sigma, condition)[0]

        more = self._of_mean(u, condition)
        expected = self.guide.expected(u, condition.modes, condition.vectors, **more)
        return follow(denoise, noise, expected, levels)

    def _products(self, u: Tensor) -> AbstractContextManager[None]:
        return torch.autocast(u.device.type, self.precision, enabled=self.precision != torch.float32)
