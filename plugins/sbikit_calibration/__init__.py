"""Calibration: are truths distributed as the posterior says?"""

from __future__ import annotations

from sbikit import Offer, hookimpl


@hookimpl
def sbikit_validators() -> list[Offer]:
    """MIRA and TARP."""
    return [
        Offer("mira", "sbikit_calibration.mira:Mira", "MIRA score of parameters, fields and their joint"),
        Offer("tarp", "sbikit_calibration.tarp:Tarp", "TARP expected coverage with an exact null"),
    ]
