"""How far each estimator and gradient-based sampler is from an exact posterior: `python benchmarks/exact.py`.

The toys of sbikit.testing have known posteriors. Two figures a variable: the rms over observations and
components of (mean - exact mean) / exact sd, and the mean ratio of standard deviations. Each rms is followed
by its floor, the same figure between two independent sets of as many exact draws.
"""

from __future__ import annotations

import torch
from _record import record
from torch import Tensor

from sbikit import Estimator, ExactSampler, QuietMonitor, Sampler, Simulations, Workspace, draw_seeds
from sbikit.testing import GaussianField, GaussianGrids, GaussianVector
from sbikit_exact.hmc import HMC
from sbikit_exact.nuts import NUTS
from sbikit_exact.wiener import Wiener
from sbikit_npe.estimator import NPE, NPEOptions
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.options import TransformerOptions

DRAWS, EXACT = 256, 2048
Toy = GaussianVector | GaussianField | GaussianGrids


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


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformer = TransformerOptions(steps=600, width=32, depth=2)
    for problem in (GaussianVector(), GaussianField()):
        compare("diffusion-transformer", problem, fitted(DiffusionTransformer(transformer), problem), 32)
        compare("npe", problem, fitted(NPE(NPEOptions(simulations=10_000)), problem), 32)
        compare("hmc", problem, exact_sampler(HMC(), problem), 4)
        compare("nuts", problem, exact_sampler(NUTS(), problem), 4)
    field = GaussianField()
    compare("wiener", field, exact_sampler(Wiener(), field), 32)
