"""A run whose latents have constants among them ends in a page that says what could not be judged."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from rich.console import Console
from toybox import install

from sbikit.runs.config import load_config
from sbikit.runs.console_monitor import ConsoleMonitor
from sbikit.runs.draft import Overrides
from sbikit.runs.folder import RunFolder
from sbikit.runs.job import Run
from sbikit.runs.stages import run_stages
from sbikit.storage.metrics import read_metrics

OFFER = """
from sbikit import Offer, hookimpl


@hookimpl
def sbikit_simulators():
    return [Offer("still", "sbikit_still.parts:Still", "constants among its latents")]
"""

PARTS = """
import torch

from sbikit import Field, Normal, Prior, Simulator, Vector, normals


class Still(Simulator):
    prior = Prior({"a": Normal(0.0, 1.0)})
    outputs = (Vector("w", ("moves", "stays")), Field("f", (4,), channels=2), Field("d", (4,)))
    observed = ("d",)

    def simulate(self, parameters, *, seeds):
        a, z = parameters["theta"], normals(seeds, (3, 4))
        f = torch.stack([a + 0.3 * z[:, 0], torch.full_like(z[:, 0], 2.0)], 1)
        w = torch.stack([a[:, 0] + z[:, 2, 0], torch.full_like(a[:, 0], 5.0)], 1)
        return {"w": w, "f": f, "d": f[:, :1] + 0.3 * z[:, 1:2]}
"""


def test_constants_are_left_out_of_the_verdict_and_named(site: Path, tmp_path: Path) -> None:
    modules = {"sbikit_still/__init__.py": OFFER, "sbikit_still/parts.py": PARTS}
    install(site, "sbikit-still", {"still": "sbikit_still"}, modules)
    sizes = {"steps": 2, "width": 16, "depth": 1, "heads": 2, "guide_simulations": 256, "evaluations": 4}
    assignments = (
        *(f"estimator.{name}={value}" for name, value in sizes.items()),
        *("sampling.observations=40", "sampling.draws=16", "sampling.shown_draws=50"),
    )
    overrides = Overrides("still", "diffusion-transformer", ("mira", "tarp"), None, assignments=assignments)
    folder = RunFolder.create(tmp_path / "run", load_config(overrides=overrides))
    screen = io.StringIO()
    monitor = ConsoleMonitor(Console(file=screen, width=200), folder.log, folder.training)
    run_stages(Run(folder, monitor, torch.device("cpu"), "sbikit run"))
    first, *others = read_metrics(folder.metrics)
    assert [(m.variable, m.verdict) for m in first.metrics] == [("w.stays", "none"), ("f.2", "none")]
    assert {report.validator for report in others} == {"mira", "tarp"}
    judged = {m.variable for report in others for m in report.metrics}
    assert judged == {"theta", "theta.a", "w", "w.moves", "f", "joint"}
    assert "w.stays is left out" in folder.log.read_text()
    page = (folder.path / "report.html").read_text()
    assert "its truths do not vary" in page
