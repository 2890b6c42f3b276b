"""Calibration: are truths distributed as the posterior says, and are draws those of an exact sampler?"""

from __future__ import annotations

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_validators() -> list[Offer]:
    """MIRA, TARP and agreement with an exact sampler."""
    return [
        Offer("mira", "sbikit_calibration.mira:Mira", "MIRA score of parameters, fields and their joint"),
        Offer("tarp", "sbikit_calibration.tarp:Tarp", "TARP expected coverage with an exact null"),
        Offer(
            "agreement",
            "sbikit_calibration.agreement:Agreement",
            "distance from the draws of an exact sampler (with --reference)",
        ),
    ]
