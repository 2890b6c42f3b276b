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

FIRST, MANY, FIRST_LEVEL = 10_000_000, 96, 150.0

Solved = dict[str, Any]
"""Keys: latent, evaluations, own (whether they are the sampler's), shift, shift error, ratio, ratio error."""


class Latent(NamedTuple):
    """A latent.

    Args:
        name: its name.
        levels: the sampler's attribute that holds the levels at which it is denoised.
        tried: other numbers of levels.
        end: the entry of the denoiser's `end` that says below which level data tell nothing more of it.
    """

    name: str
    levels: str
    tried: tuple[int, ...]
    end: int


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
    for latent in (
        Latent(vector.name, "scalar_levels", (3, 4, 6, 8, 12, 22), 0),
        Latent(field.name, "field_levels", (3, 4, 5, 6, 8, 12), 1),
    ):
        own: list[float] = getattr(sampler, latent.levels)
        many = noise_levels(FIRST_LEVEL, float(sampler.denoiser.end[latent.end]), MANY)
        exact = _drawn(sampler, observation, latent, draws, many)
        for evaluations in (0, *latent.tried):
            levels = noise_levels(own[0], own[-1], evaluations) if evaluations else own
            shift, ratio = compared(_drawn(sampler, observation, latent, draws, levels), exact)
            yield {
                "latent": latent.name,
                "evaluations": len(levels),
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
    sampler: TransformerSampler, observation: Values, latent: Latent, draws: int, levels: list[float]
) -> Tensor:
    """Draws (n, B, P) of one latent that is denoised at these levels."""
    own: list[float] = getattr(sampler, latent.levels)
    seeds = draw_seeds(3, "solver", 0, len(next(iter(observation.values()))))
    try:
        setattr(sampler, latent.levels, levels)
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
