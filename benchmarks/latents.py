"""In which coordinates does hmc mix best? `python benchmarks/latents.py [OBSERVATIONS] [--only PROBLEM]`.

Three coordinates of one posterior of log-normal maps: conditioned on the data, as `lognormal` gives them;
white, of Fourier modes; white, of pixels, of one bin alone. The figure is the effective sample size of the
parameter that has least, per thousand gradients (warm-up left out), mean over observations.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from _record import record
from torch import Tensor

import sbikit
from sbikit import LogDensity, Simulations, Simulator, Values, derive_seed
from sbikit_exact.chains import judged
from sbikit_exact.diagnostics import diagnose
from sbikit_exact.hmc import HMCOptions
from sbikit_exact.hmc.ensemble import Ensemble
from sbikit_lognormal.field import white_numbers
from sbikit_lognormal.posterior import SurveyDensity

DensityOf = Callable[[Values], LogDensity]


def white(simulator: Any) -> DensityOf:
    """The white coordinates of Fourier modes, also where the simulator has better ones."""

    def density(observation: Values) -> LogDensity:
        engine = simulator._engine(torch.float64, torch.device("cpu"))
        data = observation["shear"].double().unflatten(-3, (simulator.bins, 2))
        common = (simulator.prior, engine.spectra, engine.field)
        joint = SurveyDensity(*common, data, engine.survey.weight, noiseless=engine.noiseless)
        return joint.density(lambda box: box)

    return density


def pixels(simulator: Any) -> DensityOf:
    """The same, rotated to white pixels."""
    size, count = simulator.size, len(simulator.prior.laws)

    def density(observation: Values) -> LogDensity:
        found = white(simulator)(observation)

        def rotated(z: Tensor) -> Tensor:
            maps = z[..., count:].unflatten(-1, (size, size))
            return torch.cat([z[..., :count], white_numbers(torch.fft.rfft2(maps)).flatten(-2)], -1)

        return LogDensity(
            found.size, lambda z: found.log_prob(rotated(z)), lambda z: found.decode(rotated(z)), count
        )

    return density


def efficiency(simulator: Simulator, density_of: DensityOf, observations: int) -> Tensor:
    """Effective draws per thousand gradients of each observation's worst parameter."""
    held_out = Simulations(simulator, 4).held_out(0, observations)
    shear, options = held_out["shear"], HMCOptions()
    chains = Ensemble(
        lambda rows: density_of({"shear": shear[rows]}),
        options,
        [derive_seed(1, b) for b in range(observations)],
        torch.device("cpu"),
    )
    chains.warm_up(lambda done: None)
    before = chains.gradients.clone()
    trace = chains.run(options.draws, lambda done: None)
    labels, scalars = judged(density_of({"shear": shear}), trace.z.double(), simulator.spec)
    found = [
        diagnose(labels, scalars[b], None, trace.divergent[..., b], gradients=0, seconds=0.0)
        for b in range(observations)
    ]
    return 1e3 * torch.tensor([min(one.ess_bulk) for one in found]) / (chains.gradients - before)


PROBLEMS: dict[str, dict[str, Any]] = {
    "32 px": {"size": 32},
    "64 px": {"size": 64},
    "32 px, 3 bins": {"size": 32, "sources": {"bins": 3}},
    "32 px, 3 bins, mask": {
        "size": 32,
        "sources": {"bins": 3},
        "mask": {"density": 10.0, "radius": 1.5, "edge": 20.0},
    },
}


def main(names: Sequence[str], count: int) -> None:
    """Measure and tell."""
    torch.set_num_threads(1)
    for about in names:
        problem: Any = sbikit.load("simulator", "lognormal", **PROBLEMS[about])
        ways = {"conditioned on the data": problem.log_density, "white Fourier modes": white(problem)}
        if problem.bins == 1:
            ways["white pixels"] = pixels(problem)
        for name, way in ways.items():
            values = efficiency(problem, way, count)
            record(
                f"effective draws per thousand gradients, {about}, {name}",
                float(values.mean()),
                float(values.std() / count**0.5),
            )


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("observations", nargs="?", type=int, default=16)
    words.add_argument("--only", action="append", choices=PROBLEMS, help="a problem; all where left out")
    given = words.parse_args()
    main(given.only or list(PROBLEMS), given.observations)
