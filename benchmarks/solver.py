"""How many network evaluations a draw needs: `python benchmarks/solver.py FOLDER`.

FOLDER is a finished run of the quick preset. The same noise is solved with few evaluations of the field's
network and with 96, at the same parameters, for observations of the training stream, which no result is
reported on. The rms shift of pixels in posterior standard deviations, and the ratio of their variances, with
standard errors over observations. The parameters, whose network is small, always have all of theirs; they are
solved with fewer, too. The sampler's own levels of the field are not even in ln sigma; all others are.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from _record import record

from sbikit import Simulations, draw_seeds, load
from sbikit_transformer.diffusion import noise_levels
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.options import TransformerOptions

OBSERVATIONS, DRAWS, FIRST, MANY = 8, 32, 10_000_000, 96

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/solver.py FOLDER")
    torch.set_num_threads(1)
    simulator, options = load("simulator", "lognormal"), TransformerOptions()
    folder = Path(sys.argv[1]) / "checkpoints" / "estimator"
    sampler = DiffusionTransformer(options).load(folder, simulator, device=torch.device("cpu"))
    observation = Simulations(simulator, 0).training(FIRST, OBSERVATIONS)
    seeds = draw_seeds(3, "solver", 0, OBSERVATIONS)
    whole = {name: getattr(sampler, name) for name in ("scalar_levels", "field_levels")}

    def drawn(name: str, latent: str, evaluations: int) -> torch.Tensor:
        levels = noise_levels(options.sigma_max, whole[name][-1], evaluations)
        if evaluations == 0:
            levels = whole[name]
        setattr(sampler, name, levels)
        values = sampler.sample(observation, DRAWS, seeds=seeds).values[latent]
        setattr(sampler, name, whole[name])
        return values.flatten(2)

    for name, latent in (("scalar_levels", "theta"), ("field_levels", "kappa")):
        exact = drawn(name, latent, MANY)
        for evaluations in (0, 10, 12, 16, 20, 28):
            found = drawn(name, latent, evaluations)
            told = evaluations or f"its own {len(whole[name])}"
            shift = ((found - exact).mean(0) / exact.std(0)).square().mean(1).sqrt()
            ratio = (found.var(0).mean(1) / exact.var(0).mean(1)).sqrt()
            for what, column, ideal in (("shift of the mean, rms", shift, 0.0), ("ratio of sds", ratio, 1.0)):
                record(
                    f"{what}, of {latent} with {told} evaluations",
                    float(column.mean()),
                    float(column.std() / OBSERVATIONS**0.5),
                    ideal=ideal,
                    ratio_to=f"{MANY} evaluations from the same noise",
                )
