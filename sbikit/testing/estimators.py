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
from sbikit.roles.monitor import Monitor, QuietMonitor
from sbikit.roles.sampler import Sampler
from sbikit.roles.simulator import Simulator
from sbikit.simulations.stream import Simulations
from sbikit.testing.field import GaussianField, GaussianFieldOptions
from sbikit.testing.fits import check_fits, fitted
from sbikit.testing.learned import OBSERVATIONS, check_learned
from sbikit.testing.promises import ContractError, same, sbikit_errors_are_broken_promises
from sbikit.testing.samplers import check_sampler
from sbikit.testing.short import short
from sbikit.testing.vector import GaussianVector

# Of a variable's sd: two orders above float32's rounding, one below what weights in half precision change.
_LOADED = 1e-5


def check_estimator(
    estimator: Estimator, simulator: Simulator | None = None, *, monitor: Monitor | None = None
) -> None:
    """Check an estimator's match, fit, save and load; it is fitted three times.

    Args:
        estimator: options that are not given are those of its class's `for_checks`, else the defaults; with
            them a fit is quick, and long enough to learn something of the toy.
        simulator: what it learns; where left out, the first toy that it can infer, of which it must learn at
            least a quarter of what the data tell.
        monitor: hears of what may be meant and may be a mistake, such as a seed that does not matter.

    Raises:
        ContractError: the first promise found broken.
    """
    name, monitor = type(estimator).__name__, QuietMonitor() if monitor is None else monitor
    estimator = short(estimator)
    simulator = _matching_toy(estimator) if simulator is None else simulator
    with sbikit_errors_are_broken_promises(f"{name}.match"):
        spec = estimator.match(simulator.spec)
    sampler = fitted(estimator, simulator)
    if sampler.spec != spec:
        raise ContractError(
            "The fitted sampler infers something else than `match` said.",
            where=f"{name}.fit",
            expected=repr(spec),
            got=repr(sampler.spec),
        )
    held_out = Simulations(simulator, 0).held_out(0, OBSERVATIONS)
    observation = {v.name: held_out[v.name][:3] for v in spec.observables}
    check_sampler(sampler, observation)
    if isinstance(simulator, GaussianVector | GaussianField):
        check_learned(sampler, simulator.exact_sampler(), held_out, f"{name}.fit")
    check_fits(estimator, simulator, sampler, observation, monitor)
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
        text = f"a loaded sampler draws the same {key!r}"
        same(again[key], tensor, where, text, like=tensor, tolerance=_LOADED)


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
