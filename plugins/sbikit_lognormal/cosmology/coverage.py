"""Which cosmologies the emulator covers, and priors that leave them.

In white coordinates of the survey prior of six wCDM parameters, which are standard normal, a ball of radius
4.9 holds more than 99.9 % of the prior.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

import torch
from torch import Tensor

from sbikit import Normal, OptionError, Prior, TruncatedNormal, Uniform
from sbikit_lognormal.cosmology.background import PARAMETERS
from sbikit_lognormal.cosmology.parameters import Parameters
from sbikit_lognormal.cosmology.points import evenly

COVERED = Prior(
    {
        "omega_c": TruncatedNormal(0.2664, 0.2, 0.01, 0.9),
        "omega_b": Normal(0.0492, 0.006),
        "sigma_8": Normal(0.831, 0.14),
        "h": Normal(0.6727, 0.063),
        "n_s": Normal(0.9645, 0.08),
        "w_0": TruncatedNormal(-1.0, 0.9, -2.0, -0.3),
    }
)
"""The law whose ball the emulator covers: the prior of JADE and sbi_lens, with ends of Omega_c."""

RADIUS = 4.9
"""Radius of that ball; that of 99.9 % of six standard normal numbers is 4.74."""

LEAST_OMEGA_C = 0.05
"""Below it dark matter is less than half of all matter, where the halo model means nothing."""

_VALUES = 5  # of each range that are looked at: in white coordinates a box is bent, its ends may not be worst
_LOG2_DRAWS = 14  # draws of the prior that are looked at: 16 are a thousandth
_FAR = 2.0  # standard deviations from which on a parameter is named as one that leads astray


def refuse_uncovered(ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse ranges of Omega_m, S8 and w0 that leave the ball.

    Raises:
        OptionError: they do.
    """
    edges = [torch.linspace(*bounds, _VALUES, dtype=torch.float64) for bounds in ranges.values()]
    theta = torch.cartesian_prod(*edges)
    box = Parameters(Prior({name: Uniform(*bounds) for name, bounds in ranges.items()}), {}, 1, 3)
    _refuse_outside(box, theta, [f"simulator.{name.lower()}" for name in ranges])


def refuse_uncovered_laws(made: Parameters) -> None:
    """Refuse a prior of which a corner of uniform laws, or more than a thousandth, lies outside the ball.

    Raises:
        OptionError: it does.
    """
    prior = made.prior
    where = [f"simulator.{name}" for name in PARAMETERS]
    ends = [
        [-math.inf, math.inf] if name in PARAMETERS and isinstance(law, Uniform) else [0.0]
        for name, law in prior.laws.items()
    ]
    corners = torch.tensor(list(product(*ends)), dtype=torch.float64)
    _refuse_outside(made, prior.from_white(corners), where)
    theta = evenly(prior, 2**_LOG2_DRAWS)
    kept = _radius(made.cosmology(theta)).argsort()[: len(theta) - len(theta) // 1000]
    _refuse_outside(made, theta[kept], where)


def _refuse_outside(made: Parameters, theta: Tensor, where: Sequence[str]) -> None:
    """Refuse parameter vectors (n, D) of which one lies outside that ball."""
    cosmology = made.cosmology(theta)
    radius = _radius(cosmology)
    if bool((radius <= RADIUS).all()):
        return
    worst = int(radius.argmax())
    off = COVERED.to_white(cosmology[worst]).nan_to_num(nan=math.inf).abs() > _FAR
    faults = [
        f"{name} = {float(value):.4g}"
        for name, value, far in zip(PARAMETERS, cosmology[worst], off, strict=True)
        if far
    ]
    raise OptionError(
        "The prior leaves the cosmologies that the spectrum emulator covers.",
        where=", ".join(where),
        expected=f"universes within {RADIUS:g} standard deviations of Omega_c .27 +- .2, sigma_8 .83 +- .14, "
        f"w_0 -1 +- .9, Omega_b .049 +- .006, h .67 +- .063, n_s .96 +- .08, with Omega_c {LEAST_OMEGA_C:g} "
        "to .9 and w_0 -2 to -.3",
        got=", ".join(f"{name}={float(v):.4g}" for name, v in zip(made.prior.laws, theta[worst], strict=True))
        + (", where " + ", ".join(faults) if faults else ""),
        fix="narrow the prior",
    )


def _radius(cosmology: Tensor) -> Tensor:
    """Distance (...) of cosmologies (..., 6) from the centre of that ball; infinite where none is covered."""
    radius = COVERED.to_white(cosmology).square().sum(-1).sqrt().nan_to_num(nan=math.inf)
    return torch.where(cosmology[..., 0] >= LEAST_OMEGA_C, radius, math.inf)
