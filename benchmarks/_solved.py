"""Draws with few network evaluations beside draws with many from the same noise.

The field is solved at the same parameters. Shift: the rms over numbers of the difference of means, in
posterior standard deviations; ratio: the root of the ratio of mean variances. Both are means over
observations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from _record import record
from _run_folder import streams, vector_and_field
from torch import Tensor

from sbikit import UnsupportedError, Values, draw_seeds
from sbikit.run import Run
from sbikit_transformer.diffusion import noise_levels
from sbikit_transformer.estimator import TransformerSampler

FIRST, MANY, TRIED = 10_000_000, 96, (10, 12, 16, 20, 28)

Solved = dict[str, Any]
"""Keys: latent, evaluations, own (whether they are the sampler's), shift, shift error, ratio, ratio error."""


class Latent(NamedTuple):
    """A latent, and the sampler's attribute that holds the levels at which it is denoised."""

    name: str
    levels: str


def solved(run: Run, observations: int = 8, draws: int = 32) -> Iterator[Solved]:
    """What is found for the vector, then for the field: with the sampler's own levels, then with others.

    Raises:
        UnsupportedError: the sampler is not the transformer's.
    """
    sampler = run.sampler
    if not isinstance(sampler, TransformerSampler):
        raise UnsupportedError("The sampler has no noise levels.", where="solver", got=type(sampler).__name__)
    vector, field = vector_and_field(run.spec)
    observation = streams(run).training(FIRST, observations)
    for latent in (Latent(vector.name, "scalar_levels"), Latent(field.name, "field_levels")):
        exact = _drawn(sampler, observation, latent, draws, MANY)
        for evaluations in (0, *TRIED):
            shift, ratio = compared(_drawn(sampler, observation, latent, draws, evaluations), exact)
            yield {
                "latent": latent.name,
                "evaluations": evaluations or len(getattr(sampler, latent.levels)),
                "own": evaluations == 0,
                "shift": float(shift.mean()),
                "shift error": float(shift.std() / observations**0.5),
                "ratio": float(ratio.mean()),
                "ratio error": float(ratio.std() / observations**0.5),
            }


def compared(found: Tensor, exact: Tensor) -> tuple[Tensor, Tensor]:
    """Shifts (B,) of means and ratios (B,) of standard deviations of draws (n, B, P) each."""
    shift = ((found - exact).mean(0) / exact.std(0)).square().mean(1).sqrt()
    ratio = (found.var(0).mean(1) / exact.var(0).mean(1)).sqrt()
    return shift, ratio


def _drawn(
    sampler: TransformerSampler, observation: Values, latent: Latent, draws: int, evaluations: int
) -> Tensor:
    """Draws (n, B, P) of one latent with so many evaluations; 0 stands for the sampler's own levels."""
    own: list[float] = getattr(sampler, latent.levels)
    seeds = draw_seeds(3, "solver", 0, len(next(iter(observation.values()))))
    try:
        if evaluations:
            setattr(sampler, latent.levels, noise_levels(own[0], own[-1], evaluations))
        return sampler.sample(observation, draws, seeds=seeds).values[latent.name].flatten(2)
    finally:
        setattr(sampler, latent.levels, own)


def tell_solved(found: Solved, tell: Callable[..., Any] = record) -> None:
    """Shift and ratio of so many evaluations, one line each."""
    told = f"its own {found['evaluations']}" if found["own"] else found["evaluations"]
    for what, key, ideal in (("shift of the mean, rms", "shift", 0.0), ("ratio of sds", "ratio", 1.0)):
        tell(
            f"{what}, of {found['latent']} with {told} evaluations",
            found[key],
            found[f"{key} error"],
            ideal=ideal,
            ratio_to=f"{MANY} evaluations from the same noise",
        )
