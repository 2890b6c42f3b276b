"""Options of the validators of truths; they load no torch."""

from __future__ import annotations

from typing import Self

from pydantic import Field as Option
from pydantic import model_validator

from sbikit import Options

ALPHA = {"sbc": 0.004, "coverage": 0.002, "mira": 0.002, "tarp": 0.002}
"""The share of false alarms of each; ranks see most (docs/results/power.md) and get most."""

DESCRIPTION = "probability of an alarm where the posterior is exact, all verdicts together"


class SbcOptions(Options):
    """Options of `Sbc`."""

    alpha: float = Option(default=ALPHA["sbc"], gt=0, lt=1, description=DESCRIPTION)
    # The joint test has a quarter of alpha: at .001 a p-value of 4000 replacements is known to half of it.
    null_draws: int = Option(
        default=4000, ge=100, le=1_000_000, description="replacements of the truth that make the joint null"
    )


class CoverageOptions(Options):
    """Options of `Coverage`."""

    alpha: float = Option(default=ALPHA["coverage"], gt=0, lt=1, description=DESCRIPTION)


class MiraOptions(Options):
    """Options of `Mira`."""

    # Of 200 observations of a map with 16^2 pixels the error is .0058 with 1 centre, .0037 with 8 and .0035
    # with 64: what is left is what the centres of one observation share.
    centres: int = Option(default=8, ge=1, le=1000, description="centres an observation, of each kind")
    alpha: float = Option(default=ALPHA["mira"], gt=0, lt=1, description=DESCRIPTION)


class TarpOptions(Options):
    """Options of `Tarp`."""

    # What more centres bring is at `MiraOptions`.
    centres: int = Option(default=8, ge=1, le=1000, description="references an observation, of each kind")
    alpha: float = Option(default=ALPHA["tarp"], gt=0, lt=1, description=DESCRIPTION)
    null_draws: int = Option(
        default=4000,
        ge=100,
        le=1_000_000,
        description="replacements of the truth that make the null; more are made where few are as far off",
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.alpha * (1 + self.null_draws) < 1:
            raise ValueError("no p-value can fall below alpha: raise null_draws above 1/alpha")
        return self
