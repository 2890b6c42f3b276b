"""One run of these parts, a fresh process a stage."""

from __future__ import annotations

from pathlib import Path

from _entry_points import install

_MODULE = """
from sbikit import Offer, hookimpl

@hookimpl
def sbikit_simulators():
    return [Offer("big-pixels", "_big.parts:Pixels", "independent pixels")]

@hookimpl
def sbikit_estimators():
    return [Offer("big-untrained", "_big.parts:Untrained", "needs no training")]

@hookimpl
def sbikit_samplers():
    return [Offer("big-exact", "_big.parts:Exact", "exact draws")]
"""


def install_parts(folder: Path) -> None:
    """Let sbikit find these parts, by a distribution in `folder`."""
    install(folder, "big", _MODULE)


def words(size: dict[str, int], validators: list[str]) -> list[str]:
    """What `sbikit init` is asked for."""
    settings = {
        "simulator.pixels": size["pixels"],
        "simulator.bins": size["bins"],
        "estimator.simulations": size["simulations"],
        "sampling.observations": size["observations"],
        "sampling.draws": size["draws"],
        "sampling.shown_draws": size["shown"],
    }
    chosen = ["--sim", "big-pixels", "--estimator", "big-untrained", "--device", "cpu"]
    if size["reference"]:
        chosen += ["--reference", "big-exact"]
        settings["sampling.reference_observations"] = size["reference"]
        settings["sampling.reference_draws"] = 2 * size["draws"]
    for name in validators:
        chosen += ["--validator", name]
    return chosen + [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
