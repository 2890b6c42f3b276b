"""The log-normal problem: what is observed, exact draws for it, and a run of the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from _kept import sampled
from _record import record
from torch import Tensor

import sbikit
from sbikit import Draws, QuietMonitor, Sampler, Simulations, Simulator, Values, derive_seed


def posterior(name: str, simulator: Simulator, **options: Any) -> Sampler:
    """The simulator's posterior by one of the exact samplers."""
    return sbikit.load("sampler", name, **options).posterior(simulator, monitor=QuietMonitor())


def observed(simulator: Simulator, count: int, seed: int = 0) -> dict[str, Tensor]:
    """Held-out draws of all variables, each (count, *shape)."""
    return Simulations(simulator, seed).held_out(0, count)


def data(simulator: Simulator, draws: Values) -> dict[str, Tensor]:
    """The observables among them."""
    return {name: draws[name] for name in simulator.observed}


def lognormal_draws(folder: Path, count: int) -> tuple[Simulator, dict[str, Tensor], Draws]:
    """The quick preset's simulator, held-out draws of all variables, and 1,000 of hmc for each."""
    simulator = sbikit.load("simulator", "lognormal")
    held_out = observed(simulator, count)
    hmc, seed = posterior("hmc", simulator), derive_seed(0, "sbc")
    return (
        simulator,
        held_out,
        sampled(folder / "hmc", hmc, data(simulator, held_out), 1000, seed, at_once=32),
    )


def trusted_rows(draws: Draws) -> list[int]:
    """The observations whose draws can be trusted."""
    return [b for b, one in enumerate(draws.trust) if one.trustworthy]


def record_trust(name: str, draws: Draws) -> None:
    """How many that are."""
    record(name, float(len(trusted_rows(draws))), None)


def run_sbikit(*arguments: str) -> None:
    """A command, whose output is no figure."""
    subprocess.run([sys.executable, "-m", "sbikit", *arguments], check=True, stdout=sys.stderr)
