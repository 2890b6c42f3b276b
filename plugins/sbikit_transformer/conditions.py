"""What the network is told of an observation: standardised maps, vectors and statistics of the maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from sbikit import Simulator, Spec, Values
from sbikit.fields import Rings, Scales
from sbikit.learning import Parts, PrincipalComponents, Standardise, seen_by_networks
from sbikit_transformer.grids import Grids
from sbikit_transformer.map_kinds import MapKinds, by_modes
from sbikit_transformer.normal import Mixture

# Standard deviations. Observations unlike all training simulations are told as no further than that: a
# larger value lets them drive the network where it was never trained, a smaller one hides what real maps
# tell.
FARTHEST = 6.0
_TINY = 1e-30  # keeps logarithm and quotient of a map that is zero everywhere finite
# Of maps that are not stationary: they tell where things are. More cost a larger summary token, and memory.
_COMPONENTS = 64

# Numbers of vectors, and of fields without a place on the grid, above which their leading components are
# told: laws that are linear in N numbers take memory as N^2.
_MOST_NUMBERS, _LEADING = 2048, 256

# Of wave numbers, equal parts of log |k|, where there are many maps: each number that is told costs what the
# law learns of all. Of the 2,685 of five bins on 128 x 128 periodic pixels 1,575 were power a ring: without
# these the law of six parameters gains .152 +- .005 nats from 54,000 simulations.
BANDS = 12

# What is read of observations; no names of variables.
MAPS, VECTORS = "seen/maps", "seen/vectors"


@dataclass(frozen=True)
class Condition:
    """What the networks are told of B observations.

    Args:
        maps: (B, K, *grid) observed fields and summaries, standardised.
        modes: what the guide is told of the data field of each latent channel, (B, ...).
        vectors: (B, V) observed vectors, and components of maps that are not stationary, standardised.
        statistics: (B, S) spectra of stationary maps and moments of the maps, standardised.
        components: (B, R) combinations of these two that tell most of the scalars, standardised.
        alien: (B, 2) how many of the vectors' numbers and how many statistics lie further from the training
            simulations than the network is told.
        law: of the scalars, given all of these.
        moments: its means, log standard deviations and correlations, (B, 2 P + P (P - 1) / 2).
    """

    maps: Tensor
    modes: Tensor
    vectors: Tensor
    statistics: Tensor
    components: Tensor
    alien: Tensor
    law: Mixture
    moments: Tensor

    @property
    def told(self) -> Tensor:
        """Vectors and statistics, (B, V + S)."""
        return torch.cat([self.vectors, self.statistics], 1)

    def repeat(self, n: int) -> Condition:
        """Each observation n times in a row: (B n, ...)."""
        return self._each(lambda part: part.repeat_interleave(n, 0))

    def rows(self, part: slice) -> Condition:
        """Some of the observations."""
        return self._each(lambda value: value[part])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Condition:
        changed = {part.name: change(getattr(self, part.name)) for part in fields(self) if part.name != "law"}
        return Condition(**changed, law=Mixture(*map(change, self.law.parts())))


class DataMap(nn.Module):
    """Observations to standardised maps (B, K, *grid), vectors (B, V) and statistics (B, S).

    Maps have one scale a channel where the guide looks at their modes, else one a pixel.

    Args:
        simulator: may know summaries.
        spec: names the observed variables.
        grids: the network's grid, and what becomes of fields that have another.
        guided: whether statistics of the guide's map stand beside these, and the power of what it is told: of
            the maps themselves then no statistics at several scales are told, and their power in few bands.
    """

    def __init__(self, simulator: Simulator, spec: Spec, grids: Grids, *, guided: bool = False) -> None:
        super().__init__()
        self.simulator, self.spec, self._grids, self.grid = simulator, spec, grids, grids.grid
        grid = grids.grid
        # Zeros in the shape of one observation tell what there is to see without simulating.
        maps, vectors = self._read({v.name: torch.zeros(1, *v.shape) for v in spec.observables})
        self.kinds = MapKinds.of(simulator, spec, grids)
        self.rings = _rings(grid, few=guided) if any(self.kinds.stationary) else None
        looked_at = not guided and maps.shape[1] > 0
        self.scales = Scales(grid, periodic=self.kinds.looked_at_periodic()) if looked_at else None
        placed = not all(self.kinds.stationary)
        self.maps = Standardise(maps.shape[1], *(grid if placed and not by_modes(spec.fields) else ()))
        # What finer fields have beside means of blocks is mostly noise: it has components of its own, so that
        # it takes none of the others.
        coarse = maps[0, self._finer(False)].numel() if placed else 0
        fine = maps[0, self._finer(True)].numel() if placed else 0
        self.components = PrincipalComponents(coarse, _COMPONENTS)
        self.finer_components = PrincipalComponents(fine, _COMPONENTS) if fine else None
        numbers = vectors.shape[1]
        self.leading = _Leading(numbers) if numbers > _MOST_NUMBERS else None
        told = numbers if self.leading is None else self.leading.components.count
        more = 0 if self.finer_components is None else self.finer_components.count
        self.vectors = Standardise(told + self.components.count + more)
        self.statistics = Standardise(self.unscaled(maps).shape[1])
        # Of the training simulations, of vectors and of statistics: how alien the strangest of them is.
        self.register_buffer("most_alien", torch.zeros(2))

    most_alien: Tensor

    def fit(self, seen: Parts) -> None:
        """Set the scales of maps and vectors from simulations, see `seen`; `statistics` has its own."""
        self.maps.fit_parts(seen.each(MAPS))
        if self.components.count:
            self.components.fit_parts(self._flat(maps, False) for maps in seen.each(MAPS))
        if self.finer_components is not None:
            self.finer_components.fit_parts(self._flat(maps, True) for maps in seen.each(MAPS))
        if self.leading is not None:
            self.leading.fit(seen)

        def with_components(part: Values) -> dict[str, Tensor]:
            return {VECTORS: self._with_components(part[VECTORS], self.maps(part[MAPS]))}

        self.vectors.fit(seen.through(with_components).joined()[VECTORS])

    def seen(self, observation: Values) -> dict[str, Tensor]:
        """What is read of observations (B, *shape): `MAPS` (B, K, *grid) and `VECTORS` (B, V)."""
        maps, vectors = self._read(observation)
        return {MAPS: maps, VECTORS: vectors}

    def maps_and_vectors(self, seen: Values) -> tuple[Tensor, Tensor]:
        """Of what was read of observations, standardised maps and vectors."""
        maps = self.maps(seen[MAPS])
        return maps, self.vectors(self._with_components(seen[VECTORS], maps))

    def _with_components(self, vectors: Tensor, maps: Tensor) -> Tensor:
        """Vectors (B, V), or what leads in many of them, and beside these the components of standardised maps
        (B, K, *grid).
        """
        if self.leading is not None:
            vectors = self.leading(vectors)
        if not self.components.count:
            return vectors
        found = [vectors, self.components(maps[:, self._finer(False)].flatten(1))]
        if self.finer_components is not None:
            found.append(self.finer_components(maps[:, self._finer(True)].flatten(1)))
        return torch.cat(found, 1)

    def _finer(self, finer: bool) -> list[int]:
        """Which maps are what finer fields have beside means of blocks, or which are not."""
        return [i for i, one in enumerate(self.kinds.finer) if one == finer]

    def _flat(self, maps: Tensor, finer: bool) -> Tensor:
        """Standardised maps of either kind, (B, numbers)."""
        return self.maps(maps)[:, self._finer(finer)].flatten(1)

    def _read(self, observation: Values) -> tuple[Tensor, Tensor]:
        """Maps (B, K, *grid) on the network's grid and everything else flattened, (B, V)."""
        seen = seen_by_networks(self.simulator, self.spec, observation)
        placed = {name: self._grids.maps(name, value) for name, value in seen.items()}
        some = next(iter(seen.values()))
        maps = [value for value in placed.values() if value is not None]
        vectors = [value.flatten(1) for name, value in seen.items() if placed[name] is None]
        no_map, no_vector = some.new_zeros(len(some), 0, *self.grid), some.new_zeros(len(some), 0)
        return torch.cat([no_map, *maps], 1), torch.cat([no_vector, *vectors], 1)

    def unscaled(self, maps: Tensor) -> Tensor:
        """Of standardised maps (B, K, *grid) mean, log variance and skewness, what they look like at several
        scales, and log power a ring where they are stationary: (B, S), not standardised by `statistics` yet.
        """
        if not maps.shape[1]:
            return maps.new_zeros(len(maps), 0)
        centred = (maps - maps.flatten(2).mean(-1)[(..., *[None] * len(self.grid))]).flatten(2)
        variance = centred.square().mean(-1).clamp_min(_TINY)
        skewness = centred.pow(3).mean(-1) / variance.pow(1.5)
        moments = [variance.log(), skewness, maps.flatten(2).mean(-1)]
        if self.scales is not None:
            moments.append(self.scales(maps[:, list(self.kinds.looked_at)]))
        if self.rings is None:
            return torch.cat(moments, 1)
        log_power = self.rings.log_power(self.rings.transform(self.kinds.for_spectra(maps)))
        return torch.cat([log_power.flatten(1), *moments], 1)


class _Leading(nn.Module):
    """Leading components of many numbers (B, N), each in units of its own."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.scale = Standardise(numbers)
        self.components = PrincipalComponents(numbers, _LEADING)

    def fit(self, seen: Parts) -> None:
        """Fit to the `VECTORS` of simulations."""
        self.scale.fit_parts(seen.each(VECTORS))
        self.components.fit_parts(self.scale(part) for part in seen.each(VECTORS))

    def forward(self, numbers: Tensor) -> Tensor:
        """(B, components)."""
        found: Tensor = self.components(self.scale(numbers))
        return found


def _rings(grid: tuple[int, ...], *, few: bool) -> Rings:
    return Rings.logarithmic(grid, tuple(map(float, grid)), BANDS) if few else Rings.shells(grid)


def alien(vectors: Tensor, statistics: Tensor) -> Tensor:
    """How many numbers of each lie further from the simulations than networks are told, (B, 2)."""
    return torch.stack([(part.abs() > FARTHEST).sum(1) for part in (vectors, statistics)], 1)


def bounded(vectors: Tensor, statistics: Tensor) -> Tensor:
    """What the law is told of data, (B, W)."""
    return torch.cat([vectors, statistics], 1).clamp(-FARTHEST, FARTHEST)
