"""The fit of a run's estimator in one process, alone or as one of several."""

from __future__ import annotations

import shutil
from pathlib import Path

from sbikit.learning.identity import describe_problem, fingerprint
from sbikit.problem.seeds import derive_seed
from sbikit.problem.spec import Spec
from sbikit.problem.variables import count_numbers
from sbikit.roles.monitor import Monitor, Workspace
from sbikit.runs.job import Run
from sbikit.simulations.training import FirstDraws, TrainingStream

# Simulations that fix the scales and centres of validators: a standard deviation to 1.6 %. Those that the fit
# has drawn are kept for it; if they are fewer, or take more memory than a validator should, they do, down to
# 4.4 %.
TRAINING_DRAWS, LEAST_TRAINING, TRAINING_BYTES = 2048, 256, 2**29


def made_by(run: Run) -> str:
    """What training simulations depend on."""
    problem = describe_problem(run.simulator, run.simulator.spec)
    return fingerprint(run.config.simulator.tree(), run.config.seed, problem)


def fresh_estimator(run: Run) -> Path:
    """Where a fitted sampler is written before it takes its place."""
    return run.folder.estimator.with_name("estimator.partial")


def most_draws(spec: Spec) -> int:
    """How many of the first training simulations are kept: fewer where each is large."""
    size = 4 * count_numbers((*spec.latents, *spec.observables))
    return min(TRAINING_DRAWS, max(LEAST_TRAINING, TRAINING_BYTES // size))


def first_draws(run: Run, reached: int = 0) -> FirstDraws:
    """The first training simulations, as the fit leaves them.

    Args:
        run: the run.
        reached: how far into the stream other processes have drawn.
    """
    return FirstDraws(run.folder.parts / "training", made_by(run), most_draws(run.simulator.spec), reached)


def fit_here(run: Run, kept: FirstDraws, workspace: Workspace, monitor: Monitor) -> None:
    """Fit, and write the sampler to `fresh_estimator`, as the first process of a team alone does.

    Args:
        run: the run.
        kept: is given the first simulations.
        workspace: of this process.
        monitor: where it reports.
    """
    sampler = run.estimator.fit(
        TrainingStream(run.simulations, kept),
        seed=derive_seed(run.config.seed, "fit"),
        workspace=workspace,
        monitor=monitor,
    )
    if workspace.team.rank:
        return
    fresh = fresh_estimator(run)
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    run.estimator.save(sampler, fresh)
