"""Looking over the prior once, so that a long run hardly meets a cosmology of which no field exists."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor
from torch.special import ndtri

from sbikit import Prior
from sbikit_lognormal.chain.engine import Engine
from sbikit_lognormal.field import block_rows

_EDGE = 4.0  # standard deviations: beyond lie 1e-3 of a prior of three parameters, 1e-2 of one of six
_SCAN = 128  # points of the prior, and as many directions to its edge; the time of some hundred draws
_CORNERS = 6  # parameters up to which the corners of the prior are looked at, too: 64 of them


def scan_prior(engine: Engine) -> None:
    """Look for negative modes in the prior and at its edge.

    Raises:
        SimulationError: no such field has the asked spectra somewhere.
    """
    rows = block_rows(engine.model.box, engine.model.bins)
    for part in _points(engine.model.prior).split(rows):
        engine.checked(part)


def _points(prior: Prior) -> Tensor:
    """Parameter vectors at the edge and inside, (n, D)."""
    dimension = len(prior.laws)
    sobol = qmc.Sobol(dimension, rng=np.random.default_rng(0)).random(2 * _SCAN)
    inside, outwards = ndtri(torch.from_numpy(sobol)).split(_SCAN)
    if dimension <= _CORNERS:
        signs = torch.tensor([-1.0, 1.0], dtype=torch.float64)
        corners = torch.cartesian_prod(*[signs] * dimension).reshape(-1, dimension)
        outwards = torch.cat([corners, outwards])
    edge = _EDGE * outwards / outwards.norm(dim=1, keepdim=True)
    return prior.from_white(torch.cat([edge, inside]))
