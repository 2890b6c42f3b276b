"""Calibration: are truths distributed as the posterior says, and are draws those of an exact sampler?

`coverage` holds the tests against truths (MIRA, TARP), `agreement` the comparison with an exact sampler.
"""

from __future__ import annotations

from sbikit import Offer, hookimpl

_MIRA = "sbikit_calibration.coverage.mira:Mira"
_TARP = "sbikit_calibration.coverage.tarp:Tarp"
_AGREEMENT = "sbikit_calibration.agreement.validator:Agreement"


@hookimpl
def sbikit_validators() -> list[Offer]:
    """MIRA, TARP and agreement with an exact sampler."""
    return [
        Offer("mira", _MIRA, "MIRA score of parameters, fields and their joint"),
        Offer("tarp", _TARP, "TARP expected coverage with an exact null"),
        Offer(
            "agreement",
            _AGREEMENT,
            "distance from the draws of an exact sampler (with --reference)",
            with_reference=True,
        ),
    ]
