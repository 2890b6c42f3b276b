"""More runs where the fit to those of the design is worst."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sbikit_lognormal.build.design import design
from sbikit_lognormal.build.fitting import COMPONENTS, LEAST_OMEGA_C, fit
from sbikit_lognormal.build.grids import Grids, grid_weights
from sbikit_lognormal.spectra import inputs

Array = NDArray[np.float64]

_CANDIDATES = 2**14  # points of the design's sequence of which the refinement is chosen: some 17 for each
_NEIGHBOURS = (
    8  # runs whose errors are averaged; one alone would chase single runs, many blur where it is bad
)


def refinement(grids: Grids, count: int, seed: int) -> Array:
    """More points of the design's sequence, (count, 7), drawn as the square of the error expected there.

    The error is that of the nearest runs of the design, each predicted from all others. Points are drawn
    without replacement by the keys of Efraimidis and Spirakis (2006, doi:10.1016/j.ipl.2005.11.003).

    Args:
        grids: all runs of the design.
        count: how many.
        seed: of the design.
    """
    used = len(grids.points)
    grids = grids.where(grids.points[:, 0] > LEAST_OMEGA_C)
    weights = grid_weights(grids.cosmology, grids.nonlinear)
    fitted = fit(inputs(grids.cosmology).numpy(), grids.nonlinear, weights, COMPONENTS["nonlinear"])
    candidates = design(_CANDIDATES, seed)[used:]
    candidates = candidates[candidates[:, 0] > LEAST_OMEGA_C]
    x = inputs(torch.from_numpy(candidates[:, :6].copy())).numpy()
    x = (x - fitted.fit.centre) / fitted.fit.spread
    nearest = cKDTree(fitted.fit.points).query(x, _NEIGHBOURS)[1]
    square = (fitted.left_out**2).sum(1)[nearest].mean(1)
    key = np.log(np.random.default_rng(1).random(len(square))) / square
    return np.asarray(candidates[np.sort(np.argsort(-key)[:count])])
