"""posterior.nc: draws, data and truths of a run as one netCDF-4 file in ArviZ's groups.

    posterior              (chain, draw, *variable)     latents given the shown observation
    reference              (chain, draw, *variable)     the same from an exact sampler, if any
    observed_data          (*variable)                  the shown observation
    summaries              (channel, *grid)             maps that summarise it, if any
    truth                  (*variable)                  its latents, absent for real data
    calibration_posterior  (chain, draw, observation, *variable)
    calibration_truth      (observation, *variable)     held-out simulations
    calibration_observed   (observation, *variable)

A vector `v` has the axis `v_dim` with its labels as coordinate; a field `f` has `f_channel`, then
`f_y`, `f_x` in two dimensions and `f_axis0`, `f_axis1`, ... in any other, with the pixel centres as
coordinates. Each variable carries what is needed to read it alone: `kind`, `long_name` (LaTeX),
`unit`, and `labels` or `extent`, `extent_unit` and `estimates`. Of supports nothing is stored but the
`limits` of vectors in `posterior`: lowest and highest value of one scalar after the other. Where the draws
are of a user's own observation, attributes of `posterior` name the `sampler` and hold what it says of them
as JSON (`trust`, see `sbikit.Trust`). Of several observations the file has `posterior` (chain, draw,
observation, *variable), `observed_data` and `summaries` (observation, *variable), and in `trust` a list, one
for each. Where the sampler doubts its draws for held-out simulations, the attribute `doubts` of
`calibration_posterior` says why. `reference` is there for draws that can be trusted, and for no others.

The groups follow the InferenceData schema (https://python.arviz.org, "InferenceData schema
specification"), so `xarray.open_datatree` and ArviZ read the file as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sbikit.problem.bounds import Bounds
from sbikit.problem.errors import RunFolderError
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Variable
from sbikit.roles.stored_draws import StoredDraws
from sbikit.roles.trust import Trust

Arrays: TypeAlias = dict[str, NDArray[np.float32]]
DRAWS = ("chain", "draw")
HELD_OUT = ("calibration_posterior", "calibration_truth", "calibration_observed")


@dataclass(frozen=True)
class HeldOut:
    """Posterior draws of held-out simulations.

    Args:
        draws: each (n, B, *shape), read from the file when they are asked for.
        truth: each (B, *shape).
        observed: each (B, *shape).
        doubts: why the sampler doubts its own draws, in words; empty where it does not.
    """

    draws: StoredDraws
    truth: Arrays
    observed: Arrays
    doubts: str = ""


@dataclass(frozen=True)
class PosteriorFile:
    """What posterior.nc holds, all float32, in memory but for `held_out.draws`.

    Args:
        spec: the latents and observables, without their supports.
        summarised: the variables of `summaries`.
        posterior: draws of the latents, each (n, *shape).
        observed: the shown observation, each (*shape).
        summaries: each (*shape); empty where the simulator has none.
        truth: latents of the shown observation, each (*shape); None for real data.
        reference: draws of an exact sampler, each (m, *shape); None where there is none.
        held_out: the calibration set; None where there is none.
        sampler: name of the sampler that drew the posterior, where it is kept.
        trust: what it said of its draws, where it is kept.
        bounds: latent vector -> lowest and highest value of each of its scalars, where they are kept.
    """

    spec: Spec
    summarised: tuple[Variable, ...]
    posterior: Arrays
    observed: Arrays
    summaries: Arrays
    truth: Arrays | None
    reference: Arrays | None
    held_out: HeldOut | None
    sampler: str = ""
    trust: Trust | None = None
    bounds: Mapping[str, Bounds] = field(default_factory=dict)


def damaged(
    path: Path,
    message: str,
    *,
    expected: str = "",
    got: str = "",
    fix: str = "delete the file and run `sbikit sample` on the folder again",
) -> NoReturn:
    raise RunFolderError(message, where=str(path), expected=expected, got=got, fix=fix)
