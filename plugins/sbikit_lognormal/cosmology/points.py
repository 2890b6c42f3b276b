"""Points that fill a prior."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor
from torch.special import ndtri

from sbikit import Prior


def evenly(prior: Prior, count: int) -> Tensor:
    """Parameter vectors (count, D), float64, as even as a scrambled Sobol sequence; always the same."""
    sobol = qmc.Sobol(len(prior.laws), rng=np.random.default_rng(0)).random(count)
    return prior.from_white(ndtri(torch.from_numpy(sobol)))
