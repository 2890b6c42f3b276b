"""One repeat: exact evidence is drawn once and spoiled in every way, and each validator judges each case.

mira and tarp measure distances from centres that depend on simulations and data alone, so the centres of all
cases are made once, and both validators share them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from _power.spoilings import SPOILINGS
from _power.toy import exact_evidence
from sbikit import Evidence, Metric, derive_seed, generator
from sbikit_calibration.coverage.distance import Centres
from sbikit_calibration.coverage.mira import Mira
from sbikit_calibration.coverage.ranked import closeness, places
from sbikit_calibration.coverage.tarp import Tarp
from sbikit_calibration.ranks.intervals import Coverage
from sbikit_calibration.ranks.sbc import Sbc

VALIDATORS = ("sbc", "coverage", "mira", "tarp")


def repeat(seed: int, observations: int, draws: int) -> dict[str, dict[str, list[str]]]:
    """Case -> validator -> the figures that raised an alarm; validators without one are left out."""
    torch.set_num_threads(1)
    evidence = exact_evidence(observations, draws, derive_seed(seed, "evidence"))
    made = places(evidence, Mira().options.centres, derive_seed(seed, "centres"))
    centres = {end: _kept(one, evidence) for end, one in made.items()}
    found = {}
    for case, spoil in SPOILINGS.items():
        wrong = spoil(evidence, generator(derive_seed(seed, "spoil", case)))
        alarms = {name: _alarms(metrics) for name, metrics in _judged(wrong, centres, seed).items()}
        found[case] = {name: failed for name, failed in alarms.items() if failed}
    return found


def _judged(evidence: Evidence, centres: dict[str, Centres], seed: int) -> dict[str, Iterable[Metric]]:
    """Every validator's figures."""
    ranked = list(closeness("mira", evidence, centres, derive_seed(seed, "distances")))
    renamed = [replace(one, name=one.name.replace("mira", "tarp")) for one in ranked]
    return {
        "sbc": Sbc().validate(evidence, seed=derive_seed(seed, "sbc")).metrics,
        "coverage": Coverage().validate(evidence, seed=derive_seed(seed, "coverage")).metrics,
        "mira": Mira().judge(ranked),
        "tarp": Tarp().judge(renamed, derive_seed(seed, "tarp")),
    }


def _alarms(metrics: Iterable[Metric]) -> list[str]:
    return [f"{metric.name} of {metric.variable}" for metric in metrics if metric.verdict == "fail"]


def _kept(centres: Centres, evidence: Evidence) -> Centres:
    """The same centres, computed once."""
    B = len(evidence.truth["theta"])
    kept: dict[str, list[Tensor]] = {
        v.name: [centres(v.name, b) for b in range(B)] for v in evidence.spec.latents
    }
    return lambda name, b: kept[name][b]
