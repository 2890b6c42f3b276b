"""How far draws are from the exact posterior of two_moons: `python benchmarks/two_moons.py --estimator npe`.

The problem is that of Lueckmann et al. 2021 (arXiv:2101.04653), with theta uniform in [-1, 1]^2 and

    x = (r cos a + 1/4, r sin a) + (-|theta_1 + theta_2|, theta_2 - theta_1) / sqrt 2,
    a ~ U(-pi/2, pi/2),    r ~ N(0.1, 0.01^2).

The second term turns and folds the plane without stretching it, so exact draws are drawn (a, r), turned back
with either sign and kept inside the square. C2ST is the share of held-out draws that a classifier (sbi's, an
MLP) calls by their right name, learned or exact: 1/2 is ideal. Errors are standard errors over observations
and seeds.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _product import product_seconds
from _record import record
from _sbibm.exact import exact_draws
from _sbibm.tasks import TwoMoons
from torch import Tensor

import sbikit
from sbikit import Simulations, Values, Workspace, draw_seeds

DRAWS, OBSERVATIONS = 2000, 5  # of either kind for each observation; held-out observations


@dataclass(frozen=True)
class Repeated:
    """The draws `kept` of a training stream, again and again."""

    whole: Simulations
    kept: Values

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def training(self, first: int, count: int) -> Values:
        """Draws first, ..., first + count - 1, counted on a circle."""
        size = len(next(iter(self.kept.values())))
        index = torch.arange(first, first + count) % size
        return {name: value[index] for name, value in self.kept.items()}


def c2st(learned: Tensor, exact: Tensor) -> float:
    """sbi's C2ST of two sets of draws (n, 2)."""
    from sbi.utils.metrics import c2st as of_sbi

    return float(of_sbi(learned, exact, classifier="mlp"))


def options_of(estimator: str, simulations: int | None, steps: int | None) -> dict[str, int]:
    """Options of the estimator: those that are asked for."""
    chosen = {} if steps is None else {"steps": steps}
    if simulations is not None:
        chosen["simulations" if estimator == "npe" else "guide_simulations"] = simulations
    return chosen


def judge(estimator: str, simulations: int | None, steps: int | None, seed: int) -> tuple[list[float], float]:
    """C2ST of each observation, and CPU seconds of the fit."""
    stream = Simulations(TwoMoons(), seed)
    draws = stream if simulations is None else Repeated(stream, stream.training(0, simulations))
    made = sbikit.load("estimator", estimator, **options_of(estimator, simulations, steps))
    began = time.process_time()
    sampler = made.fit(draws, seed=seed, workspace=Workspace(), monitor=sbikit.QuietMonitor())
    seconds = time.process_time() - began
    x = stream.held_out(0, OBSERVATIONS)["x"]
    learned = sampler.sample({"x": x}, DRAWS, seeds=draw_seeds(seed, "two moons", 0, len(x))).values["theta"]
    return [c2st(learned[:, b], exact_draws("two_moons", x[b], DRAWS, b)) for b in range(len(x))], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--estimator", default="npe")
    parser.add_argument("--simulations", type=int, help="draws to train on; those of the default if left out")
    parser.add_argument("--steps", type=int, help="training steps at most; the default's if left out")
    parser.add_argument("--seeds", type=int, default=1, help="trainings, each on draws of its own")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    products = [product_seconds()]
    found, times = [], []
    for seed in range(chosen.seeds):
        scores, seconds = judge(chosen.estimator, chosen.simulations, chosen.steps, seed)
        found.append(scores)
        times.append(seconds)
        products.append(product_seconds())
    scores = np.array(found)
    error = float(scores.std(ddof=1) / math.sqrt(scores.size))
    record(f"C2ST of {chosen.estimator} on two_moons", float(scores.mean()), error, ideal=0.5)
    record("CPU seconds of a training, one thread", float(np.mean(times)), None)
    product = float(np.mean(products))
    record(
        "CPU ms of a product of two 1024 x 1024 float32 matrices",
        1e3 * product,
        float(np.std(products)) * 1e3,
    )
    record("CPU time of a training", float(np.mean(times)) / product, None, ratio_to="the matrix product")


if __name__ == "__main__":
    main()
