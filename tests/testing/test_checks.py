"""Toys against dense linear algebra; contract checks against plug-ins with one promise broken each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from torch import Tensor

from sbikit import (
    CheckpointError,
    Draws,
    Estimator,
    Evidence,
    Field,
    JointDraws,
    LogDensity,
    MarginalDensity,
    Metric,
    Monitor,
    ObservationError,
    PluginError,
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
    derive_seed,
    draw_seeds,
    generator,
    normals,
)
from sbikit.testing import (
    ContractError,
    GaussianField,
    GaussianFieldOptions,
    GaussianVector,
    QuietMonitor,
    Spoiled,
    check_estimator,
    check_plugin,
    check_sampler,
    check_simulator,
    check_validator,
    gather_evidence,
    parametrize_with_checks,
)
from sbikit_calibration.coverage.mira import Mira

SEEDS = draw_seeds(0, "tests", 0, 4)

# --- the toys -------------------------------------------------------------------------------


def test_vector_posterior_is_the_conditional_of_the_joint_normal() -> None:
    toy = GaussianVector()
    A, sd = toy.matrix.numpy(), toy.noise_sd.numpy()
    prior_mean, prior = np.array([1.0, -2.0]), np.diag([0.5**2, 1.5**2])
    x = np.array([[1.0, -3.0, 2.5], [0.2, 0.1, -0.4]])
    gain = prior @ A.T @ np.linalg.inv(A @ prior @ A.T + np.diag(sd**2))
    mean = prior_mean + (x - (A @ prior_mean + toy.offset.numpy())) @ gain.T
    covariance = prior - gain @ A @ prior

    sampler = toy.exact_sampler()
    observation = {"x": torch.from_numpy(x)}
    np.testing.assert_allclose(sampler.mean(observation), mean, rtol=1e-10)
    np.testing.assert_allclose(sampler.covariance, covariance, rtol=1e-10)
    draws = sampler.sample(observation, 20_000, seeds=SEEDS[:2]).values["theta"].double().numpy()
    error = np.sqrt(np.diag(covariance) / 20_000)
    assert np.all(np.abs(draws.mean(0) - mean) < 5 * error)
    for b in range(2):
        np.testing.assert_allclose(np.cov(draws[:, b].T), covariance, atol=5 * 0.02 * covariance.max())


def _dense_covariance(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance of the pixels from the sum over modes of P cos(2 pi k (x - y) / n) / n^2."""
    n = len(power)
    x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    place = np.stack([x.ravel(), y.ravel()], 1)
    lag = place[:, None] - place[None]
    phase = 2 * np.pi * np.einsum("abi,mi->abm", lag, place) / n
    return np.cos(phase) @ power.ravel() / n**2


def _power(toy: GaussianField, theta: list[float]) -> NDArray[np.float64]:
    return toy.power(torch.tensor(theta, dtype=torch.float64), toy.k_squared).numpy()


def _data(toy: GaussianField, count: int) -> dict[str, Tensor]:
    return Simulations(toy, 3).held_out(0, count)


def test_field_likelihood_is_that_of_dense_covariances() -> None:
    toy = GaussianField(GaussianFieldOptions(size=6, noise=0.7))
    data = _data(toy, 2)
    thetas = [[0.0, 3.0], [0.4, 2.2], [-0.5, 4.1]]
    got = toy.exact_sampler().log_likelihood(torch.tensor(thetas), data).numpy()
    flat = data["data"].flatten(1).double().numpy()
    expected = np.stack(
        [
            multivariate_normal(np.zeros(36), _dense_covariance(_power(toy, t)) + 0.49 * np.eye(36)).logpdf(
                flat
            )
            for t in thetas
        ],
        1,
    )
    # theta is float32 here, so agreement is to its rounding
    np.testing.assert_allclose(got - got[:, :1], expected - expected[:, :1], rtol=1e-5, atol=1e-5)


def test_field_draws_have_the_moments_of_a_quadrature_over_dense_posteriors() -> None:
    toy = GaussianField(GaussianFieldOptions(size=4, parameters=1))
    data = _data(toy, 1)
    d = data["data"].flatten().double().numpy()
    grid = np.linspace(-2.1, 2.1, 801)
    log_weight, means, seconds = [], [], []
    for a in grid:
        S = _dense_covariance(_power(toy, [a]))
        C = S + np.eye(16)
        log_weight.append(multivariate_normal(np.zeros(16), C).logpdf(d) - 0.5 * (a / 0.3) ** 2)
        gain = S @ np.linalg.inv(C)
        means.append(gain @ d)
        seconds.append(S - gain @ S + np.outer(gain @ d, gain @ d))
    weight = np.exp(np.array(log_weight) - max(log_weight))
    weight /= weight.sum()
    mean = np.einsum("q,qi->i", weight, np.array(means))
    covariance = np.einsum("q,qij->ij", weight, np.array(seconds)) - np.outer(mean, mean)
    theta_mean = weight @ grid
    theta_sd = np.sqrt(weight @ (grid - theta_mean) ** 2)

    n = 20_000
    draws = toy.exact_sampler().sample(data, n, seeds=SEEDS[:1]).values
    theta = draws["theta"].flatten().double().numpy()
    field = draws["field"].reshape(n, 16).double().numpy()
    assert abs(theta.mean() - theta_mean) < 5 * theta_sd / n**0.5
    assert abs(theta.std() / theta_sd - 1) < 5 / (2 * n) ** 0.5
    sd = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(field.mean(0) - mean) < 5 * sd / n**0.5)
    assert np.all(np.abs(np.cov(field.T) - covariance) < 6 * np.outer(sd, sd) / n**0.5)
    # theta and field belong together: their covariance, too, is that of the quadrature
    together = np.einsum("q,q,qi->i", weight, grid - theta_mean, np.array(means))
    got = ((theta - theta.mean())[:, None] * field).mean(0)
    assert np.all(np.abs(got - together) < 5 * theta_sd * sd / n**0.5)


def test_field_log_density_integrates_to_the_likelihood() -> None:
    """The density is Gaussian in the white field, so its maximum and curvature give the integral exactly."""
    toy = GaussianField(GaussianFieldOptions(size=6))
    data = _data(toy, 1)
    density = toy.log_density(data)
    thetas = torch.tensor([[0.0, 3.0], [0.3, 2.5]], dtype=torch.float64)
    d = data["data"].double().numpy()[0, 0]
    values = []
    for theta in thetas:
        P = _power(toy, theta.tolist())
        best = np.fft.ifft2(np.fft.fft2(d) * np.sqrt(P) / (P + 1)).real
        white = torch.cat([toy.prior.to_white(theta), torch.from_numpy(best).flatten()])[None]
        white.requires_grad_()
        value = density.log_prob(white)
        (gradient,) = torch.autograd.grad(value.sum(), white)
        assert gradient[:, 2:].abs().max() < 1e-10
        values.append(value.item() + 0.5 * (white[:, :2] ** 2).sum().item() - 0.5 * np.log1p(P).sum())
    likelihood = toy.exact_sampler().log_likelihood(thetas, data)[0]
    assert values[1] - values[0] == pytest.approx(float(likelihood[1] - likelihood[0]), rel=1e-9)


@pytest.mark.parametrize("size", [8, 9])
def test_simulated_fields_have_the_stated_spectrum_and_noise(size: int) -> None:
    toy = GaussianField(GaussianFieldOptions(size=size, noise=0.5))
    count = 4000
    theta = torch.tensor([[0.2, 2.5]]).expand(count, 2)
    out = toy.simulate({"theta": theta}, seeds=draw_seeds(0, "spectrum", 0, count))
    got = torch.fft.fft2(out["field"][:, 0].double()).abs().square().mean(0).numpy() / size**2
    # |f_k|^2 has relative scatter 1, or sqrt(2) for the modes that are real
    assert np.all(np.abs(got / _power(toy, [0.2, 2.5]) - 1) < 5 * (2 / count) ** 0.5)
    assert (out["data"] - out["field"]).std().item() == pytest.approx(0.5, rel=0.01)


def test_field_has_unit_variance_at_the_fiducial_parameters() -> None:
    toy = GaussianField()
    assert _power(toy, [0.0, 3.0]).mean() == pytest.approx(1.0)


def test_spoiled_draws_are_moved_and_scaled_in_posterior_standard_deviations() -> None:
    toy = GaussianField(GaussianFieldOptions(size=4))
    exact, data = toy.exact_sampler(), _data(toy, 2)
    right = exact.sample(data, 50, seeds=SEEDS[:2]).values
    wrong = (
        Spoiled(exact, shift=0.5, scale=2.0, variables=("theta",)).sample(data, 50, seeds=SEEDS[:2]).values
    )
    torch.testing.assert_close(wrong["field"], right["field"])
    sd = right["theta"].std(0, correction=0)
    torch.testing.assert_close(wrong["theta"].mean(0), right["theta"].mean(0) + 0.5 * sd)
    torch.testing.assert_close(wrong["theta"].std(0), 2.0 * right["theta"].std(0))


# --- simulators that break one promise ------------------------------------------------------


class Deterministic(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return super().simulate(parameters, seeds=np.zeros_like(seeds))


class DependsOnTheBatch(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        x = super().simulate(parameters, seeds=seeds)["x"]
        return {"x": x - x.mean(0)}


class ForgetsTheSeed(GaussianVector):
    calls = 0

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        self.calls += 1
        return super().simulate(parameters, seeds=seeds + self.calls)


class UsesGlobalNumpy(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        np.random.normal()  # noqa: NPY002
        return super().simulate(parameters, seeds=seeds)


class UsesGlobalTorch(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        torch.rand(1)
        return super().simulate(parameters, seeds=seeds)


class WrongShape(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"x": super().simulate(parameters, seeds=seeds)["x"][:, :2]}


class NotFinite(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"x": super().simulate(parameters, seeds=seeds)["x"] / 0.0}


class ChangesItsArgument(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        if len(seeds) > 1:
            parameters["theta"].add_(1.0)
        return super().simulate(parameters, seeds=seeds)


class NoObserved(GaussianVector):
    observed = ()


class SinglePrecision(GaussianVector):
    def log_density(self, observation: Values) -> LogDensity:
        right = super().log_density(observation)
        return replace(right, log_prob=lambda z: right.log_prob(z).float())


class Detached(GaussianVector):
    def log_density(self, observation: Values) -> LogDensity:
        right = super().log_density(observation)
        return replace(
            right, log_prob=lambda z: right.log_prob(torch.cat([z[..., :1], z[..., 1:].detach()], -1))
        )


class MixesObservations(GaussianVector):
    def log_density(self, observation: Values) -> LogDensity:
        right = super().log_density(observation)
        return replace(right, log_prob=lambda z: right.log_prob(z) + observation["x"].sum().double())


class DecodesAnotherPrior(GaussianVector):
    def log_density(self, observation: Values) -> LogDensity:
        right = super().log_density(observation)
        return replace(right, decode=lambda z: {"theta": self.prior.from_white(2.0 * z)})


class DecodesAnotherShape(GaussianVector):
    def log_density(self, observation: Values) -> LogDensity:
        right = super().log_density(observation)
        return replace(right, decode=lambda z: {"theta": self.prior.from_white(z)[..., :1]})


class ObservesWithoutSeeds(GaussianField):
    def observe(self, outputs: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"data": outputs["field"]}


class FloorTooHigh(GaussianField):
    def floor(self, parameters: Values) -> Values:
        return {"field": torch.zeros(len(parameters["theta"]), 1)}


class FloorOfWrongShape(GaussianField):
    def floor(self, parameters: Values) -> Values:
        return {"field": torch.full((len(parameters["theta"]),), -100.0)}


class SummaryOnAnotherGrid(GaussianField):
    summarised = (Field("smooth", (16, 16)),)

    def summaries(self, values: Values) -> Values:
        return {"smooth": values["data"][..., ::2, ::2]}


class SummaryThatKnowsTheBatch(GaussianField):
    summarised = (Field("smooth", (16, 16)),)

    def summaries(self, values: Values) -> Values:
        return {"smooth": values["data"] - values["data"].mean(0)}


class SummaryOfAnotherName(GaussianField):
    summarised = (Field("rough", (16, 16)),)

    def summaries(self, values: Values) -> Values:
        return {"smooth": values["data"]}


class CapabilityOfAnInstance(GaussianField):
    def __init__(self, options: GaussianFieldOptions | None = None) -> None:
        super().__init__(options)
        self.floor = lambda parameters: {}


class MarginalOfTheBatch(GaussianField):
    def marginal_density(self, observation: Values) -> MarginalDensity:
        right = super().marginal_density(observation)
        return replace(
            right, log_likelihood=lambda theta: right.log_likelihood(theta) * len(observation["data"])
        )


class FactsOfNumbers(GaussianField):
    def facts(self) -> dict[str, str]:
        return {"size": self.options.size}  # type: ignore[dict-item]


class RightCapabilities(GaussianField):
    summarised = (Field("smooth", (8, 8)),)

    def facts(self) -> dict[str, str]:
        return {"size": f"{self.options.size}"}

    def floor(self, parameters: Values) -> Values:
        return {"field": torch.full((len(parameters["theta"]), 1), -100.0)}

    def summaries(self, values: Values) -> Values:
        return {"smooth": values["data"] + values["data"].roll(1, -1)}


def test_capabilities_that_keep_their_promises_are_accepted() -> None:
    check_simulator(RightCapabilities(GaussianFieldOptions(size=8)))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (DependsOnTheBatch, "alone and in a batch"),
        (ForgetsTheSeed, "not the same for the same seeds"),
        (UsesGlobalNumpy, "global random state of numpy"),
        (UsesGlobalTorch, "global random state of torch"),
        (WrongShape, "wrong shape"),
        (NotFinite, "not finite"),
        (ChangesItsArgument, "changed in place"),
        (NoObserved, "observed must name outputs"),
        (SinglePrecision, "wrong shape or type"),
        (Detached, "gradient"),
        (MixesObservations, "one observation is the same in a batch"),
        (DecodesAnotherPrior, "do not follow the prior"),
        (DecodesAnotherShape, "wrong shape"),
        (ObservesWithoutSeeds, "Other seeds give the same"),
        (FactsOfNumbers, "words that stay the same"),
        (FloorTooHigh, "falls below its floor"),
        (FloorOfWrongShape, "wrong name or shape"),
        (SummaryOnAnotherGrid, "wrong shape"),
        (SummaryThatKnowsTheBatch, "any batch shape"),
        (SummaryOfAnotherName, "not those that are declared"),
        (CapabilityOfAnInstance, "set on the instance"),
        (MarginalOfTheBatch, "one observation is the same in a batch"),
    ],
)
def test_a_broken_simulator_is_named(broken: type[Simulator], message: str) -> None:
    with pytest.raises(ContractError, match=message) as caught:
        check_simulator(broken())
    assert caught.value.where


# --- samplers -------------------------------------------------------------------------------


Change = Callable[[Sampler, Values, int, NDArray[np.int64]], Draws]


class Altered(Sampler):
    """The exact sampler of a vector with its call or its draws changed."""

    def __init__(self, change: Change) -> None:
        self._exact = GaussianVector().exact_sampler()
        self._change = change
        self.spec = self._exact.spec

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        return self._change(self._exact, observation, n, seeds)


def _theta(change: Callable[[Tensor], Tensor]) -> Change:
    """The right draws, changed."""

    def changed(exact: Sampler, x: Values, n: int, seeds: NDArray[np.int64]) -> Draws:
        return Draws.unjudged({"theta": change(exact.sample(x, n, seeds=seeds).values["theta"])})

    return changed


def _shared_noise(exact: Sampler, x: Values, n: int, seeds: NDArray[np.int64]) -> Draws:
    """Noise for the whole batch from one generator whose order depends on the batch size."""
    z = torch.randn(n, len(seeds), 2, generator=generator(int(seeds[0])))
    return Draws.unjudged({"theta": exact.sample(x, n, seeds=seeds).values["theta"] + z})


def _by_row(exact: Sampler, x: Values, n: int, seeds: NDArray[np.int64]) -> Draws:
    """Seeds that depend on the row, too, as if a batch had one seed."""
    rows = np.array([derive_seed(int(seed), b) for b, seed in enumerate(seeds)])
    return exact.sample(x, n, seeds=rows)


def _by_threads(exact: Sampler, x: Values, n: int, seeds: NDArray[np.int64]) -> Draws:
    """Other numbers on other numbers of threads."""
    return exact.sample(x, n, seeds=seeds + torch.get_num_threads())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, x, n, seeds: s.sample(x, n, seeds=0 * seeds), "Another seed gives the same"),
        (lambda s, x, n, seeds: s.sample(x, n + 1, seeds=seeds), "wrong shape"),
        (lambda s, x, n, seeds: s.sample(x, n, seeds=seeds).values, "something else than draws"),
        (_theta(Tensor.double), "wrong type or device"),
        (_theta(lambda theta: theta * torch.nan), "not finite"),
        (lambda s, x, n, seeds: Draws({}, (Trust(),) * len(seeds)), "missing"),
        (_shared_noise, "alone and in a batch"),
        (_by_row, "alone and in a batch"),
        (_by_threads, "one thread and on two"),
    ],
)
def test_a_broken_sampler_is_named(change: Change, message: str) -> None:
    toy = GaussianVector()
    with pytest.raises(ContractError, match=message):
        check_sampler(Altered(change), {"x": Simulations(toy, 0).held_out(0, 3)["x"]})


def test_seeds_are_one_an_observation() -> None:
    exact = GaussianVector().exact_sampler()
    with pytest.raises(ObservationError, match="a seed of its own"):
        exact.sample({"x": torch.zeros(3, 3)}, 2, seeds=SEEDS[:2])


def test_one_observation_is_too_few_to_check_a_sampler() -> None:
    toy = GaussianVector()
    with pytest.raises(ContractError, match="at least two"):
        check_sampler(toy.exact_sampler(), {"x": torch.zeros(1, 3)})


# --- estimators -----------------------------------------------------------------------------


class LinearSampler(Sampler):
    """Normal around a linear prediction."""

    def __init__(self, spec: Spec, weights: Tensor, root: Tensor) -> None:
        self.spec, self.weights, self.root = spec, weights, root

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        x = observation["x"]
        design = torch.cat([torch.ones(len(x), 1), x], 1)
        noise = normals(seeds, (n, 2)).transpose(0, 1)
        return Draws.unjudged({"theta": design @ self.weights + noise @ self.root.T})


class Linear(Estimator):
    """Linear regression with the covariance of its residuals."""

    def match(self, spec: Spec) -> Spec:
        if spec.fields:
            raise UnsupportedError("Vectors only.")
        return spec

    def fit(self, simulations: JointDraws, *, seed: int, workspace: Workspace, monitor: Monitor) -> Sampler:
        with monitor.progress("fit", 1) as advance:
            batch = simulations.training(0, 500)
            design = torch.cat([torch.ones(500, 1), batch["x"]], 1)
            weights = torch.linalg.lstsq(design, batch["theta"]).solution
            root = torch.linalg.cholesky((batch["theta"] - design @ weights).T.cov())
            advance(1)
        return LinearSampler(simulations.spec, weights, root)

    def save(self, sampler: Sampler, folder: Path) -> None:
        assert isinstance(sampler, LinearSampler)
        content = {"weights": sampler.weights.tolist(), "root": sampler.root.tolist()}
        (folder / "linear.json").write_text(json.dumps(content))

    def load(self, folder: Path, simulator: Simulator, *, device: torch.device) -> Sampler:
        if simulator.spec.fields:
            raise CheckpointError("Another problem.")
        try:
            content = json.loads((folder / "linear.json").read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError("Damaged.") from error
        return LinearSampler(simulator.spec, torch.tensor(content["weights"]), torch.tensor(content["root"]))


class LoadsAnything(Linear):
    def load(self, folder: Path, simulator: Simulator, *, device: torch.device) -> Sampler:
        content = json.loads((folder / "linear.json").read_text())
        return LinearSampler(simulator.spec, torch.tensor(content["weights"]), torch.tensor(content["root"]))


class IgnoresTheProblem(Linear):
    def load(self, folder: Path, simulator: Simulator, *, device: torch.device) -> Sampler:
        return super().load(folder, GaussianVector(), device=device)


class LosesWeights(Linear):
    def load(self, folder: Path, simulator: Simulator, *, device: torch.device) -> Sampler:
        right = super().load(folder, simulator, device=device)
        assert isinstance(right, LinearSampler)
        return LinearSampler(right.spec, 1.1 * right.weights, right.root)


class SeedsTorch(Linear):
    def fit(self, simulations: JointDraws, *, seed: int, workspace: Workspace, monitor: Monitor) -> Sampler:
        torch.rand(1)
        return super().fit(simulations, seed=seed, workspace=workspace, monitor=monitor)


class MatchesLess(Linear):
    def match(self, spec: Spec) -> Spec:
        return replace(spec, observables=())


class MatchesNothing(Linear):
    def match(self, spec: Spec) -> Spec:
        raise UnsupportedError("Nothing.")


def test_a_sound_estimator_is_accepted() -> None:
    check_estimator(Linear())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (LoadsAnything, "raises the wrong error"),
        (IgnoresTheProblem, "the simulator is another"),
        (LosesWeights, "a loaded sampler draws the same"),
        (SeedsTorch, "global random state of torch"),
        (MatchesLess, "something else than `match`"),
        (MatchesNothing, "neither toy"),
    ],
)
def test_a_broken_estimator_is_named(broken: type[Estimator], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_estimator(broken())


def test_quiet_monitor_takes_all_that_a_monitor_takes() -> None:
    monitor: Monitor = QuietMonitor()
    with monitor.progress("title", 10, start=3) as advance:
        advance(7)
    monitor.log(loss=0.5)
    monitor.say("done")
    assert Workspace() == Workspace(None, torch.device("cpu"))


# --- validators -----------------------------------------------------------------------------


def _metric(value: float, verdict: str = "none", variable: str = "theta") -> Metric:
    return Metric("offset", variable, value, 0.1, 0.0, verdict, "")  # type: ignore[arg-type]


class Offset(Validator):
    """Mean distance of truth and posterior mean in posterior standard deviations."""

    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        draws = evidence.draws["theta"]
        z = ((evidence.truth["theta"] - draws.mean(0)) / draws.std(0)).mean(1)
        value, error = float(z.mean()), float(z.std()) / len(z) ** 0.5
        verdict = "fail" if abs(value) > 4 * error else "pass"
        return Report("offset", (Metric("offset", "theta", value, error, 0.0, verdict, "mean offset"),))


class Content(Validator):
    """A report with one given metric."""

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric

    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        return Report("content", (self._metric,))


class ShiftsTheDraws(Offset):
    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        evidence.draws["theta"].add_(1.0)
        return super().validate(evidence, seed=seed)


class RandomReport(Offset):
    calls = 0

    def validate(self, evidence: Evidence, *, seed: int) -> Report:
        self.calls += 1
        report = super().validate(evidence, seed=seed)
        return replace(report, metrics=(*report.metrics, _metric(float(self.calls))))


def test_a_sound_validator_is_accepted() -> None:
    check_validator(Offset())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Content(_metric(0.0, "pass")), "No wrong posterior is refused"),
        (Content(_metric(0.0, "fail")), "An exact posterior is refused"),
        (Content(_metric(float("nan"))), "not well formed"),
        (Content(_metric(torch.tensor(0.5))), "not well formed"),  # type: ignore[arg-type]
        (Content(_metric(0.0, variable="kappa")), "not well formed"),
        (Content(_metric(0.0, "perhaps")), "Unknown verdict"),
        (ShiftsTheDraws(), "changed in place"),
        (RandomReport(), "same seed gives another report"),
    ],
)
def test_a_broken_validator_is_named(broken: Validator, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_validator(broken)


def test_evidence_of_a_marginal_problem_holds_its_latents_only() -> None:
    toy = GaussianField(GaussianFieldOptions(size=4))
    exact = toy.exact_sampler()
    exact.spec = exact.spec.select("theta")
    evidence = gather_evidence(toy, exact, observations=3, draws=4, training=5)
    assert set(evidence.truth) == {"theta"}
    assert set(evidence.observation) == {"data"}
    assert evidence.draws["theta"].shape == (4, 3, 2)
    assert evidence.training["field"].shape == (5, 1, 4, 4)


@parametrize_with_checks([GaussianVector, GaussianField(GaussianFieldOptions(size=8, parameters=1)), Mira()])
def test_every_kind_is_checked_under_one_name(check: Callable[[], None]) -> None:
    check()


def test_checks_as_tests_have_names_and_find_what_is_broken() -> None:
    class Broken(GaussianVector):
        def simulate(self, parameters: Any, *, seeds: Any) -> Any:
            return {"x": super().simulate(parameters, seeds=seeds)["x"][:, :2]}

    mark = parametrize_with_checks([Broken, GaussianField(GaussianFieldOptions(size=8))]).mark
    assert [case.id for case in mark.args[1]] == ["Broken", "GaussianField(size=8)"]
    with pytest.raises(ContractError, match="shape"):
        mark.args[1][0].values[0]()
    with pytest.raises(PluginError, match="no plug-in"):
        check_plugin(3)  # type: ignore[arg-type]
