"""A setting of the quick preset's transformer on the tuning set.

    python benchmarks/tuning.py FOLDER NAME [OPTION=VALUE ...]

The tuning set is the first held-out observations of the stream of seed 1, on which no result is reported;
their exact posterior by hmc is kept in FOLDER. Options are the estimator's (`steps=2000`); the trained
network is kept in FOLDER/NAME, and one that is there is judged without training. One thread. Prints what
training costs, the squared error of the denoised parameters at each noise level beside the variance that the
denoiser's own slope implies (equal where it is exact), that of the field given true parameters beside the
guide's, and the draws beside hmc.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from _product import product_seconds
from _record import record
from _tuning.measures import Figures, coherence, parameters, pixels, shapes
from _tuning.trained import by_level, field_by_level, reference, trained

from sbikit import Simulations, draw_seeds, load

SEED = 1
LEVELS = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.5)


def main() -> None:
    """Train, if need be, and judge."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("folder", type=Path)
    words.add_argument("name")
    words.add_argument("options", nargs="*", metavar="OPTION=VALUE")
    words.add_argument("--observations", type=int, default=128, help="whose maps are ranked")
    words.add_argument("--beside", type=int, default=48, help="of them compared with hmc")
    words.add_argument("--draws", type=int, default=96)
    given = words.parse_args()
    torch.set_num_threads(1)
    simulations = Simulations(load("simulator", "lognormal"), SEED)
    product = product_seconds()
    record("CPU ms of a product of two 1024 x 1024 float32 matrices", 1e3 * product, None)
    options = dict(word.split("=", 1) for word in given.options)
    sampler, seconds = trained(given.folder / given.name, simulations, options)
    if seconds is not None:
        record("CPU seconds of training", seconds, None)
        record("CPU time of training", seconds / product, None, ratio_to="the matrix product")
    labels = list(simulations.simulator.prior.laws)
    for level in LEVELS:
        for label, error, implied in zip(
            labels, *by_level(sampler, simulations, math.exp(level)), strict=True
        ):
            record(f"squared error of {label} at ln sigma {level}, units of its prior", *error)
            record(f"variance of {label} implied by the slope at ln sigma {level}", *implied, ideal=error[0])
        (error,), (change,) = field_by_level(sampler, simulations, math.exp(level))
        record(f"squared error of a pixel at ln sigma {level}, parameters given", *error)
        record(f"that over the guide's, less one, at ln sigma {level}", *change)
    held_out = simulations.held_out(0, given.observations)
    seeds = draw_seeds(SEED, "tuning", 0, given.observations)
    draws = sampler.sample({"shear": held_out["shear"]}, given.draws, seeds=seeds).values
    exact = reference(given.folder, simulations, given.beside)
    beside = {name: value[:, : given.beside] for name, value in draws.items()}
    show(parameters(labels, beside["theta"].double(), exact["theta"].double()))
    show(pixels(beside["kappa"], exact["kappa"]))
    show(coherence(beside, exact))
    show(shapes(draws["kappa"], held_out["kappa"]))


def show(figures: Figures) -> None:
    """One line each."""
    for name, value, error, ideal in figures:
        record(name, value, error, ideal=ideal)


if __name__ == "__main__":
    main()
