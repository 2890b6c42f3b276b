"""The constants of a denoiser and its guide, fitted to simulations that come in parts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sbikit import Monitor, QuietMonitor, Values, derive_seed, generator
from sbikit.learning import Parts, Spill
from sbikit_transformer.bend_choice import DATA, choose_bends
from sbikit_transformer.conditions import MAPS, VECTORS, alien
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.guide import Guide
from sbikit_transformer.levels import NARROW, TrainingLevels
from sbikit_transformer.linear_guide import LinearGuide
from sbikit_transformer.transforms import WHITE

# Simulations, at most, whose guesses tell how narrow fields are, and a level of noise, in standard deviations
# of a field, that leaves the data alone to tell.
_JUDGES = 256
_PURE_NOISE = 150.0
# Simulations that tell which map goes with which channel: at 128 pixels a side 10^7 pixels a channel.
_CORRELATED = 1024
_TINY = 1e-30  # keeps the correlation with a map that is zero everywhere finite


def fit_constants(
    denoiser: Denoiser,
    simulations: Iterable[Values],
    folder: Path | None = None,
    monitor: Monitor | None = None,
) -> None:
    """Fit all constants of a denoiser and its guide.

    Args:
        denoiser: on the CPU.
        simulations: of all variables, each (m, *shape), in parts.
        folder: for files of what does not fit in memory.
        monitor: hears how far each pass through such files is.
    """
    with Spill(folder, monitor=monitor, title="fitting the Gaussian guide") as spill:
        for values in simulations:
            latents = {v.name: values[v.name] for v in denoiser.spec.latents}
            spill.add(latents | denoiser.data_map.seen(values))
        _Constants(denoiser, spill, monitor or QuietMonitor()).fit()


class _Constants:
    """Of a denoiser, from simulations' latents and from what is seen of their data."""

    def __init__(self, denoiser: Denoiser, spill: Spill, monitor: Monitor) -> None:
        self._denoiser, self._spill, self._monitor = denoiser, spill, monitor
        self._vectors = [v.name for v in denoiser.spec.vectors]

    def fit(self) -> None:
        denoiser = self._denoiser
        denoiser.coordinates.fit_parts(self._spill.parts(*self._vectors))
        denoiser.data_map.fit(self._spill.parts(MAPS, VECTORS))
        known = self._spill.parts(*self._vectors, MAPS, VECTORS).through(self._known).joined()
        denoiser.first_law.fit(known["u"], known["vectors"])
        if denoiser.guide is not None:
            self._fit_guide(denoiser.guide)
        self._fit_statistics()

    def _fit_guide(self, guide: Guide | LinearGuide) -> None:
        """The coordinates of the field, and the guide."""
        field_map = self._denoiser.field_map
        latents = self._spill.parts(*(v.name for v in self._denoiser.spec.latents)).through(self._with_white)
        field_map.fit(latents)
        some = self._spill.parts().up_to(_CORRELATED)
        self._denoiser.data_channel.copy_(_most_correlated(some.through(self._clean)))
        if field_map.declared and isinstance(guide, Guide):
            choose_bends(field_map, self._spill.parts().through(self._with_data), guide.rings)
            field_map.fit_scale(latents)
        known = self._spill.parts().through(self._guided)
        guide.fit(known, self._denoiser.first_law)
        if isinstance(guide, Guide):
            guide.fit_missing(known, self._monitor)
        self._fit_low_level(guide, self._spill.parts().up_to(_JUDGES).through(self._guided).joined())

    def _fit_low_level(self, guide: Guide | LinearGuide, part: Values) -> None:
        """How far down levels must go for the narrowest field that the guide sees."""
        varying = self._denoiser.field_map.vary()
        vary = torch.tensor([bool(pixels.any()) for pixels in varying], dtype=torch.bool)
        noise = generator(derive_seed(0, "denoiser", "low"))
        y = _PURE_NOISE * torch.randn(part["field"].shape, generator=noise)
        sigma = torch.full((len(y),), _PURE_NOISE)
        modes = guide.told(part["data"])
        error = guide(y, part["u"], modes, part["vectors"], sigma).error[:, vary]
        narrowest = float(error.quantile(NARROW, 0).min()) if error.numel() else 1.0
        self._denoiser.low[1] = TrainingLevels.resolving(narrowest, with_field=True).low

    def _fit_statistics(self) -> None:
        """Scales of all statistics, and how alien the strangest simulation is."""
        denoiser, parts = self._denoiser, self._spill.parts(*self._vectors, MAPS, VECTORS)
        guided = denoiser.guided_statistics

        def power(part: Values) -> dict[str, Tensor]:
            assert guided is not None
            maps, _ = denoiser.data_map.maps_and_vectors(part)
            return {"u": denoiser.coordinates.encode(part), "power": guided.power(denoiser.modes(maps))}

        def unscaled(part: Values) -> dict[str, Tensor]:
            maps, vectors = denoiser.data_map.maps_and_vectors(part)
            return {"vectors": vectors} | denoiser.unscaled(maps, denoiser.modes(maps))

        if guided is not None:
            guided.fit_power(**parts.through(power).joined())
        found = parts.through(unscaled).joined()
        denoiser.data_map.statistics.fit(found["statistics"])
        if guided is not None:
            guided.scale.fit(found["of_map"])
        strange = alien(found["vectors"], denoiser.scaled(found)).amax(0)
        denoiser.data_map.most_alien.copy_(strange)

    def _with_white(self, latents: Values) -> dict[str, Tensor]:
        return {**latents, WHITE: self._denoiser.coordinates.encode(latents)}

    def _with_data(self, part: Values) -> dict[str, Tensor]:
        """Latents, white scalars, and the data field of each channel."""
        maps, _ = self._denoiser.data_map.maps_and_vectors(part)
        latents = self._with_white({v.name: part[v.name] for v in self._denoiser.spec.latents})
        return latents | {DATA: self._denoiser.data(maps)}

    def _known(self, part: Values) -> dict[str, Tensor]:
        """Scalars and observed vectors."""
        _, vectors = self._denoiser.data_map.maps_and_vectors(part)
        return {"u": self._denoiser.coordinates.encode(part), "vectors": vectors}

    def _clean(self, part: Values) -> dict[str, Tensor]:
        """Simulations as the guide knows them, but for the data field."""
        field, u = self._denoiser.encode(part)
        maps, vectors = self._denoiser.data_map.maps_and_vectors(part)
        return {"u": u, "field": field, "maps": maps, "vectors": vectors}

    def _guided(self, part: Values) -> dict[str, Tensor]:
        """What the guide is fitted to."""
        clean = self._clean(part)
        return {**clean, "data": self._denoiser.data(clean.pop("maps"))}


def _most_correlated(parts: Parts) -> Tensor:
    """For each channel of "field" (m, C, *grid) one of the "maps" (m, K, *grid), none twice, so that their
    correlations are largest together: (C,), -1 where there is none left.
    """
    products, own = [], []
    for part in parts:
        a, b = (part[name].transpose(0, 1).flatten(1) for name in ("field", "maps"))
        products.append(a @ b.T)
        own.append(b.square().sum(1))
    total, power = torch.stack(products).sum(0), torch.stack(own).sum(0)
    channel, found = linear_sum_assignment((total.abs() * (power + _TINY).rsqrt()).numpy(), maximize=True)
    which = torch.full((len(total),), -1)
    which[channel] = torch.from_numpy(found)
    return which
