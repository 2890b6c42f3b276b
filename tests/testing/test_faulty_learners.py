"""The contract checks name the fault of an estimator, a sampler or a validator, and accept what is right."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import (
    CheckpointError,
    Draws,
    Estimator,
    Evidence,
    ExactSampler,
    JointDraws,
    Metric,
    Monitor,
    QuietMonitor,
    Reading,
    Report,
    Sampler,
    Simulations,
    Simulator,
    Spec,
    Trust,
    UnsupportedError,
    Validator,
    Values,
    Workspace,
    generator,
    normals,
)
from sbikit.testing import (
    ContractError,
    GaussianField,
    GaussianFieldOptions,
    GaussianVector,
    Spoiled,
    check_estimator,
    check_exact_sampler,
    check_sampler,
    check_validator,
)
from sbikit.testing.learned import explained


class Hearing(QuietMonitor):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard.append(text)


# --- estimators -----------------------------------------------------------------------------


class NormalSampler(Sampler):
    """Normal around a linear prediction from (1, x)."""

    def __init__(self, spec: Spec, weights: Tensor, root: Tensor) -> None:
        self.spec, self.weights, self.root = spec, weights, root

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        x = observation["x"].double()
        design = torch.cat([torch.ones(len(x), 1, dtype=x.dtype), x], 1)
        noise = normals(seeds, (n, 2)).double().transpose(0, 1)
        return Draws.unjudged({"theta": (design @ self.weights + noise @ self.root.T).float()})


class Regression(Estimator):
    """Linear regression with the covariance of its residuals: without randomness, and right."""

    def match(self, spec: Spec) -> Spec:
        if spec.fields:
            raise UnsupportedError("Vectors only.")
        return spec

    def batch(self, simulations: JointDraws, seed: int) -> Values:
        del seed
        return simulations.training(0, 2000)

    def fit(self, simulations: JointDraws, *, seed: int, workspace: Workspace, monitor: Monitor) -> Sampler:
        draws = self.batch(simulations, seed)
        theta, x = draws["theta"].double(), draws["x"].double()
        design = torch.cat([torch.ones(len(x), 1, dtype=x.dtype), x], 1)
        weights = torch.linalg.solve(design.T @ design, design.T @ theta)
        return NormalSampler(
            simulations.spec, weights, torch.linalg.cholesky((theta - design @ weights).T.cov())
        )

    def save(self, sampler: Sampler, folder: Path) -> None:
        assert isinstance(sampler, NormalSampler)
        content = {"weights": sampler.weights.tolist(), "root": sampler.root.tolist()}
        (folder / "fit.json").write_text(json.dumps(content))

    def load(self, folder: Path, simulator: Simulator, *, device: torch.device) -> Sampler:
        if simulator.spec.fields:
            raise CheckpointError("Another problem.")
        try:
            kept = json.loads((folder / "fit.json").read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError("Damaged.") from error
        weights, root = (torch.tensor(kept[key], dtype=torch.float64) for key in ("weights", "root"))
        return NormalSampler(simulator.spec, weights, root)


class Subsample(Regression):
    """A right fit with randomness, made from the seed."""

    def batch(self, simulations: JointDraws, seed: int) -> Values:
        whole = simulations.training(0, 2000)
        chosen = torch.randperm(2000, generator=generator(seed))[:500]
        return {name: value[chosen] for name, value in whole.items()}


class ReadsHeldOut(Regression):
    def batch(self, simulations: JointDraws, seed: int) -> Values:
        return simulations.held_out(0, 2000)


class WithoutASeed(Regression):
    """Its randomness comes from the system."""

    def batch(self, simulations: JointDraws, seed: int) -> Values:
        chosen = np.random.default_rng().permutation(2000)[:500]
        return {name: value[chosen] for name, value in simulations.training(0, 2000).items()}


class ForkedTorch(Regression):
    """Its randomness is that of the global state, which is put back."""

    def batch(self, simulations: JointDraws, seed: int) -> Values:
        with torch.random.fork_rng(devices=[]):
            chosen = torch.randperm(2000)[:500]
        return {name: value[chosen] for name, value in simulations.training(0, 2000).items()}


class RemembersCalls(Regression):
    calls = 0

    def batch(self, simulations: JointDraws, seed: int) -> Values:
        type(self).calls += 1
        return simulations.training(0, 200 + 50 * self.calls)


class LeavesFilesBehind(Regression):
    """A fit in a workspace's folder is another one."""

    def fit(self, simulations: JointDraws, *, seed: int, workspace: Workspace, monitor: Monitor) -> Sampler:
        few = workspace.folder is not None
        right = super().fit(simulations, seed=seed, workspace=workspace, monitor=monitor)
        assert isinstance(right, NormalSampler)
        return NormalSampler(right.spec, right.weights, 1.1 * right.root) if few else right


class Prior(Regression):
    """Draws of the prior, whatever the data."""

    def fit(self, simulations: JointDraws, *, seed: int, workspace: Workspace, monitor: Monitor) -> Sampler:
        theta = simulations.training(0, 2000)["theta"].double()
        weights = torch.zeros(4, 2, dtype=torch.float64)
        weights[0] = theta.mean(0)
        return NormalSampler(simulations.spec, weights, torch.linalg.cholesky(theta.T.cov()))


class Shuffled(Regression):
    """Data and parameters of different simulations: the prior, but for chance."""

    def batch(self, simulations: JointDraws, seed: int) -> Values:
        draws = simulations.training(0, 2000)
        return {"theta": draws["theta"], "x": draws["x"].roll(1, 0)}


class HalfPrecision(Regression):
    def save(self, sampler: Sampler, folder: Path) -> None:
        assert isinstance(sampler, NormalSampler)
        rounded = NormalSampler(sampler.spec, sampler.weights.half().double(), sampler.root)
        super().save(rounded, folder)


def test_estimators_with_and_without_randomness_are_accepted() -> None:
    monitor = Hearing()
    check_estimator(Subsample(), monitor=monitor)
    assert monitor.heard == []
    check_estimator(Regression(), monitor=monitor)
    assert "another seed gives the same sampler" in monitor.heard[0]


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (ReadsHeldOut, "reads the held-out stream"),
        (WithoutASeed, "Two fits with the same seed draw differently"),
        (ForkedTorch, "Two fits with the same seed draw differently"),
        (RemembersCalls, "Two fits with the same seed draw differently"),
        (LeavesFilesBehind, "Two fits with the same seed draw differently"),
        (Prior, "Draws do not depend on the observation"),
        (Shuffled, "learned next to nothing of 'theta'"),
        (HalfPrecision, "a loaded sampler draws the same"),
    ],
)
def test_the_fault_of_an_estimator_is_named(faulty: type[Estimator], message: str) -> None:
    with pytest.raises(ContractError, match=message) as caught:
        check_estimator(faulty())
    assert caught.value.where


def test_explained_variance_is_that_of_the_normal_posterior() -> None:
    """Of the exact posterior E is 1 - <posterior variance> / <prior variance>, the law of total variance."""
    toy = GaussianVector()
    exact, B, n = toy.exact_sampler(), 4000, 64
    draws = Simulations(toy, 0).held_out(0, B)
    found = explained(draws["theta"], exact.sample(draws, n, seeds=np.arange(B)).values["theta"])
    # the mean of n draws has a further variance of 1 / n of the posterior's
    variances = exact.covariance.diagonal() * (1.0 + 1.0 / n) / torch.tensor([0.25, 2.25])
    assert found == pytest.approx(float((1.0 - variances).mean()), abs=0.02)
    prior = toy.prior.sample(np.arange(B * n))["theta"].reshape(n, B, 2)
    assert explained(draws["theta"], prior) == pytest.approx(-1.0 / n, abs=0.02)


# --- samplers -------------------------------------------------------------------------------

Change = Callable[[Sampler, Values, int, NDArray[np.int64]], Draws]


class Altered(Sampler):
    """The exact sampler of a toy with its draws or its trust changed."""

    def __init__(self, change: Change, toy: GaussianVector | GaussianField | None = None) -> None:
        self._exact: Sampler = (toy or GaussianVector()).exact_sampler()
        self._change = change
        self.spec = self._exact.spec

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        return self._change(self._exact, observation, n, seeds)


def _trusting(*trust: object) -> Change:
    """Right draws with this trust for every observation, or for one after the other."""

    def change(exact: Sampler, x: Values, n: int, seeds: NDArray[np.int64]) -> Draws:
        values = exact.sample(x, n, seeds=seeds).values
        return Draws(values, tuple(trust[b % len(trust)] for b in range(len(seeds))))  # type: ignore[misc]

    return change


def _constant(exact: Sampler, x: Values, n: int, seeds: NDArray[np.int64]) -> Draws:
    """A chain that never moves: n times one draw."""
    theta = exact.sample(x, 1, seeds=seeds).values["theta"]
    return Draws.unjudged({"theta": theta.expand(n, -1, -1).contiguous()})


def _prior(exact: Sampler, x: Values, n: int, seeds: NDArray[np.int64]) -> Draws:
    """The prior, but for a trace of the data."""
    z = normals(seeds, (n, 2)).transpose(0, 1)
    return Draws.unjudged(
        {"theta": torch.tensor([1.0, -2.0]) + z * torch.tensor([0.5, 1.5]) + 1e-3 * x["x"][:, :2]}
    )


def _scribbling(exact: Sampler, x: Values, n: int, seeds: NDArray[np.int64]) -> Draws:
    draws = exact.sample(x, n, seeds=seeds)
    x["x"].zero_()
    return draws


class ReusesItsDraws(Altered):
    buffer = torch.zeros(512, 8, 2)

    def __init__(self) -> None:
        super().__init__(_trusting(Trust()))

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        part = self.buffer[:n, : len(seeds)]
        part.copy_(super().sample(observation, n, seeds=seeds).values["theta"])
        return Draws.unjudged({"theta": part})


def checked(sampler: Sampler, monitor: Monitor | None = None) -> None:
    toy = GaussianVector()
    observation = {"x": Simulations(toy, 0).held_out(0, 4)["x"]}
    check_sampler(sampler, observation, exact=toy.exact_sampler(), monitor=monitor)


GOOD = Trust(
    True,
    (
        Reading("R-hat", 1.005, 1.01),
        Reading("ESS", 4e3, 1000, "lower"),
        Reading("seconds", None),
    ),
)
DOUBT = Trust(False, (Reading("R-hat", math.inf, 1.1),), ("R-hat is too large",))


@pytest.mark.parametrize(
    "trust", [(Trust(),), (GOOD,), (GOOD, DOUBT), (Trust(True, (Reading("size", 3.0),)),)]
)
def test_true_trust_is_accepted(trust: tuple[Trust, ...]) -> None:
    monitor = Hearing()
    checked(Altered(_trusting(*trust)), monitor)
    assert monitor.heard == []


def test_trust_in_nothing_is_accepted_and_said() -> None:
    """Draws that are not trusted may be anything, and none of them is compared."""
    monitor = Hearing()

    def doubted(exact: Sampler, x: Values, n: int, seeds: NDArray[np.int64]) -> Draws:
        return Draws(_prior(exact, x, n, seeds).values, (DOUBT,) * len(seeds))

    checked(Altered(doubted), monitor)
    assert "none of 4 observations are trusted" in monitor.heard[0]


@pytest.mark.parametrize(
    ("change", "message", "got"),
    [
        (_constant, "called trustworthy that are not", "8 equal ones"),
        (_prior, "called trustworthy that are not", "standard deviations"),
        (_trusting(replace(GOOD, complaints=("it is stuck",))), "called trustworthy", "it is stuck"),
        (_trusting(replace(GOOD, readings=DOUBT.readings)), "called trustworthy", "not finite"),
        (_trusting(Trust(True, (Reading("R-hat", 1.3, 1.01),))), "called trustworthy", "1.3"),
        (_trusting(Trust(True, (Reading("ESS", 12.0, 400, "lower"),))), "called trustworthy", "12"),
        (_trusting(GOOD, GOOD, Trust(True, (Reading("ESS", 999, 1000, "lower"),))), "trustworthy", "999"),
        (_trusting(replace(DOUBT, complaints=())), "nothing says why", "none"),
        (_trusting(Trust(1)), "Trust is malformed", "trustworthy=1"),  # type: ignore[arg-type]
        (_trusting("yes"), "Trust is malformed", "yes"),
        (_trusting(Trust(True, (("R-hat", 1.0),))), "Trust is malformed", "R-hat"),  # type: ignore[arg-type]
        (_trusting(Trust(False, (), "no")), "Trust is malformed", "no"),  # type: ignore[arg-type]
        (_trusting(replace(GOOD, readings=2 * GOOD.readings)), "Two readings share a name", "R-hat"),
        (_scribbling, "argument 'x' is changed in place", ""),
    ],
)
def test_the_fault_of_a_sampler_is_named(change: Change, message: str, got: str) -> None:
    with pytest.raises(ContractError, match=message) as caught:
        checked(Altered(change))
    assert got in caught.value.got


def test_draws_that_are_overwritten_are_named() -> None:
    with pytest.raises(ContractError, match="next call overwrites the draws of 'theta'"):
        checked(ReusesItsDraws())


@pytest.mark.parametrize(("shift", "scale"), [(0.7, 1.0), (-0.7, 1.0), (0.0, 0.5), (0.0, 2.0)])
def test_trust_in_spoiled_draws_is_refused(shift: float, scale: float) -> None:
    exact = GaussianVector().exact_sampler()
    checked(Spoiled(exact))
    with pytest.raises(ContractError, match="called trustworthy that are not"):
        checked(Spoiled(exact, shift=shift, scale=scale))


def test_chance_does_not_make_an_exact_sampler_a_liar() -> None:
    """In a hundred comparisons of exact draws with exact draws, both of the check's sizes."""
    from sbikit.testing.trust import COMPARED, check_agreement

    toy = GaussianField(GaussianFieldOptions(size=8))
    data = Simulations(toy, 0).held_out(0, 100)
    one, other = (toy.exact_sampler().sample(data, COMPARED, seeds=np.arange(100) + k) for k in (0, 1000))
    check_agreement(one, other, toy.spec.latents, "exact")


class OfOneToy(ExactSampler):
    """Exact where a simulator has `exact_sampler` and is of one kind."""

    kind: type[Simulator] = GaussianVector

    def posterior(
        self, simulator: Simulator, *, monitor: Monitor, device: torch.device | str = "cpu"
    ) -> Sampler:
        if not isinstance(simulator, self.kind):
            raise UnsupportedError("Of one kind alone.")
        return simulator.exact_sampler()  # type: ignore[attr-defined,no-any-return]


def test_an_exact_sampler_of_either_toy_is_accepted() -> None:
    check_exact_sampler(OfOneToy())

    class OfFields(OfOneToy):
        kind = GaussianField

    check_exact_sampler(OfFields())


def test_an_exact_sampler_of_no_toy_or_of_wrong_draws_is_refused() -> None:
    class OfNothing(OfOneToy):
        kind = Simulator

        def posterior(
            self, simulator: Simulator, *, monitor: Monitor, device: torch.device | str = "cpu"
        ) -> Sampler:
            raise UnsupportedError("Nothing.")

    class Wide(OfOneToy):
        def posterior(
            self, simulator: Simulator, *, monitor: Monitor, device: torch.device | str = "cpu"
        ) -> Sampler:
            return Spoiled(super().posterior(simulator, monitor=monitor, device=device), scale=2.0)

    with pytest.raises(ContractError, match="neither toy"):
        check_exact_sampler(OfNothing())
    with pytest.raises(ContractError, match="called trustworthy that are not"):
        check_exact_sampler(Wide())


# --- validators -----------------------------------------------------------------------------


class Offset(Validator):
    """Mean distance of truth and posterior mean in posterior standard deviations."""

    def noise(self) -> float:
        return 0.0

    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        draws = evidence.draws["theta"]
        z = ((evidence.truth["theta"] - draws.mean(0)) / draws.std(0)).mean(1)
        value, error = float(z.mean()), float(z.std()) / len(z) ** 0.5
        verdict = "fail" if abs(value) > 4 * error else "pass"
        metric = Metric("offset", "theta", value + self.noise(), error, 0.0, verdict, "mean offset")  # type: ignore[arg-type]
        return Report("offset", (metric,))


class OfForkedTorch(Offset):
    def noise(self) -> float:
        with torch.random.fork_rng(devices=[]):
            return 1e-3 * float(torch.randn(1))


class OfTheGlobalState(Offset):
    def noise(self) -> float:
        return 1e-3 * float(np.random.normal())  # noqa: NPY002


def test_a_validator_may_not_depend_on_global_random_state() -> None:
    check_validator(Offset())
    with pytest.raises(ContractError, match="same seed gives another report"):
        check_validator(OfForkedTorch())
    with pytest.raises(ContractError, match="global random state of numpy"):
        check_validator(OfTheGlobalState())
