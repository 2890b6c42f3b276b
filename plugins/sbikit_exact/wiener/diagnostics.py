"""Can draws by rejection be trusted?"""

from __future__ import annotations

from dataclasses import dataclass

from sbikit import Reading, Trust
from sbikit_exact.wiener.rejection import LEAST_ACCEPTED

MOST_EXCESS, LARGEST = 0.005, 0.01  # see `RejectionDiagnostics.complaints`


@dataclass(frozen=True)
class RejectionDiagnostics:
    """How far the draws for one observation can be trusted.

    Args:
        excess: share of the posterior's mass above the bound on the weights: the draws' density is at most
            this far from the posterior in total variation.
        ess: effective number of the points that the draws were accepted from.
        largest: the largest of their weights, as a share of all.
        evaluations: parameter vectors at which the likelihood was evaluated, the shared ones included.
        seconds: wall time, without what observations share.
    """

    excess: float
    ess: float
    largest: float
    evaluations: int
    seconds: float

    @property
    def complaints(self) -> tuple[str, ...]:
        """What forbids trust, with the limit that it misses.

        Wanted is an excess of at most 0.005, which moves no probability by more, no Kolmogorov-Smirnov
        distance by more, and a classifier's accuracy by at most half as much; from points that make up at
        least 400 effective ones and none of which carries 1 %, so that the excess is known.
        """
        found = {
            f"{self.excess:.2g} of the posterior lies above the bound on the weights "
            f"(wanted at most {MOST_EXCESS:g})": not self.excess <= MOST_EXCESS,
            f"{self.ess:.0f} effective points (wanted at least {LEAST_ACCEPTED})": (
                not self.ess >= LEAST_ACCEPTED
            ),
            f"largest weight {self.largest:.2g} (wanted at most {LARGEST:g})": not self.largest <= LARGEST,
        }
        return tuple(text for text, missed in found.items() if missed)

    def trust(self) -> Trust:
        """The same as every sampler says it."""
        readings = (
            Reading("mass above the bound", self.excess, MOST_EXCESS),
            Reading("effective points", self.ess, LEAST_ACCEPTED, "lower"),
            Reading("largest weight", self.largest, LARGEST),
            Reading("likelihoods", self.evaluations),
            Reading("seconds", self.seconds),
        )
        return Trust(not self.complaints, readings, self.complaints)
