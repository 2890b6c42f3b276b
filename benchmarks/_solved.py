"""Draws with few network evaluations beside draws with many from the same noise.

The field is solved at the same parameters. Shift: the rms over numbers of the difference of means, in
posterior standard deviations; ratio: the root of the ratio of mean variances. Both are means over
observations. Look: of what is told of maps as a whole, such as their skewness, the largest mean difference,
in standard deviations of the draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from _record import record
from _run_folder import streams, vector_and_field
from torch import Tensor

from sbikit import Field, UnsupportedError, Values, draw_seeds
from sbikit.runs import Run
from sbikit_calibration.ranks.maps import MapStatistics
from sbikit_transformer.diffusion import noise_levels
from sbikit_transformer.sampler import TransformerSampler

FIRST, MANY, FIRST_LEVEL = 10_000_000, 96, 150.0

Solved = dict[str, Any]
"""Keys: latent, evaluations, levels (in words), own (whether they are the sampler's), shift, shift error,
ratio, ratio error; of a field look, look error and looked at, the name of what differs most."""


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


def solved(
    run: Run, observations: int = 8, draws: int = 32, more: Sequence[Sequence[float]] = ()
) -> Iterator[Solved]:
    """What is found for the vector, then for the field: with the sampler's own levels, then with others.

    Args:
        run: finished.
        observations: of the training stream.
        draws: of each.
        more: levels of the field that are tried besides, decreasing.

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
        tried = [(f"its own {len(own)} evaluations", own)]
        tried += [(f"{n} evaluations", noise_levels(own[0], own[-1], n)) for n in latent.tried]
        if latent.name == field.name:
            tried += [(f"{len(one)} evaluations from {one[0]:g} to {one[-1]:g}", list(one)) for one in more]
        for told, levels in tried:
            found = _drawn(sampler, observation, latent, draws, levels)
            shift, ratio = compared(found.flatten(2), exact.flatten(2))
            one = {
                "latent": latent.name,
                "evaluations": len(levels),
                "levels": told,
                "own": levels is own,
                "shift": float(shift.mean()),
                "shift error": float(shift.std() / observations**0.5),
                "ratio": float(ratio.mean()),
                "ratio error": float(ratio.std() / observations**0.5),
            }
            yield one | (look(found, exact, field) if latent.name == field.name else {})


def look(found: Tensor, exact: Tensor, field: Field) -> dict[str, Any]:
    """How differently maps (n, B, C, *grid) look, see `Solved`."""
    statistics = MapStatistics(field)
    shifts, spreads = [], []
    for channel in range(field.channels):
        few, many = (
            torch.from_numpy(statistics(x[:, :, channel].flatten(0, 1).numpy())).unflatten(0, x.shape[:2])
            for x in (found, exact)
        )
        shifts.append((few - many).mean(0))
        spreads.append(many.var(0).mean(0).sqrt())
    shift, spread = torch.stack(shifts, 1), torch.stack(spreads)
    each = torch.where(spread > 0, shift / spread, 0.0)
    mean, error = each.mean(0), each.std(0) / len(each) ** 0.5
    channel, which = divmod(int(mean.abs().argmax()), len(statistics.names))
    named = f"{statistics.names[which]}, channel {channel + 1}"
    return {
        "look": float(mean[channel, which]),
        "look error": float(error[channel, which]),
        "looked at": named,
    }


def compared(found: Tensor, exact: Tensor) -> tuple[Tensor, Tensor]:
    """Shifts (B,) of means and ratios (B,) of standard deviations of draws (n, B, P) each."""
    shift = ((found - exact).mean(0) / exact.std(0)).square().mean(1).sqrt()
    ratio = (found.var(0).mean(1) / exact.var(0).mean(1)).sqrt()
    return shift, ratio


def _drawn(
    sampler: TransformerSampler, observation: Values, latent: Latent, draws: int, levels: list[float]
) -> Tensor:
    """Draws (n, B, *shape) of one latent that is denoised at these levels."""
    own: list[float] = getattr(sampler, latent.levels)
    seeds = draw_seeds(3, "solver", 0, len(next(iter(observation.values()))))
    try:
        setattr(sampler, latent.levels, levels)
        return sampler.sample(observation, draws, seeds=seeds).values[latent.name]
    finally:
        setattr(sampler, latent.levels, own)


def tell_solved(found: Solved, tell: Callable[..., Any] = record) -> None:
    """Shift and ratio of so many evaluations, and what of maps looks most different, one line each."""
    of = f"of {found['latent']} with {found['levels']}"
    figures = [
        (f"shift of the mean, rms, {of}", "shift", 0.0),
        (f"ratio of sds, {of}", "ratio", 1.0),
    ]
    if "look" in found:
        figures.append((f"largest shift of how maps look, {of}: {found['looked at']}", "look", 0.0))
    for name, key, ideal in figures:
        tell(
            name,
            found[key],
            found[f"{key} error"],
            ideal=ideal,
            ratio_to=f"{MANY} evaluations from the same noise",
        )
