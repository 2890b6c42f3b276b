"""Draws of the calibration set, appended to a posterior.nc a block of observations after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import h5netcdf
import numpy as np
import xarray as xr

from sbikit.problem.spec import check_shapes, check_values
from sbikit.problem.variables import Values, Variable
from sbikit.roles.stored_draws import draw_blocks, draw_shapes
from sbikit.storage.described import attributes_of, coordinates_of, dims_of

CALIBRATION = "calibration_posterior"
_LEADING = ("chain", "draw", "observation")
# Of a piece that is packed and sealed by itself: a block of observations is read without its neighbours where
# the draws of one take as much.
_PIECE = 2**20


def described_draws(latents: Iterable[Variable], draws: int) -> xr.Dataset:
    """The group for `draws` draws an observation, as yet of no observation."""
    found = xr.Dataset()
    for variable in latents:
        nothing = np.zeros((1, draws, 0, *variable.shape), np.float32)
        array = xr.DataArray(nothing, dims=(*_LEADING, *dims_of(variable)), attrs=attributes_of(variable))
        array.encoding["chunksizes"] = _piece(draws, variable)
        found[variable.name] = array
        found = found.assign_coords(coordinates_of(variable))
    return found


def _piece(draws: int, variable: Variable) -> tuple[int, ...]:
    """Lengths of a piece: all draws of some observations, or some draws of one, each whole."""
    one = 4 * math.prod(variable.shape)
    some = max(1, min(draws, _PIECE // one))
    return (1, some, max(1, _PIECE // (one * draws)), *variable.shape)


@dataclass(frozen=True)
class Appended:
    """What is appended.

    Args:
        latents: the variables.
        draws: each (n, B, *shape), in memory or on the disk.
        batch: n and B.
        advance: is told of how many observations the draws were written.
    """

    latents: tuple[Variable, ...]
    draws: Values
    batch: tuple[int, ...]
    advance: Callable[[int], object] | None = None

    def write(self, path: Path) -> None:
        """Write all draws to a file that describes them.

        Raises:
            SpecError: a variable is missing, of the wrong shape or not finite.
        """
        check_shapes(draw_shapes(self.draws), self.latents, self.batch, "calibration_draws")
        n, B = self.batch
        # Pieces that are not full yet are kept until they are: of small variables one holds several blocks.
        with h5netcdf.File(path, "r+", rdcc_nbytes=2**24, rdcc_w0=1.0) as file:
            group = file[CALIBRATION]
            group.resize_dimension("observation", B)
            for rows, block in draw_blocks(self.draws, [v.name for v in self.latents]):
                check_values(block, self.latents, (n, len(rows)), "calibration_draws")
                for variable in self.latents:
                    part = block[variable.name].detach().cpu().float().numpy()
                    group[variable.name][0, :, rows.start : rows.stop] = part
                if self.advance is not None:
                    self.advance(len(rows))
