"""Simulation-based calibration: ranks of truths among draws, of parameters, of maps, of their dependence.

arXiv:1804.06788, with the data-dependent quantities of arXiv:2211.02383. `quantities` says what is ranked,
`scores` how ranks are tested, `together` holds the joint test.

Ranks of one quantity see what random distances of many (MIRA, TARP) average away: a shift of a third of a
posterior sd in one parameter, maps of too little skewness. They do not see whether the data were used: the
prior's draws have uniform ranks, too. MIRA and TARP with centres made from the data see that, and the
contraction says how much was learned.

Verdicts: the joint test and each family of quantities (parameters, fields, dependence) have an equal share of
`alpha`, so that many statistics of many maps do not blunt the tests of few parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

from sbikit import Curve, Evidence, Metric, Report, Validator, derive_seed
from sbikit_calibration.alarms import judged
from sbikit_calibration.coverage.distance import JOINT, check_evidence
from sbikit_calibration.options import SbcOptions
from sbikit_calibration.ranks.figures import Ranked
from sbikit_calibration.ranks.quantities import Family, quantities
from sbikit_calibration.ranks.reach import reach
from sbikit_calibration.ranks.together import joint

_REFERENCES = ("arXiv:1804.06788", "arXiv:2211.02383", "arXiv:2110.12012")
_FAMILIES: tuple[Family, ...] = ("parameters", "fields", "dependence")
_MOST_CURVES = 12  # panels of the figure: four rows of three


class Sbc(Validator[SbcOptions]):
    """Ranks of parameters, of statistics of fields, and of their dependence."""

    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        """Shift, spread and outliers of every quantity, the joint test, and curves of the ranks.

        Raises:
            SpecError: the evidence is too small or of the wrong shape.
        """
        check_evidence(evidence)
        found = [
            Ranked.of(one, derive_seed(seed, "ties", one.name, one.variable)) for one in quantities(evidence)
        ]
        families = {
            family: [one for one in found if one.quantity.family == family]
            for family in _FAMILIES
            if any(one.quantity.family == family for one in found)
        }
        share = self.options.alpha / (len(families) + 1)
        metrics = judged([self._together(found, derive_seed(seed, "joint"))], share)
        for members in families.values():
            metrics += judged([metric for one in members for metric in one.metrics], share)
        sees = [phrase for family, members in families.items() for phrase in _sees(family, members, share)]
        return Report("sbc", tuple(metrics), _curves(found), _REFERENCES, tuple(sees))

    def _together(self, found: Sequence[Ranked], seed: int) -> Metric:
        spreads = [not one.of_dependence for one in found]
        all_ranks = joint([one.ranks for one in found], spreads, self.options.null_draws, seed)
        return Metric(
            "all_ranks",
            JOINT,
            all_ranks.value,
            all_ranks.error,
            all_ranks.ideal,
            "none",
            "mean squared departure of all ranks from uniformity, in units of its expectation",
            p=all_ranks.p,
        )


def _sees(family: Family, members: Sequence[Ranked], share: float) -> tuple[str, ...]:
    """What the tests of a family would have seen, each at the p-value that alone raises an alarm."""
    tested = sum(len(one.metrics) for one in members)
    found = reach(members[0].draws, len(members[0].truth), share / tested)
    if family == "parameters":
        return found.of_a_parameter()
    return found.of_a_map() if family == "fields" else ()


def _curves(found: Sequence[Ranked]) -> tuple[Curve, ...]:
    """Of the parameters, then of the fields' statistics, those first that are farthest off; 12 in all."""
    drawn = [one for one in found if one.quantity.family == "parameters"]
    statistics = [one for one in found if one.quantity.family == "fields"]
    drawn += sorted(statistics, key=lambda one: one.least_p)
    return tuple(one.curve() for one in drawn[:_MOST_CURVES])
