"""The denoiser of a problem: maps to working coordinates, Gaussian guide, transformer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from sbikit import Field, Simulator, Spec, UnsupportedError, Values, derive_seed, generator
from sbikit.fields import Scales
from sbikit.learning import Coordinates, Parts, Spill, Standardise
from sbikit_transformer.conditions import FARTHEST, MAPS, VECTORS, Condition, DataMap
from sbikit_transformer.diffusion import State
from sbikit_transformer.guide import Guess, pieces
from sbikit_transformer.levels import TrainingLevels
from sbikit_transformer.linear_guide import make_guide
from sbikit_transformer.network import Transformer
from sbikit_transformer.transforms import WHITE, FieldMap

# Least unit of a scalar's correction, in standard deviations of its noise: the guide may be surer than it
# is right. A larger value makes the network's task coarse where the guide is good, a smaller one lets
# scalars whose guide is too sure rule the loss.
_SCALAR_ERROR = 0.3
# Least unit of a field's correction, in the field's own spread, where the guide expects no error at all.
_FIELD_ERROR = 1e-4
# Least variance of the guide's mean field whose logarithm the network is told.
_LEAST_VARIANCE = 1e-12
# The guide's mean field is told to be no more skewed than that: nearly flat fields have any skewness.
_MOST_SKEWED = 6.0

# Least variance of what the guide did not expect of a noisy scalar, in units of its noise: where the noise is
# so far below the posterior's width, nothing is left to correct.
_LEAST_INNOVATION = 1e-3
# Noise levels a simulation that scale the statistics of the guide's mean field.
_LEVELS = 4

# Simulations whose guesses tell how narrow posteriors are, the share of them that may be narrower, and a
# level of noise, in prior standard deviations, that leaves the data alone to tell.
_JUDGES = 256
_NARROW = 0.05
_PURE_NOISE = 150.0
# Simulations that tell which map goes with which channel: at 128 pixels a side 10^7 pixels a channel.
_CORRELATED = 1024


def common_grid(spec: Spec) -> tuple[int, ...]:
    """The grid that all fields of a problem share, empty where there is no field.

    Raises:
        UnsupportedError: the fields have different grids.
    """
    fields = [v for v in (*spec.latents, *spec.observables) if isinstance(v, Field)]
    if len({f.grid for f in fields}) > 1:
        raise UnsupportedError(
            "The transformer needs all fields on one grid.",
            where=", ".join(f"{f.name} {f.grid}" for f in fields),
            expected="one grid for all fields",
            fix="let the simulator put its fields on one grid, or observe vectors beside the field",
        )
    return fields[0].grid if fields else ()


def patch_size(grid: tuple[int, ...], patch: int) -> tuple[int, ...]:
    """The largest divisor of each axis that is at most `patch`."""
    return tuple(max(p for p in range(1, patch + 1) if n % p == 0) for n in grid)


class Denoiser(nn.Module):
    """E[clean state | noisy state, observation] of one problem.

    Args:
        simulator: declares the problem.
        spec: the problem.
        patch, width, depth, heads: of the transformer.
        nodes: of the guide.
    """

    data_channel: Tensor
    low: Tensor
    end: Tensor
    precision: torch.dtype = torch.float32
    """Of the products inside the network; what is around it stays in float32."""

    def __init__(
        self, simulator: Simulator, spec: Spec, *, patch: int, width: int, depth: int, heads: int, nodes: int
    ) -> None:
        super().__init__()
        self.simulator, self.spec = simulator, spec
        self.grid = common_grid(spec)
        self.coordinates = Coordinates(simulator.prior, spec.vectors)
        scalars = self.coordinates.size
        self.field_map = FieldMap(simulator, spec.fields, scalars)
        channels = self.field_map.channels
        self.data_map = DataMap(simulator, spec, self.grid)
        maps, vectors, statistics = (
            len(scale.mean) for scale in (self.data_map.maps, self.data_map.vectors, self.data_map.statistics)
        )
        self.register_buffer("data_channel", torch.zeros(channels, dtype=torch.long))
        self.register_buffer("low", torch.ones(()))
        self.register_buffer("end", torch.ones(()))
        self.guide = make_guide(spec.fields, scalars, self.grid, vectors, nodes)
        periodic = bool(spec.fields) and all(f.periodic for f in spec.fields)
        self.scales = Scales(self.grid, periodic=periodic) if channels else None
        shapes = channels * self.scales.count if self.scales is not None else 0
        self.shapes = Standardise(shapes)
        pairs = scalars * (scalars - 1) // 2
        self.network = Transformer(
            grid=self.grid,
            patch=patch_size(self.grid, patch),
            channels_in=2 * channels + maps,
            channels_out=channels,
            scalars=scalars,
            scalar_features=3,
            summary=2 * scalars + pairs + statistics + vectors + 4 * channels + shapes,
            width=width,
            depth=depth,
            heads=heads,
            periodic=periodic,
        )

    def fit_maps(self, simulations: Iterable[Values], folder: Path | None = None) -> None:
        """Fit all constants and the guide to simulations that come in parts.

        Args:
            simulations: of all variables, each (m, *shape).
            folder: for files of what does not fit in memory.
        """
        with Spill(folder) as spill:
            for values in simulations:
                spill.add({v.name: values[v.name] for v in self.spec.latents} | self.data_map.seen(values))
            self._fit_maps(spill)

    def _fit_maps(self, spill: Spill) -> None:
        """Of latents and of what is seen."""
        self.coordinates.fit_parts(spill.parts(*(v.name for v in self.spec.vectors)))
        self.data_map.fit(spill.parts(MAPS, VECTORS))
        if self.field_map.channels:
            self.field_map.fit(spill.parts(*(v.name for v in self.spec.latents)).through(self._with_white))
            some = spill.parts().up_to(_CORRELATED).through(self._clean)
            self.data_channel.copy_(_most_correlated(some))
        self.guide.fit(spill.parts().through(self._guided))
        judges = spill.parts().up_to(_JUDGES).joined()
        self._fit_low(judges)
        self._fit_shapes(judges)

    def _with_white(self, latents: Values) -> dict[str, Tensor]:
        return {**latents, WHITE: self.coordinates.encode(latents)}

    def _clean(self, part: Values) -> dict[str, Tensor]:
        """Simulations as the guide knows them, but for the data field."""
        field, u = self.encode(part)
        maps, vectors = self.data_map.maps_and_vectors(part)
        return {"u": u, "field": field, "maps": maps, "vectors": vectors}

    def _guided(self, part: Values) -> dict[str, Tensor]:
        """What the guide is fitted to."""
        clean = self._clean(part)
        return {**clean, "data": self._data(clean.pop("maps"))}

    @contextmanager
    def using(self, network: nn.Module) -> Iterator[None]:
        """Denoise with another network of the same shape."""
        own = self.network
        self.network = network  # type: ignore[assignment]
        try:
            yield
        finally:
            self.network = own

    def training_levels(self) -> TrainingLevels:
        """The noise levels of training, once the maps are fitted."""
        return TrainingLevels(float(self.low), bool(self.field_map.channels))

    def _fit_low(self, part: Values) -> None:
        """How far down levels must go for the narrowest posterior that the guide sees."""
        field, scalars = self.encode(part)
        noise = generator(derive_seed(0, "denoiser", "low"))
        y, u = (torch.randn(x.shape, generator=noise) * _PURE_NOISE for x in (field, scalars))
        vary = torch.tensor([bool(pixels.any()) for pixels in self.field_map.vary()], dtype=torch.bool)
        spreads = []
        for rows in pieces(len(u), field[0].numel()):
            told = self._condition({name: value[rows] for name, value in part.items()})
            sigma = torch.full((len(u[rows]),), _PURE_NOISE)
            guess = self.guide(u[rows], y[rows], told.modes, told.vectors, sigma)
            spreads.append(torch.cat([guess.sd, guess.error[:, vary]], 1))
        narrowest = float(torch.cat(spreads).quantile(_NARROW, 0).min())
        levels = TrainingLevels.resolving(narrowest, with_field=bool(self.field_map.channels))
        self.low.fill_(levels.low)

    def _fit_shapes(self, part: Values) -> None:
        """Scales of the statistics of the guide's mean field, at the noise levels of training."""
        if self.scales is None:
            return
        field, scalars = self.encode(part)
        source = generator(derive_seed(0, "denoiser", "shapes"))
        told = self._condition(part)
        found = []
        for _ in range(_LEVELS):
            log_sigma = self.training_levels().draw(len(scalars), source)
            sigma = log_sigma.exp()
            y, u = (
                x + sigma.view(-1, *[1] * (x.ndim - 1)) * torch.randn(x.shape, generator=source)
                for x in (field, scalars)
            )
            for rows in pieces(len(u), field[0].numel()):
                some = told.rows(rows)
                guess = self.guide(u[rows], y[rows], some.modes, some.vectors, sigma[rows])
                found.append(self.scales(guess.field))
        self.shapes.fit(torch.cat(found))

    @torch.no_grad()
    def noise_left(self, simulations: Iterable[Values], sigma: float, source: torch.Generator) -> Tensor:
        """Share of the noise of a level that is left after denoising, of each scalar and of each channel.

        Args:
            simulations: in parts, on the denoiser's device.
            sigma: the level.
            source: of the noise.

        Returns:
            (P + C,): of a channel the share below which it is in 5 % of its pixels.
        """
        left: list[Tensor] = []
        for values in simulations:
            clean, told = self.encode(values), self.condition(values)
            noise = [sigma * torch.randn(part.shape, generator=source).to(part.device) for part in clean]
            log_sigma = torch.full((len(noise[1]),), math.log(sigma), device=noise[1].device)
            found, _ = self((clean[0] + noise[0], clean[1] + noise[1]), log_sigma, told)
            sums = [(a - b).square().sum(0) for a, b in zip(found, clean, strict=True)]
            sums += [part.square().sum(0) for part in noise]
            left = [a + b for a, b in zip(left, sums, strict=True)] if left else sums
        return self._of_each(left[0] / left[2], left[1] / left[3])

    def narrowest(self, draws: State) -> float:
        """The least spread of a scalar, or of all but 5 % of a channel's pixels, over n draws."""
        spreads = [part.std(0) for part in draws if part.numel()]
        return float(self._of_each(spreads[0], spreads[-1]).min())

    def _of_each(self, field: Tensor, scalars: Tensor) -> Tensor:
        """Figures of scalars (P,) and of pixels (C, *grid) -> (P + C,), of each channel a low one."""
        if not self.field_map.channels:
            return scalars
        channels = [c[v] for c, v in zip(field, self.field_map.vary(), strict=True) if bool(v.any())]
        return torch.stack([*scalars, *(pixels.quantile(_NARROW) for pixels in channels)])

    def _data(self, maps: Tensor) -> Tensor:
        """The data field of each latent channel, (B, C, *grid); zero where nothing is observed."""
        if maps.shape[1] == 0:
            return maps.new_zeros(len(maps), self.field_map.channels, *self.grid)
        return maps[:, self.data_channel]

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

    def condition(self, observation: Values) -> Condition:
        """What the network is told of observations `(B, shape)`."""
        return self._condition(self.data_map.seen(observation))

    def _condition(self, seen: Values) -> Condition:
        maps, vectors, statistics, alien = self.data_map.told(seen)
        data = self._data(maps)
        modes = self.guide.rings.transform(data) if self.guide.rings is not None else data.flatten(1)
        return Condition(maps, modes, vectors, statistics, alien)

    def forward(self, state: State, log_sigma: Tensor, condition: Condition) -> tuple[State, State]:
        """The clean state, and the scale on which the network corrects the guide.

        Args:
            state: noisy field (B, C, *grid) and scalars (B, P).
            log_sigma: (B,).
            condition: of B observations.
        """
        field, u = state
        sigma = log_sigma.exp()
        with torch.no_grad():
            guess = self.guide(u, field, condition.modes, condition.vectors, sigma)
        shrink = (1.0 + sigma.square()).rsqrt()
        spread = (slice(None), None, *[None] * len(self.grid))
        floor = _SCALAR_ERROR * sigma * shrink
        scale_u = (guess.sd.square() + floor.square()[:, None]).sqrt()
        scale_y = guess.error.clamp_min(_FIELD_ERROR)[(..., *[None] * len(self.grid))]
        inputs = torch.cat([field * shrink[spread], guess.field, condition.maps], 1)
        scalars = torch.stack([u * shrink[:, None], guess.mean, guess.sd.log()], -1)
        summary = self._summary(guess, condition)
        innovation = _innovation(u, guess, sigma[:, None])
        with torch.autocast(u.device.type, self.precision, enabled=self.precision != torch.float32):
            out_y, out_u = self.network(inputs, scalars, innovation, summary, log_sigma)
        out_y, out_u = out_y.to(u.dtype), out_u.to(u.dtype)
        return (guess.field + scale_y * out_y, guess.mean + scale_u * out_u), (scale_y, scale_u)

    def _summary(self, guess: Guess, condition: Condition) -> Tensor:
        flat = guess.field.flatten(2) if self.grid else guess.field[..., None]
        centred = flat - flat.mean(-1, keepdim=True)
        variance = centred.square().mean(-1).clamp_min(_LEAST_VARIANCE)
        skewness = (centred.pow(3).mean(-1) / variance.pow(1.5)).clamp(-_MOST_SKEWED, _MOST_SKEWED)
        moments = [variance.log(), skewness, flat.mean(-1)]
        parts = [guess.mean, guess.sd.log(), guess.correlation, condition.statistics, condition.vectors]
        if self.scales is not None:
            parts.append(self.shapes(self.scales(guess.field)).clamp(-FARTHEST, FARTHEST))
        return torch.cat([*parts, *moments, guess.error.clamp_min(_FIELD_ERROR).log()], 1)


def _innovation(u: Tensor, guess: Guess, sigma: Tensor) -> Tensor:
    """Noisy scalars (B, P) less what the guide makes of them, in units of its expected spread: of a normal
    posterior of variance v given them this is sqrt(sigma^2 - v).
    """
    variance = (sigma.square() - guess.sd.square()).clamp_min(_LEAST_INNOVATION * sigma.square())
    return ((u - guess.mean) * variance.rsqrt()).clamp(-FARTHEST, FARTHEST)


def _most_correlated(parts: Parts) -> Tensor:
    """For each channel of "field" (m, C, *grid) the most correlated of the "maps" (m, K, *grid): (C,)."""
    products = []
    for part in parts:
        a, b = (part[name].transpose(0, 1).flatten(1) for name in ("field", "maps"))
        products.append(a @ b.T)
    total = torch.stack(products).sum(0)
    return total.abs().argmax(1) if total.shape[1] else torch.zeros(len(total), dtype=torch.long)
