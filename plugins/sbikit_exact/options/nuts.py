"""Options of `nuts`."""

from __future__ import annotations

from pydantic import Field as Option

from sbikit import Options
from sbikit_exact.options import shared

# A transition takes 2^10 gradients at most and an acceptance of .8 is tuned to, as by Stan and nutpie. Half
# of Stan's 1,000 transitions of warm-up, since nutpie learns its mass matrix from gradients, too. 4 x 1,500
# that are kept give the 400 effective draws of a trusted parameter down to one in 15: nobody goes on here.
_WARMUP, _DRAWS = 500, 1500


class NUTSOptions(Options):
    """Options of `NUTS`."""

    chains: int = shared.chains(most=64)  # each has a thread of its own
    warmup: int = shared.warmup(_WARMUP)
    draws: int = shared.draws(_DRAWS)
    max_depth: int = Option(
        default=10, ge=1, le=14, description="a transition takes at most 2^max_depth gradients"
    )
    target_accept: float = shared.target_accept(0.8)
    low_rank: bool = Option(
        default=True, description="learn the posterior's strongest correlations into the mass matrix"
    )
