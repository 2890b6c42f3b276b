"""Calibration: are truths distributed as the posterior says, and are draws those of an exact sampler?

`ranks` holds the tests of ranks (sbc, coverage), `coverage` those of distances (MIRA, TARP), `agreement` the
comparison with an exact sampler; `alarms` corrects verdicts for their number.
"""

from __future__ import annotations

from sbikit import Offer, hookimpl

_OPTIONS = "sbikit_calibration.options"
_SBC = "sbikit_calibration.ranks.sbc:Sbc"
_COVERAGE = "sbikit_calibration.ranks.intervals:Coverage"
_MIRA = "sbikit_calibration.coverage.mira:Mira"
_TARP = "sbikit_calibration.coverage.tarp:Tarp"
_AGREEMENT = "sbikit_calibration.agreement.validator:Agreement"


@hookimpl
def sbikit_validators() -> list[Offer]:
    """Ranks, intervals, MIRA, TARP and agreement with an exact sampler."""
    return [
        Offer(
            "sbc",
            _SBC,
            "ranks of parameters, map statistics and their dependence, with a joint test",
            options=f"{_OPTIONS}:SbcOptions",
        ),
        Offer(
            "coverage",
            _COVERAGE,
            "coverage of 68 and 95 % intervals of parameters and pixels",
            options=f"{_OPTIONS}:CoverageOptions",
        ),
        Offer(
            "mira",
            _MIRA,
            "MIRA score of parameters, fields and their joint",
            options=f"{_OPTIONS}:MiraOptions",
        ),
        Offer("tarp", _TARP, "TARP expected coverage with an exact null", options=f"{_OPTIONS}:TarpOptions"),
        Offer(
            "agreement",
            _AGREEMENT,
            "distance from the draws of an exact sampler (with --reference)",
            with_reference=True,
            options="sbikit_calibration.agreement.options:AgreementOptions",
        ),
    ]
