"""Weights that ship: a finished run of toys, and a distribution that offers what it has learned."""

from __future__ import annotations

import shutil
from pathlib import Path

from toybox import install
from typer.testing import CliRunner

from sbikit.cli import app
from sbikit.plugins.installed import catalogue
from sbikit.runs import ship

CHOSEN = ["--sim", "toy", "--estimator", "toy-linear", "--validator", "toy-mean"]
SMALL = [f"--set=sampling.{key}" for key in ("observations=40", "draws=8", "shown_draws=50")]
STAGES = ("simulate", "fit", "sample", "validate")

OFFERING = """
from pathlib import Path

from sbikit import Pretrained, hookimpl

@hookimpl
def sbikit_pretrained():
    return [Pretrained("toys", Path(__file__).parent / "toys", "a line through toys")]
"""


def call(*words: str | Path) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def finished_run(folder: Path, *words: str) -> Path:
    """A run folder of toys, all but its report."""
    status, _, said = call("init", folder, *CHOSEN, *SMALL, *words)
    assert status == 0, said
    for stage in STAGES:
        status, _, said = call(stage, folder)
        assert status == 0, said
    return folder


def copied_run(shared: Path, folder: Path) -> Path:
    """The same, made once for many tests, at `shared`."""
    if not shared.exists():
        finished_run(shared)
    shutil.copytree(shared, folder)
    return folder


def install_weights(site: Path, run: Path, distribution: str = "sbikit-giver") -> Path:
    """A distribution that ships what a run has learned, as "toys"; the folder of the weights."""
    module = distribution.replace("-", "_")
    install(site, distribution, {distribution: module}, {f"{module}/__init__.py": OFFERING})
    shipped = ship(run, site / module / "toys")
    catalogue.cache_clear()
    return shipped
