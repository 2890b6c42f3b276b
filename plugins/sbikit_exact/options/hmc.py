"""Options of `hmc`."""

from __future__ import annotations

from typing import Self

from pydantic import Field as Option
from pydantic import model_validator

from sbikit import Options
from sbikit_exact.options import shared

# Fewer transitions than Stan's 1,000 and 1,000: coordinates that are made for sampling leave little to learn,
# and of 4 x 400 transitions one in four must be worth a draw; who is not there yet doubles them.
_WARMUP, _DRAWS, _DOUBLINGS = 200, 400, 4
# Paths of 2.5 radians, each times a u in [1/2, 3/2], turn a normal coordinate past its far side: its
# autocorrelation is -.61, that of its square .53. Shorter ones cost less and mix less.
_PATH = 2.5
# More than the .65 that is best for many independent coordinates (Beskos et al. 2013, arXiv:1001.4460) and
# Stan's .8: steps are few anyway, and shorter ones also enter narrow places.
_ACCEPT = 0.9


class HMCOptions(Options):
    """Options of `HMC`."""

    chains: int = shared.chains(most=256)
    warmup: int = shared.warmup(_WARMUP)
    draws: int = shared.draws(_DRAWS)
    max_draws: int = Option(
        default=_DRAWS * 2**_DOUBLINGS,
        ge=50,
        le=1_000_000,
        description="kept transitions a chain up to which observations that cannot be trusted go on",
    )
    path: float = Option(
        default=_PATH,
        gt=0.0,
        le=100.0,
        description="mean angle in radians by which a transition turns a normal posterior",
    )
    target_accept: float = shared.target_accept(_ACCEPT)

    @model_validator(mode="after")
    def _most_is_not_least(self) -> Self:
        if self.max_draws < self.draws:
            raise ValueError(f"max_draws ({self.max_draws}) must be at least draws ({self.draws})")
        return self
