"""What MIRA and TARP judge: closeness ranks of truth and draws, for both kinds of centres and every block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from sbikit import Evidence, derive_seed
from sbikit_calibration.coverage.centres import data_centres, prior_centres
from sbikit_calibration.coverage.distance import Centres, check_evidence, excesses, ranks

_DATA_CENTRES = "_data_centres"


@dataclass(frozen=True)
class Ranked:
    """The ranks of one block.

    Args:
        name: the metric's name, which says the kind of centres.
        block: a latent's name, or "joint".
        ranks: closeness ranks of truth (entry 0) and draws, (B, K, n + 1).
    """

    name: str
    block: str
    ranks: Tensor

    @property
    def closer(self) -> Tensor:
        """Draws closer to the centre than the truth, (B, K)."""
        return self.ranks[..., 0]

    @property
    def regions(self) -> str:
        """Which regions of parameters and fields are looked at, in words."""
        near = self.name.endswith(_DATA_CENTRES)
        return f"regions around {'points predicted from the data' if near else 'random points of the prior'}"

    @property
    def draws(self) -> int:
        """n."""
        return self.ranks.shape[-1] - 1


def places(evidence: Evidence, count: int, seed: int) -> dict[str, Centres]:
    """Where distances are measured from: the end of a metric's name -> `count` centres an observation.

    Prior centres have no such end, data centres have "_data_centres"; the seed fixes both.
    """
    return {
        "": prior_centres(evidence, count, derive_seed(seed, "prior")),
        _DATA_CENTRES: data_centres(evidence, count, derive_seed(seed, "data")),
    }


def closeness(name: str, evidence: Evidence, centres: Mapping[str, Centres], seed: int) -> Iterator[Ranked]:
    """Ranks of every block for every kind of centres, as `places` gives them; the seed decides on ties."""
    found = excesses(evidence, list(centres.values()))
    for end, kind in zip(centres, found, strict=True):
        for block, excess in kind.items():
            yield Ranked(name + end, block, ranks(excess, derive_seed(seed, "ties", name + end, block)))


def ranked(name: str, evidence: Evidence, centres: int, seed: int) -> Iterator[Ranked]:
    """Ranks for prior centres under `name`, for data centres under `name`_data_centres.

    Args:
        name: the metric's name.
        evidence: what is judged.
        centres: how many an observation, of each kind.
        seed: fixes the centres, and how ties fall.

    Raises:
        SpecError: the evidence is too small or of the wrong shape.
    """
    check_evidence(evidence)
    return closeness(name, evidence, places(evidence, centres, seed), seed)
