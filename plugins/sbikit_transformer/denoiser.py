"""The denoiser of a problem: maps to working coordinates, Gaussian guide, transformer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sbikit import Field, Simulator, Spec, SupportsSummaries, UnsupportedError, Values, Vector
from sbikit_transformer.diffusion import State
from sbikit_transformer.fourier import Rings
from sbikit_transformer.guide import Guess, Guide
from sbikit_transformer.network import Transformer
from sbikit_transformer.transforms import FieldMap, ScalarMap

_SCALAR_ERROR = 0.3


@dataclass(frozen=True)
class Condition:
    """What the network is told of B observations.

    Args:
        maps: (B, K, *grid) observed fields and summaries, standardised.
        modes: (B, C, modes) Fourier modes of the data field of each latent channel.
        vectors: (B, V) observed vectors, standardised.
        statistics: (B, S) spectra and moments of the maps, standardised.
    """

    maps: Tensor
    modes: Tensor
    vectors: Tensor
    statistics: Tensor

    def repeat(self, n: int) -> Condition:
        """Each observation n times in a row: (B n, ...)."""
        parts = (self.maps, self.modes, self.vectors, self.statistics)
        return Condition(*(part.repeat_interleave(n, 0) for part in parts))

    def rows(self, part: slice) -> Condition:
        """Some of the observations."""
        return Condition(self.maps[part], self.modes[part], self.vectors[part], self.statistics[part])


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
        patch, width, depth, heads: of the transformer.
        nodes: of the guide.
    """

    def __init__(
        self, simulator: Simulator, spec: Spec, *, patch: int, width: int, depth: int, heads: int, nodes: int
    ) -> None:
        super().__init__()
        self.simulator, self.spec = simulator, spec
        self.grid = common_grid(spec)
        self.scalar_map = ScalarMap(simulator, spec.vectors)
        scalars = self.scalar_map.size
        self.field_map = FieldMap(simulator, spec.fields, scalars)
        maps, vectors = self._raw(simulator_probe(simulator, spec))
        self.rings = Rings(self.grid) if self.grid else None
        statistics = self._statistics(maps).shape[1]
        for name, shape in {
            "map_mean": maps.shape[1],
            "map_sd": maps.shape[1],
            "vector_mean": vectors.shape[1],
            "vector_sd": vectors.shape[1],
            "statistic_mean": statistics,
            "statistic_sd": statistics,
        }.items():
            self.register_buffer(name, torch.ones(shape) if name.endswith("sd") else torch.zeros(shape))
        channels = self.field_map.channels
        self.register_buffer("data_channel", torch.zeros(channels, dtype=torch.long))
        self.guide = Guide(scalars, channels, self.grid, vectors.shape[1], nodes)
        pairs = scalars * (scalars - 1) // 2
        self.network = Transformer(
            grid=self.grid,
            patch=patch_size(self.grid, patch),
            channels_in=2 * channels + maps.shape[1],
            channels_out=channels,
            scalars=scalars,
            scalar_features=3,
            summary=2 * scalars + pairs + statistics + vectors.shape[1] + 4 * channels,
            width=width,
            depth=depth,
            heads=heads,
        )

    map_mean: Tensor
    map_sd: Tensor
    vector_mean: Tensor
    vector_sd: Tensor
    statistic_mean: Tensor
    statistic_sd: Tensor
    data_channel: Tensor

    def _raw(self, observation: Values) -> tuple[Tensor, Tensor]:
        """Maps (B, K, *grid) on the common grid and everything else flattened, (B, V)."""
        values = {v.name: observation[v.name] for v in self.spec.observables}
        if isinstance(self.simulator, SupportsSummaries):
            values |= self.simulator.summaries(values)
        maps: list[Tensor] = []
        vectors: list[Tensor] = []
        for value in values.values():
            on_grid = self.grid and value.ndim == 2 + len(self.grid) and tuple(value.shape[2:]) == self.grid
            (maps if on_grid else vectors).append(value if on_grid else value.flatten(1))
        batch = len(next(iter(values.values())))
        device = next(iter(values.values())).device
        none_map = torch.zeros(batch, 0, *self.grid, device=device)
        none_vector = torch.zeros(batch, 0, device=device)
        return torch.cat([none_map, *maps], 1).float(), torch.cat([none_vector, *vectors], 1).float()

    def _statistics(self, maps: Tensor) -> Tensor:
        """Log power a ring, and moments, of each map: (B, S)."""
        if self.rings is None:
            return maps.new_zeros(len(maps), 0)
        modes = self.rings.transform(maps)
        power = self.rings.power(modes, modes) / self.rings.count
        centred = (maps - maps.flatten(2).mean(-1)[(..., *[None] * len(self.grid))]).flatten(2)
        variance = centred.square().mean(-1).clamp_min(1e-30)
        third = centred.pow(3).mean(-1) / variance.pow(1.5)
        log_power = torch.log(power + 1e-6 * power.mean(-1, keepdim=True) + 1e-30)
        return torch.cat([log_power.flatten(1), variance.log(), third], 1)

    def fit_maps(self, values: Values) -> None:
        """Fit all constants and the guide to M simulations of all variables."""
        self.scalar_map.fit(values)
        u = self.scalar_map.encode(values)
        maps, vectors = self._raw(values)
        for name, table in {
            "map": _pixels(maps).transpose(0, 1).flatten(1),
            "vector": vectors.T,
            "statistic": self._statistics(maps).T,
        }.items():
            if len(table):
                self.get_buffer(f"{name}_mean").copy_(table.mean(1))
                self.get_buffer(f"{name}_sd").copy_(table.std(1).clamp_min(1e-12))
        y = torch.zeros(len(u), 0, *self.grid)
        if self.field_map.channels:
            self.field_map.fit(values, u)
            y = self.field_map.encode(values, u)
            self.data_channel.copy_(_most_correlated(y, self._standard(maps)))
        condition = self.condition(values)
        self.guide.fit(u, y, self._data(condition.maps), condition.vectors)

    def _standard(self, maps: Tensor) -> Tensor:
        spread = (..., *[None] * len(self.grid))
        return (maps - self.map_mean[spread]) / self.map_sd[spread]

    def _data(self, maps: Tensor) -> Tensor:
        """The data field of each latent channel, (B, C, *grid); zero where nothing is observed."""
        if maps.shape[1] == 0:
            return maps.new_zeros(len(maps), self.field_map.channels, *self.grid)
        return maps[:, self.data_channel]

    def encode(self, values: Values) -> State:
        """Latents `(B, shape)` in working coordinates."""
        u = self.scalar_map.encode(values)
        if not self.field_map.channels:
            return u.new_zeros(len(u), 0, *self.grid), u
        return self.field_map.encode(values, u), u

    def decode(self, state: State) -> dict[str, Tensor]:
        """Working coordinates to latents."""
        field, u = state
        vectors = self.scalar_map.decode(u)
        if not self.field_map.channels:
            return vectors
        return vectors | self.field_map.decode(field, vectors, u)

    def condition(self, observation: Values) -> Condition:
        """What the network is told of observations `(B, shape)`."""
        maps, vectors = self._raw(observation)
        standard = self._standard(maps)
        data = self._data(standard)
        modes = self.guide.rings.transform(data) if self.guide.rings is not None else data.flatten(1)
        return Condition(
            standard,
            modes,
            (vectors - self.vector_mean) / self.vector_sd,
            ((self._statistics(maps) - self.statistic_mean) / self.statistic_sd).clamp(-6.0, 6.0),
        )

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
        scale_y = guess.error.clamp_min(1e-4)[(..., *[None] * len(self.grid))]
        inputs = torch.cat([field * shrink[spread], guess.field, condition.maps], 1)
        scalars = torch.stack([u * shrink[:, None], guess.mean, guess.sd.log()], -1)
        out_y, out_u = self.network(inputs, scalars, self._summary(guess, condition), log_sigma)
        return (guess.field + scale_y * out_y, guess.mean + scale_u * out_u), (scale_y, scale_u)

    def _summary(self, guess: Guess, condition: Condition) -> Tensor:
        flat = _pixels(guess.field)
        centred = flat - flat.mean(-1, keepdim=True)
        variance = centred.square().mean(-1).clamp_min(1e-12)
        moments = [variance.log(), (centred.pow(3).mean(-1) / variance.pow(1.5)).clamp(-6, 6), flat.mean(-1)]
        parts = [guess.mean, guess.sd.log(), guess.correlation, condition.statistics, condition.vectors]
        return torch.cat([*parts, *moments, guess.error.clamp_min(1e-4).log()], 1)


def _most_correlated(y: Tensor, maps: Tensor) -> Tensor:
    """For each channel of y, (M, C, *grid), the map most correlated with it: (C,)."""
    if maps.shape[1] == 0:
        return torch.zeros(y.shape[1], dtype=torch.long)
    a = y.transpose(0, 1).flatten(1)
    b = maps.transpose(0, 1).flatten(1)
    return (a @ b.T).abs().argmax(1)


def _pixels(field: Tensor) -> Tensor:
    """(B, C, *grid) -> (B, C, pixels), also where there is no grid."""
    return field.flatten(2) if field.ndim > 2 else field[..., None]


def simulator_probe(simulator: Simulator, spec: Spec) -> Values:
    """Zeros in the shape of one observation: tells which summaries there are without simulating."""
    return {v.name: torch.zeros(1, *v.shape) for v in spec.observables if isinstance(v, Vector | Field)}
