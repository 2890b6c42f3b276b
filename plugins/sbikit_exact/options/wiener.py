"""Options of `wiener`."""

from __future__ import annotations

from pydantic import Field as Option

from sbikit import Options


class WienerOptions(Options):
    """Options of `Wiener`."""

    # Powers of two, as the Sobol sequence of the first points is even at these. More points of the prior find
    # narrower posteriors in more dimensions, and cost time that all observations share; more points a round
    # and more kernels follow a posterior more closely, and their product is the time that densities take.
    prior_points: int = Option(
        default=16384,
        ge=1024,
        le=2**20,
        description="points of the prior at which the search for each posterior starts",
    )
    points: int = Option(
        default=4096, ge=512, le=2**17, description="points of the proposal a round, in search and in drawing"
    )
    kernels: int = Option(default=512, ge=16, le=4096, description="Student-t kernels of the proposal")
