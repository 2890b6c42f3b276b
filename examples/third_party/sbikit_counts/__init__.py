"""Offers the simulator `counts` to sbikit."""

from __future__ import annotations

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_simulators() -> list[Offer]:
    return [
        Offer("counts", "sbikit_counts.simulator:Counts", "random counts in cells of an unseen intensity")
    ]
