"""What a gradient that `hmc` follows costs: `python benchmarks/gradient.py [--presets standard,paper]`.

On the density of a preset's simulator given two held-out observations, four chains of each: by autograd, and
written out by hand, in turn in one process on one thread, beside a fixed matrix product. How far one is from
the other is told, too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import yaml
from _product import product_seconds
from _record import record
from torch import Tensor

import sbikit
from sbikit import draw_seeds
from sbikit.runs.draft import presets
from sbikit_exact.density import log_density_of

OBSERVATIONS, CHAINS, PAIRS = 2, 4, 12
SPREAD = 0.7  # of the coordinates that it is taken at: between the prior's and a posterior's


def seconds_a_row(work: Callable[[Tensor], object], z: Tensor) -> float:
    """CPU seconds, of one call on all rows."""
    began = time.process_time()
    work(z)
    return (time.process_time() - began) / (OBSERVATIONS * CHAINS)


def tell(preset: str) -> None:
    """The figures of a preset."""
    options = yaml.safe_load(presets()[preset].read_text())["simulator"]
    simulator = sbikit.load("simulator", options.pop("name"), **options)
    parameters = simulator.prior.sample(draw_seeds(0, "parameters", 0, OBSERVATIONS))
    seen = simulator.simulate(parameters, seeds=draw_seeds(0, "simulator", 0, OBSERVATIONS))
    density = log_density_of(simulator, "hmc")(
        {v.name: torch.as_tensor(seen[v.name]) for v in simulator.spec.observables}
    )
    if density.gradient is None:
        raise SystemExit(f"{preset}: no gradient is written out")
    source = torch.Generator().manual_seed(0)
    z = SPREAD * torch.randn(CHAINS, OBSERVATIONS, density.size, generator=source, dtype=torch.float64)

    def by_autograd(z: Tensor) -> Tensor:
        at = z.clone().requires_grad_()
        (found,) = torch.autograd.grad(density.log_prob(at).sum(), at)
        return found

    exact, quick = by_autograd(z), density.gradient(z.float())
    record(f"{preset}: error of the gradient written out", float((quick - exact).norm() / exact.norm()), None)
    times = np.array(
        [
            (seconds_a_row(by_autograd, z), seconds_a_row(density.gradient, z.float()), product_seconds())
            for _ in range(PAIRS)
        ]
    )
    for name, column in (("by autograd", 0), ("written out", 1)):
        mean, error = sbikit.mean_and_error(1e3 * times[:, column])
        record(f"{preset}: CPU ms of a gradient {name}, a chain", mean, error)
        mean, error = sbikit.mean_and_error(times[:, column] / times[:, 2])
        record(f"{preset}: a gradient {name}, a chain", mean, error, ratio_to="a matrix product")
    mean, error = sbikit.mean_and_error(times[:, 1] / times[:, 0])
    record(f"{preset}: a gradient written out", mean, error, ratio_to="one by autograd")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and tell."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--presets", default="standard,paper", metavar="NAMES", help="commas between")
    torch.set_num_threads(1)
    for preset in words.parse_args(arguments).presets.split(","):
        tell(preset)


if __name__ == "__main__":
    main()
