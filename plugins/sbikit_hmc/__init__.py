"""NUTS on the exact log density, for every simulator that has one."""

from __future__ import annotations

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_samplers() -> list[Offer]:
    """The sampler on offer."""
    return [
        Offer(
            "hmc",
            "sbikit_hmc.sampler:HMC",
            "the No-U-Turn sampler on the simulator's exact log density",
            extra="nuts",
        )
    ]
