"""Where a field is best denoised on the way to a draw: `python benchmarks/solver_levels.py [COUNT ...]`.

For normal posteriors of many widths r the solver is a product of known factors. Powell's method of scipy
moves the levels, from several starts, to make the mean fourth power of its error in ln r small. Prints levels
and the largest error; those of 10 stand in sbikit_transformer.levels.
"""

from __future__ import annotations

import math
import sys

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from sbikit_transformer.diffusion import noise_levels, solve

FIRST, LOWEST_END, LEAST_STEP = 150.0, 0.04, 0.25
WIDTHS = np.exp(np.linspace(math.log(0.15), math.log(8.0), 50))
STARTS = [(second, end) for second in (4.0, 8.0, 15.0) for end in (0.1, 0.05)]


def errors(levels: list[float]) -> NDArray[np.float64]:
    """Of ln r, for each width."""
    r = torch.from_numpy(WIDTHS)
    found = solve(lambda x, sigma: r**2 * x / (r**2 + sigma**2), torch.ones_like(r), levels)
    exact = r * levels[0] / (r**2 + levels[0] ** 2).sqrt()
    return np.log(np.abs((found / exact).numpy()))


def levels_of(steps: NDArray[np.float64]) -> list[float]:
    """Levels whose steps in ln sigma are `LEAST_STEP + exp(steps)`."""
    down = LEAST_STEP + np.exp(np.clip(steps, -9.0, 3.0))
    return [float(level) for level in FIRST * np.exp(-np.concatenate([[0.0], np.cumsum(down)]))]


def cost(steps: NDArray[np.float64]) -> float:
    """Logarithm of the mean fourth power of the errors; levels that end too low cost more."""
    levels = levels_of(steps)
    if levels[-1] < 1e-3:
        return 9.0 - math.log(max(levels[-1], 1e-30))
    too_low = 50.0 * max(0.0, math.log(LOWEST_END / levels[-1])) ** 2
    return float(np.nan_to_num(np.log((errors(levels) ** 4).mean()) + too_low, nan=9.0))


def main() -> None:
    """One line for each number of levels."""
    for count in [int(word) for word in sys.argv[1:]] or [8, 10, 12, 14]:
        found = []
        for second, end in STARTS:
            start = [FIRST, *noise_levels(second, end, count - 1)]
            steps = np.log(-np.diff(np.log(start)) - LEAST_STEP)
            found.append(minimize(cost, steps, method="Powell", options={"maxiter": 60}))
        levels = levels_of(min(found, key=lambda one: float(one.fun)).x)
        even = np.abs(errors(noise_levels(FIRST, 0.05, count))).max()
        print(f"{count} levels: largest error {np.abs(errors(levels)).max():.5f}, evenly {even:.5f}:")
        print("   ", ", ".join(f"{level:.4f}" for level in levels), flush=True)


if __name__ == "__main__":
    main()
