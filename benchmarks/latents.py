"""In which coordinates does hmc mix best? `python benchmarks/latents.py [OBSERVATIONS]`.

Three coordinates of one posterior of log-normal maps: conditioned on the data, as `lognormal` gives them;
white, of Fourier modes; white, of pixels. The figure is the effective sample size of the parameter that has
least, per thousand gradients (warm-up left out), mean over observations.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
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
from sbikit_lognormal.posterior import WhiteDensity

DensityOf = Callable[[Values], LogDensity]


def white(simulator: Any) -> DensityOf:
    """The white coordinates of Fourier modes, also where the simulator has better ones."""

    def density(observation: Values) -> LogDensity:
        engine = simulator._engine(torch.float64, torch.device("cpu"))
        data = observation["shear"].double().unflatten(-3, (1, 2))
        common = (simulator.prior, engine.spectra, engine.field)
        joint = WhiteDensity(*common, data, engine.survey.weight, noiseless=engine.noiseless)
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    for pixels_a_side in (32, 64):
        problem = sbikit.load("simulator", "lognormal", size=pixels_a_side)
        ways: dict[str, DensityOf] = {
            "conditioned on the data": problem.log_density,  # type: ignore[attr-defined]
            "white Fourier modes": white(problem),
            "white pixels": pixels(problem),
        }
        for name, way in ways.items():
            values = efficiency(problem, way, count)
            record(
                f"effective draws per thousand gradients, {pixels_a_side} px, {name}",
                float(values.mean()),
                float(values.std() / count**0.5),
            )
