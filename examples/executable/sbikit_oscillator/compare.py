"""How far a run's posterior is from the exact one: `python -m sbikit_oscillator.compare RUN`.

For new observations of the same simulator, 2,000 draws each: the mean over observations of (mean - exact
mean) / exact sd, its root mean square, and the mean ratio of sd to the exact one, with standard errors.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from sbikit import Simulations, draw_seeds, load
from sbikit.runs import RunFolder
from sbikit_oscillator.exact import moments
from sbikit_oscillator.simulator import Oscillator, OscillatorOptions

OBSERVATIONS, DRAWS = 32, 2000
_ANOTHER = 1  # is added to the run's seed: what a run is judged by here, it has never seen


def compare(path: Path) -> list[dict[str, float | str]]:
    """One line of figures a parameter for the run in a folder."""
    folder = RunFolder.open(path)
    seed, estimator = folder.config.seed + _ANOTHER, folder.config.estimator
    simulator = Oscillator(OscillatorOptions(**folder.config.simulator.options.model_dump()))
    fitted = load("estimator", estimator.name, **estimator.options.model_dump())
    sampler = fitted.load(folder.estimator, simulator, device=torch.device("cpu"))
    held_out = Simulations(simulator, seed).held_out(0, OBSERVATIONS)
    seen = {"displacement": held_out["displacement"]}
    drawn = sampler.sample(seen, DRAWS, seeds=draw_seeds(seed, "compare", 0, OBSERVATIONS)).values["theta"]
    mean, sd = moments(simulator, seen["displacement"][:, 0].numpy())
    offset = (drawn.double().numpy().mean(0) - mean) / sd
    ratio = drawn.double().numpy().std(0) / sd
    return [
        {
            "parameter": name,
            "mean offset, exact sd": float(offset[:, i].mean()),
            "its error": _error(offset[:, i]),
            "rms offset, exact sd": float(np.sqrt((offset[:, i] ** 2).mean())),
            "ratio of sd": float(ratio[:, i].mean()),
            "error of the ratio": _error(ratio[:, i]),
        }
        for i, name in enumerate(simulator.prior.laws)
    ]


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    for line in compare(Path(sys.argv[1])):
        print(json.dumps(line))
