"""What is known of each map that the network sees: whether one place is like another, whether it closes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sbikit import Field, Simulator, Spec
from sbikit.fields import tapered
from sbikit.learning import seen_by_networks
from sbikit_transformer.grids import Grids


def by_modes(fields: Sequence[Field]) -> bool:
    """Whether latent fields are all alike everywhere, so that the guide looks at them mode by mode."""
    return bool(fields) and all(field.stationary for field in fields)


@dataclass(frozen=True)
class MapKinds:
    """Facts about K maps, channel by channel.

    Args:
        stationary: of each.
        periodic: of each.
        looked_at: of each, whether its statistics at several scales are told: of summaries that estimate a
            latent field, where there are such, else of all.
        finer: of each, whether it is what a finer field has beside the means of its blocks.
        axes: of the grid.
    """

    stationary: tuple[bool, ...]
    periodic: tuple[bool, ...]
    looked_at: tuple[bool, ...]
    finer: tuple[bool, ...]
    axes: int

    @staticmethod
    def of(simulator: Simulator, spec: Spec, grids: Grids) -> MapKinds:
        """Of the maps on the network's grid, in the order of `seen_by_networks`; nothing is known of those
        that are not declared.
        """
        zeros = {v.name: torch.zeros(1, *v.shape) for v in spec.observables}
        stationary: list[bool] = []
        periodic: list[bool] = []
        estimates: list[bool] = []
        finer: list[bool] = []
        for name, value in seen_by_networks(simulator, spec, zeros).items():
            if (maps := grids.maps(name, value)) is not None:
                known = grids.fields.get(name)
                stationary += [known is not None and known.stationary] * maps.shape[1]
                periodic += [known is not None and known.periodic] * maps.shape[1]
                estimates += [known is not None and bool(known.estimates)] * maps.shape[1]
                finer += [i >= value.shape[1] for i in range(maps.shape[1])]
        looked_at = estimates if any(estimates) else [True] * len(estimates)
        return MapKinds(tuple(stationary), tuple(periodic), tuple(looked_at), tuple(finer), len(grids.grid))

    def looked_at_periodic(self) -> bool:
        """Whether all maps that are looked at close on themselves."""
        return all(p for p, looked in zip(self.periodic, self.looked_at, strict=True) if looked)

    def for_spectra(self, maps: Tensor) -> Tensor:
        """The stationary ones of maps (B, K, *grid); what does not close on itself is tapered."""
        kept = [
            maps[:, i] if self.periodic[i] else tapered(maps[:, i], self.axes)
            for i, stationary in enumerate(self.stationary)
            if stationary
        ]
        return torch.stack(kept, 1) if kept else maps[:, :0]
