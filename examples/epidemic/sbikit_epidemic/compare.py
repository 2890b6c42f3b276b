"""How far a run's posterior is from the exact one: `python -m sbikit_epidemic.compare RUN`.

For eight new epidemics, 1,000 draws each: by how much the means of parameters, and of the number of infected
people on each day where the run infers it, miss the exact ones, root mean square in exact standard
deviations, and the mean ratio of standard deviations; beside them the floor, the same between two filters.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import sbikit
from sbikit_epidemic.exact import exact
from sbikit_epidemic.simulator import Epidemic

OBSERVATIONS, DRAWS = 8, 1000
_ANOTHER = 2027  # seed of the new epidemics, which no run is trained on


def compare(path: Path) -> list[dict[str, float | str]]:
    """A line of figures for each parameter, and one for the series."""
    posterior = sbikit.open_run(path, progress=False)
    simulator = posterior.simulator
    assert isinstance(simulator, Epidemic)
    reports = sbikit.Simulations(simulator, _ANOTHER).held_out(0, OBSERVATIONS)["reports"][:, 0].numpy()
    draws = posterior.sample(reports, DRAWS).to_numpy()
    one, other = ([exact(simulator, row, seed=seed) for row in reports] for seed in (0, 1))
    lines = []
    for i, name in enumerate(simulator.prior.laws):
        known = np.array([[(e.mean[i], e.sd[i]) for e in both] for both in (one, other)])
        column = draws["theta"][..., i]
        lines.append(_line(name, column.mean(0), column.std(0), known))
    if "infected" in draws:
        known = np.array([[(e.infected, e.spread) for e in both] for both in (one, other)]).swapaxes(2, 3)
        path_draws = draws["infected"][:, :, 0]
        lines.append(_line("infected", path_draws.mean(0), path_draws.std(0), known))
    return lines


def _line(
    name: str, mean: NDArray[np.floating], sd: NDArray[np.floating], known: NDArray[np.floating]
) -> dict[str, float | str]:
    """`known`: (2, ..., 2), two filters, observations (and days), mean and sd."""
    (exact_mean, exact_sd), (other_mean, other_sd) = ((k[..., 0], k[..., 1]) for k in known)
    wide = exact_sd > 0.5 * exact_sd.mean() * 0.1  # days on which nobody can have been infected say nothing

    def rms(difference: NDArray[np.floating]) -> float:
        return float(np.sqrt(np.mean((difference / exact_sd)[wide] ** 2)))

    return {
        "of": name,
        "rms offset, exact sd": rms(mean - exact_mean),
        "its floor": rms(other_mean - exact_mean),
        "ratio of sd": float((sd / exact_sd)[wide].mean()),
        "between filters": float((other_sd / exact_sd)[wide].mean()),
    }


if __name__ == "__main__":
    for line in compare(Path(sys.argv[1])):
        print(json.dumps(line))
