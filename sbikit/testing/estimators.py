"""The contract of estimators."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch

from sbikit.problem.errors import CheckpointError, UnsupportedError
from sbikit.problem.seeds import draw_seeds
from sbikit.problem.variables import Values
from sbikit.roles.estimator import Estimator
from sbikit.roles.monitor import QuietMonitor, Workspace
from sbikit.roles.sampler import Sampler
from sbikit.roles.simulator import (
    Simulator,
)
from sbikit.simulations.stream import Simulations
from sbikit.testing.field import GaussianField, GaussianFieldOptions
from sbikit.testing.promises import (
    ContractError,
    global_random_state_kept,
    same,
    sbikit_errors_are_broken_promises,
)
from sbikit.testing.samplers import check_sampler
from sbikit.testing.vector import GaussianVector


def check_estimator(estimator: Estimator, simulator: Simulator | None = None) -> None:
    """Check an estimator's match, fit, save and load; it is fitted once.

    Args:
        estimator: with options that make the fit quick.
        simulator: what it learns; where left out, the first toy that it can infer.

    Raises:
        ContractError: the first promise found broken.
    """
    name = type(estimator).__name__
    simulator = _matching_toy(estimator) if simulator is None else simulator
    with sbikit_errors_are_broken_promises(f"{name}.match"):
        spec = estimator.match(simulator.spec)
    simulations = Simulations(simulator, 0)
    with sbikit_errors_are_broken_promises(f"{name}.fit"), global_random_state_kept(f"{name}.fit"):
        sampler = estimator.fit(simulations, seed=0, workspace=Workspace(), monitor=QuietMonitor())
    if sampler.spec != spec:
        raise ContractError(
            "The fitted sampler infers something else than `match` said.",
            where=f"{name}.fit",
            expected=repr(spec),
            got=repr(sampler.spec),
        )
    held_out = simulations.held_out(0, 3)
    observation = {v.name: held_out[v.name] for v in spec.observables}
    check_sampler(sampler, observation)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "saved"
        folder.mkdir()
        estimator.save(sampler, folder)
        _check_round_trip(estimator, sampler, simulator, folder, observation)
        _check_damage(estimator, simulator, folder)


def _matching_toy(estimator: Estimator) -> Simulator:
    for toy in (GaussianVector(), GaussianField(GaussianFieldOptions(size=8))):
        try:
            estimator.match(toy.spec)
        except UnsupportedError:
            continue
        return toy
    raise ContractError(
        "The estimator can infer neither toy.",
        where=f"{type(estimator).__name__}.match",
        fix="give check_estimator a simulator",
    )


def _check_round_trip(
    estimator: Estimator, sampler: Sampler, simulator: Simulator, folder: Path, observation: Values
) -> None:
    where = f"{type(estimator).__name__}.load"
    with sbikit_errors_are_broken_promises(where):
        loaded = estimator.load(folder, simulator, device=torch.device("cpu"))
        seeds = draw_seeds(0, "contract/load", 0, len(next(iter(observation.values()))))
        drawn, again = (s.sample(observation, 8, seeds=seeds).values for s in (sampler, loaded))
    for key, tensor in drawn.items():
        same(again[key], tensor, where, f"a loaded sampler draws the same {key!r}", like=tensor)


def _check_damage(estimator: Estimator, simulator: Simulator, folder: Path) -> None:
    """Cut every file short, take every file away, and ask for another problem: each must be refused."""
    where = f"{type(estimator).__name__}.load"
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        inside = path.relative_to(folder)
        for damage in ("cut short", "missing"):
            copy = folder.parent / "damaged"
            shutil.copytree(folder, copy)
            content = path.read_bytes()
            (copy / inside).unlink()
            if damage == "cut short":
                (copy / inside).write_bytes(content[: len(content) // 2])
            _expect_refusal(estimator, simulator, copy, f"{inside} is {damage}", where)
            shutil.rmtree(copy)
    other = GaussianField(GaussianFieldOptions(size=4)) if simulator.spec.vectors else GaussianVector()
    _expect_refusal(estimator, other, folder, "the simulator is another", where)


def _expect_refusal(estimator: Estimator, simulator: Simulator, folder: Path, what: str, where: str) -> None:
    try:
        estimator.load(folder, simulator, device=torch.device("cpu"))
    except CheckpointError:
        return
    except Exception as error:
        raise ContractError(
            f"A damaged checkpoint ({what}) raises the wrong error.",
            where=where,
            expected="CheckpointError",
            got=f"{type(error).__name__}: {error}",
        ) from error
    raise ContractError(
        f"A damaged checkpoint ({what}) is read without complaint.",
        where=where,
        expected="CheckpointError",
        got="a sampler",
    )
