"""The law of a preset's parameters, by how many simulations teach it: `python benchmarks/law.py PRESET [COUNT
...]`.

Constants and guide are fitted as the preset does. Then the law of the parameters given statistics of the data
is learned from the first COUNT of the simulations that follow (a fifth, a half and all of the preset's, where
left out), and judged by others that neither taught nor chose: minus the log likelihood of their white
parameters in nats, and the variance of (truth - mean) / sd of each. One thread.
"""

from __future__ import annotations

import argparse
import math
import time

import torch
from _product import product_seconds
from _record import record
from _untrained import untrained

from sbikit import QuietMonitor, Simulations, load, mean_and_error
from sbikit.runs.config import load_config
from sbikit_transformer.constants import fit_constants
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.teaching import judges_of_law, teach
from sbikit_transformer.training import wanted_of_law

OTHERS, AT_ONCE = 6144, 256


def rows(denoiser: Denoiser, simulations: Simulations, first: int, count: int) -> dict[str, torch.Tensor]:
    """What so many simulations from `first` on teach."""
    parts = [
        teach(denoiser, simulations.training(at, min(AT_ONCE, first + count - at)), guided=at == first)
        for at in range(first, first + count, AT_ONCE)
    ]
    return {name: torch.cat([part[name] for part in parts if name in part]) for name in parts[0]}


def judged(denoiser: Denoiser, others: dict[str, torch.Tensor], count: int) -> None:
    """Tell of the law as it is."""
    u, told = others["u"], others["told"]
    constant = 0.5 * u.shape[1] * math.log(2.0 * math.pi)
    parts = list(zip(u.split(AT_ONCE), told.split(AT_ONCE), strict=True))
    with torch.no_grad():
        laws = [denoiser.posterior(part) for _, part in parts]
        first = torch.cat([denoiser.posterior.first(part).log_density(at) for at, part in parts])
    own = torch.cat([law.log_density(at) for law, (at, _) in zip(laws, parts, strict=True)])
    mean, sd = (torch.cat([getattr(law.whole(), name) for law in laws]) for name in ("mean", "sd"))
    name = f"minus log likelihood, nats, {count:,} simulations"
    record(name, *mean_and_error((constant - own).numpy()))
    record(f"{name}, the law that is linear in the statistics", *mean_and_error((constant - first).numpy()))
    scalars = [label for vector in denoiser.spec.vectors for label in vector.labels]
    for scalar, z in zip(scalars, ((u - mean) / sd).square().T, strict=True):
        found = mean_and_error(z.numpy())
        record(f"variance of (truth - mean) / sd of {scalar}, {count:,} simulations", *found, ideal=1.0)


def main() -> None:
    """Fit, learn, tell."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("preset")
    words.add_argument("counts", type=int, nargs="*", metavar="COUNT")
    given = words.parse_args()
    torch.set_num_threads(1)
    config = load_config(given.preset)
    options = config.estimator.options
    assert isinstance(options, TransformerOptions)
    simulator = load("simulator", config.simulator.name, **config.simulator.options.model_dump(mode="json"))
    simulations, guided_by = Simulations(simulator, config.seed), options.guide_simulations
    denoiser = untrained(simulator, options)
    fit_constants(denoiser, (simulations.training(at, AT_ONCE) for at in range(0, guided_by, AT_ONCE)))
    wanted = wanted_of_law(options)
    counts = sorted(given.counts or (wanted // 5, wanted // 2, wanted))
    record("CPU ms of a product of two 1024 x 1024 float32 matrices", 1e3 * product_seconds(), None)
    began = time.process_time()
    kept = rows(denoiser, simulations, guided_by, OTHERS + counts[-1])
    spent = time.process_time() - began
    record("CPU ms to simulate and look at one", 1e3 * spent / (OTHERS + counts[-1]), None)
    others = {name: value[:OTHERS] for name, value in kept.items() if name in ("u", "told")}
    for count in counts:
        taught = {name: kept[name][OTHERS : OTHERS + count] for name in ("u", "told")}
        began = time.process_time()
        denoiser.posterior.fit(taught["u"], taught["told"], judges_of_law(count), QuietMonitor())
        record(f"CPU s to learn from {count:,} simulations", time.process_time() - began, None)
        judged(denoiser, others, count)


if __name__ == "__main__":
    main()
