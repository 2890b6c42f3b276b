"""How many network evaluations a draw needs: `python benchmarks/solver.py FOLDER`.

FOLDER is a finished run of the quick preset. The same noise is solved with few evaluations and with 96, for
observations of the training stream, which no result is reported on. For each parameter: the mean shift of the
draws in posterior standard deviations (ideal 0), with its standard error over observations.
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

OBSERVATIONS, DRAWS, FIRST = 8, 32, 10_000_000

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/solver.py FOLDER")
    torch.set_num_threads(1)
    simulator, options = load("simulator", "lognormal"), TransformerOptions()
    folder = Path(sys.argv[1]) / "checkpoints" / "estimator"
    sampler = DiffusionTransformer(options).load(folder, simulator, device=torch.device("cpu"))
    observation = Simulations(simulator, 0).training(FIRST, OBSERVATIONS)
    draws, seeds = {}, draw_seeds(3, "solver", 0, OBSERVATIONS)
    for evaluations in (96, 12, 16, 20, 28):
        sampler.levels = noise_levels(options.sigma_max, sampler.levels[-1], evaluations)
        draws[evaluations] = sampler.sample(observation, DRAWS, seeds=seeds).values["theta"]
        if evaluations == 96:
            continue
        shift = (draws[evaluations] - draws[96]).mean(0) / draws[96].std(0)
        for label, column in zip(simulator.prior.laws, shift.T, strict=True):
            record(
                f"shift of {label} in posterior sd with {evaluations} evaluations",
                float(column.mean()),
                float(column.std() / OBSERVATIONS**0.5),
                ratio_to="96 evaluations from the same noise",
            )
