"""Options that samplers by Markov chains have in common, each as a field with a sampler's own numbers.

Four chains are what Vehtari et al. 2021 (arXiv:1903.08008) advise: fewer can hide that they disagree. Fifty
transitions are the fewest that the figures of a split chain can be made of.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field as Option

_MOST = 1_000_000


def chains(*, most: int) -> Any:
    """Chains an observation, up to `most`."""
    return Option(
        default=4,
        ge=2,
        le=most,
        multiple_of=2,
        description="chains an observation; one half of them gives the first half of the draws",
    )


def warmup(default: int) -> Any:
    """Transitions that are dropped."""
    return Option(
        default=default, ge=50, le=100_000, description="transitions a chain that adapt and are dropped"
    )


def draws(default: int) -> Any:
    """Transitions that are kept."""
    return Option(
        default=default,
        ge=50,
        le=_MOST,
        description="least number of kept transitions a chain; they are thinned to what is asked for",
    )


def target_accept(default: float) -> Any:
    """The acceptance rate."""
    return Option(
        default=default, ge=0.5, lt=1.0, description="acceptance rate that the step size is tuned to"
    )
