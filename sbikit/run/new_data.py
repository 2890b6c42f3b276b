"""The posterior of a user's own observation, by the fitted sampler or by the reference."""

from __future__ import annotations

from pathlib import Path

from sbikit.problem.errors import OptionError, RunFolderError
from sbikit.problem.seeds import draw_seeds
from sbikit.roles.sampler import Sampler
from sbikit.roles.trust import Trust
from sbikit.run.drawing import draw, observed
from sbikit.run.job import Run
from sbikit.run.work import bounds_of, first, summarised
from sbikit.storage.observation import read_observation
from sbikit.storage.write import write_posterior


def fitted(run: Run) -> Sampler:
    """The fitted sampler.

    Raises:
        RunFolderError: the fit is not done.
    """
    if not run.folder.ledger.done("fit", ()):
        raise RunFolderError(
            "There is no trained posterior in this run folder.",
            where=str(run.folder.path),
            fix=f"sbikit fit {run.folder.path}",
        )
    return run.sampler


def exact(run: Run) -> Sampler:
    """The reference, for which nothing of the run need be done.

    Raises:
        OptionError: the run has no reference.
    """
    if run.reference is None:
        raise OptionError(
            "This run has no reference sampler.",
            where=str(run.folder.path / "run.yaml"),
            expected="reference: {name: ...}",
            got="reference: null",
            fix="make a run folder that has one: sbikit init DIR --reference NAME",
        )
    return run.reference


def sample_observation(run: Run, sampler: Sampler, *, name: str, file: Path, draws: int, out: Path) -> Trust:
    """Draw the posterior of new data.

    Args:
        run: the run.
        sampler: `fitted(run)` or `exact(run)`.
        name: its name; the random numbers depend on it, so that two samplers share none.
        file: file with the observed variables, see `sbikit.storage.read_observation`.
        draws: how many.
        out: netCDF file to write; attributes of its group `posterior` hold name and trust.

    Returns:
        What the sampler says of its draws.

    Raises:
        ObservationError: the file does not fit the simulator.
    """
    observation = read_observation(file, run.simulator.spec)
    seeds = draw_seeds(run.config.seed, f"observation/{name}", 0, 1)
    found = draw(sampler, observed(observation, sampler.spec, 0, 1), draws, seeds)
    write_posterior(
        out,
        spec=sampler.spec,
        posterior=first(found.values, 1),
        sampler=name,
        trust=found.trust[0],
        observed=first(observation, 0),
        summaries=summarised(run.simulator, observation),
        summarised=run.simulator.summarised,
        bounds={name: ends for name, ends in bounds_of(run).items() if name in found.values},
    )
    return found.trust[0]
