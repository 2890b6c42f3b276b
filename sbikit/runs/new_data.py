"""The posterior of a user's own observation, by the fitted sampler or by the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sbikit.problem.errors import ObservationError, OptionError, RunFolderError
from sbikit.problem.memory import check_memory
from sbikit.problem.seeds import draw_seeds
from sbikit.problem.variables import Values, count_numbers
from sbikit.roles.monitor import Monitor
from sbikit.roles.plugin import supports
from sbikit.roles.sampler import Draws, Sampler
from sbikit.roles.simulator import SupportsMasks
from sbikit.roles.trust import Trust
from sbikit.runs.depends import another_configuration, depends_on
from sbikit.runs.drawing import draw, observed
from sbikit.runs.familiar import Wary, read_familiar
from sbikit.runs.given import check_given, checked_names, conditional, spec_given
from sbikit.runs.job import Run
from sbikit.runs.stages import after
from sbikit.runs.work import bounds_of, summarised
from sbikit.storage.observation import read_observation
from sbikit.storage.write import new_draws, write_new_draws

_AT_ONCE = 32  # observations between two marks of progress: enough that chains advance in one batch


def fitted(run: Run) -> Sampler:
    """The fitted sampler of a run folder, see `wary`.

    Raises:
        RunFolderError: the fit is not done, or with another configuration.
    """
    wrong = run.folder.ledger.differs("fit", depends_on(run.config, "fit"))
    if wrong:
        raise another_configuration(run.folder.path, "fit", wrong)
    if not run.folder.ledger.done("fit", after(run.config, "fit")):
        raise RunFolderError(
            "There is no trained posterior in this run folder.",
            where=str(run.folder.path),
            fix=f"sbikit fit {run.folder.path}",
        )
    return wary(run)


def wary(run: Run) -> Sampler:
    """The fitted sampler, which says where data are unlike those that it was trained on.

    Raises:
        CheckpointError: its weights are damaged or belong to another problem.
        RunFolderError: what it was trained on is not noted, or the note is damaged.
    """
    familiar = read_familiar(run.folder.first_draws_noted)
    if familiar is None:
        run.monitor.say("This run kept nothing that the data can be compared with.")
        return run.sampler
    return Wary(run.sampler, familiar)


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


def draws_for(
    sampler: Sampler,
    observation: Values,
    n: int,
    *,
    seeds: NDArray[np.int64],
    monitor: Monitor,
    where: str,
) -> Draws:
    """Draws for new data, some observations at a time.

    Args:
        sampler: of the posterior.
        observation: all observed variables of the simulator, each (B, *shape).
        n: draws an observation.
        seeds: (B,).
        monitor: hears of progress where there are several observations.
        where: what says how many draws, for messages.

    Raises:
        OptionError: they do not fit into memory.
        ObservationError: there is not one seed for each.
    """
    count = len(next(iter(observation.values())))
    check_memory(
        count * n * count_numbers(sampler.spec.latents),
        f"{n} draws for each of {count} observations",
        where=where,
        fix="ask for fewer, or for fewer observations at once",
    )
    if len(seeds) != count:
        raise ObservationError(
            "There is not one seed an observation.", where="seeds", expected=str(count), got=str(len(seeds))
        )
    parts = []
    with monitor.progress("drawing posteriors", count * n) as advance:
        for start in range(0, count, _AT_ONCE):
            stop = min(start + _AT_ONCE, count)
            parts.append(
                draw(sampler, observed(observation, sampler.spec, start, stop), n, seeds[start:stop])
            )
            advance((stop - start) * n)
    return Draws.joined(parts)


def seeds_for(name: str, seed: int, count: int) -> NDArray[np.int64]:
    """Seeds of the first `count` observations of new data, (count,): another sampler has others."""
    return draw_seeds(seed, f"observation/{name}", 0, count)


def sample_observation(
    run: Run, sampler: Sampler, *, name: str, file: Path, draws: int, out: Path, given: str | None = None
) -> tuple[Trust, ...]:
    """Draw the posterior of new data, of one observation or of many.

    Args:
        run: the run.
        sampler: `fitted(run)` or `exact(run)`.
        name: its name; the random numbers depend on it, so that two samplers share none.
        file: file with the observed variables, see `sbikit.storage.read_observation`.
        draws: how many for each.
        out: netCDF file to write; attributes of its group `posterior` hold name and trust.
        given: names of latents that the file holds, too, with commas between them: the posterior is that
            of the others given these.

    Returns:
        What the sampler says of its draws, one an observation.

    Raises:
        ObservationError: the file does not fit the simulator.
        OptionError: the draws do not fit into memory, or a name that is given is that of no latent.
        UnsupportedError: the sampler cannot draw the others given these.
    """
    names = () if given is None else checked_names(given, run.simulator.spec)
    sampler, spec = conditional(sampler, names, name), spec_given(run.simulator.spec, names)
    masks = run.simulator.masks() if supports(run.simulator, SupportsMasks) else {}
    observation = read_observation(file, spec, masks)
    check_given(observation, [spec[known] for known in names], run.simulator.prior, str(file))
    count = len(next(iter(observation.values())))
    seeds = seeds_for(name, run.config.seed, count)
    found = draws_for(sampler, observation, draws, seeds=seeds, monitor=run.monitor, where="--draws")
    tree = new_draws(
        spec=sampler.spec,
        draws=found,
        observed=observation,
        summaries=summarised(run.simulator, observation),
        summarised=run.simulator.summarised,
        sampler=name,
        bounds={name: ends for name, ends in bounds_of(run).items() if name in found.values},
        single=count == 1,
    )
    write_new_draws(out, tree)
    return found.trust
