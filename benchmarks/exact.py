"""How far each estimator and gradient-based sampler is from an exact posterior: `python benchmarks/exact.py`.

The toys of sbikit.testing have known posteriors; `--toy NAME` compares one alone. Two figures a variable: the
rms over observations and components of (mean - exact mean) / exact sd, and the mean ratio of standard
deviations. Each rms is followed by its floor, the same figure between two independent sets of as many exact
draws.
"""

from __future__ import annotations

import argparse

import torch
from _record import record
from torch import Tensor

from sbikit import (
    Estimator,
    ExactSampler,
    QuietMonitor,
    Sampler,
    Simulations,
    SupportsLogDensity,
    SupportsMarginalDensity,
    Workspace,
    draw_seeds,
    supports,
)
from sbikit.testing import GaussianField, GaussianGaps, GaussianGrids, GaussianVector
from sbikit_exact.hmc import HMC
from sbikit_exact.nuts import NUTS
from sbikit_exact.wiener import Wiener
from sbikit_npe.estimator import NPE, NPEOptions
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.options import TransformerOptions

DRAWS, EXACT = 256, 2048
Toy = GaussianVector | GaussianField | GaussianGrids | GaussianGaps
TOYS: tuple[Toy, ...] = (GaussianVector(), GaussianField(), GaussianGrids(), GaussianGaps())


def fitted(estimator: Estimator, toy: Toy) -> Sampler:
    """Train on the toy."""
    return estimator.fit(Simulations(toy, 0), seed=1, workspace=Workspace(), monitor=QuietMonitor())


def exact_sampler(plugin: ExactSampler, toy: Toy) -> Sampler:
    """The toy's posterior by an exact sampler."""
    return plugin.posterior(toy, monitor=QuietMonitor())


def compare(name: str, toy: Toy, sampler: Sampler, observations: int) -> None:
    """Print the figures of one sampler."""
    held_out = Simulations(toy, 0).held_out(0, observations)
    observation = {v.name: held_out[v.name] for v in sampler.spec.observables}
    exact = toy.exact_sampler()
    truth, floor = (
        exact.sample(observation, n, seeds=draw_seeds(2, f"{n} draws", 0, observations)).values
        for n in (EXACT, DRAWS)
    )
    draws = sampler.sample(observation, DRAWS, seeds=draw_seeds(3, "draws", 0, observations)).values
    for variable in sampler.spec.latents:
        key, about = variable.name, f"{name} on {type(toy).__name__}, {variable.name}"
        mean, sd = truth[key].mean(0), truth[key].std(0)
        for what, found in (("", draws[key]), (", floor: exact draws", floor[key])):
            per_observation = ((found.mean(0) - mean) / sd).square().flatten(1).mean(1)
            record(f"rms offset of the mean in sd, {about}{what}", *_root(per_observation))
        ratio = (draws[key].std(0) / sd).flatten(1).mean(1)
        record(
            f"ratio of sd to the exact one (ideal 1), {about}",
            float(ratio.mean()),
            float(ratio.std() / observations**0.5),
            ratio_to="the exact posterior",
        )


def _root(squares: Tensor) -> tuple[float, float]:
    """Root of the mean over observations and its standard error."""
    root = float(squares.mean().sqrt())
    return root, float(squares.std() / len(squares) ** 0.5) / (2.0 * root)


def main() -> None:
    """Compare all that can be had of each toy."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--toy", choices=[type(toy).__name__ for toy in TOYS], action="append")
    asked = words.parse_args()
    torch.set_num_threads(1)
    options = TransformerOptions(steps=600, width=32, depth=2)
    for toy in TOYS:
        if asked.toy and type(toy).__name__ not in asked.toy:
            continue
        compare("diffusion-transformer", toy, fitted(DiffusionTransformer(options), toy), 32)
        compare("npe", toy, fitted(NPE(NPEOptions(simulations=10_000)), toy), 32)
        if supports(toy, SupportsLogDensity):
            compare("hmc", toy, exact_sampler(HMC(), toy), 4)
            compare("nuts", toy, exact_sampler(NUTS(), toy), 4)
        if supports(toy, SupportsMarginalDensity):
            compare("wiener", toy, exact_sampler(Wiener(), toy), 32)


if __name__ == "__main__":
    main()
