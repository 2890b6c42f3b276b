"""`check_simulator` names the fault of a simulator, and accepts what is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import (
    Field,
    LogDensity,
    Normal,
    Prior,
    QuietMonitor,
    Simulations,
    Simulator,
    Uniform,
    Values,
    Vector,
    draw_seeds,
    normals,
)
from sbikit.testing import ContractError, GaussianField, GaussianFieldOptions, GaussianVector, check_simulator
from sbikit.testing.capabilities import check_observe
from sbikit.testing.promises import clone
from sbikit.testing.seeding import BATCH
from sbikit.testing.whole_prior import POINTS, white_points


class Hearing(QuietMonitor):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard.append(text)


class Square(Simulator):
    """x = theta and noise, on a square."""

    prior = Prior({"a": Uniform(0.0, 1.0), "b": Uniform(-1.0, 1.0)})
    outputs = (Vector("x", ("x1", "x2")),)
    observed = ("x",)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"x": parameters["theta"] + 0.1 * normals(seeds, (2,))}


class FailsAbove(Square):
    """Not finite where a is above a limit: in 2.5 % of the prior."""

    limit = 0.975

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        x = super().simulate(parameters, seeds=seeds)["x"]
        return {"x": torch.where(parameters["theta"][:, :1] > self.limit, torch.nan, x)}


class RaisesInACorner(Square):
    """In .25 % of the prior."""

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        a, b = parameters["theta"].T
        if bool(((a > 0.95) & (b > 0.9)).any()):
            raise ValueError("no solution")
        return super().simulate(parameters, seeds=seeds)


class FailsBySeed(Square):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        x = super().simulate(parameters, seeds=seeds)["x"]
        x[torch.from_numpy(seeds % 40 == 0)] = torch.inf
        return {"x": x}


def refusal(simulator: Simulator) -> ContractError:
    with pytest.raises(ContractError) as caught:
        check_simulator(simulator)
    return caught.value


def test_a_fault_in_a_part_of_the_prior_is_counted_and_placed() -> None:
    error = refusal(FailsAbove())
    z = white_points(2)
    bad = int((FailsAbove.prior.from_white(z)[:, 0].float() > 0.975).sum())  # counted by hand
    assert 20 < bad < 45
    assert f"fails at {bad} of {len(z)} points of its prior" in error.message
    assert len(z) == POINTS + 4 + 4
    assert "a from 0.97" in error.where
    assert error.where.index("a from") < error.where.index("b from")  # a tells where it is, b does not
    assert "99.9 % of its prior" in error.where  # the face at 3 standard deviations
    assert "not finite" in error.got


def test_an_exception_in_a_corner_is_found() -> None:
    error = refusal(RaisesInACorner())
    assert "ValueError: no solution" in error.got
    assert "a from 0.9" in error.where
    assert "b from 0.9" in error.where


def test_a_fault_that_no_parameter_explains_is_seen_all_over() -> None:
    error = refusal(FailsBySeed())
    a = float(error.where.split("a from ")[1].split(" to ")[0])
    assert a < 0.2


def test_a_fault_everywhere_is_named_as_it_is() -> None:
    class Fails(FailsAbove):
        limit = -1.0

    assert "not finite" in refusal(Fails()).message


def test_points_of_many_parameters_stay_few_and_lie_on_faces_and_corners() -> None:
    z = white_points(12)
    assert len(z) == POINTS + 24 + 64
    assert ((z == 3.0).any(1) | (z == -3.0).any(1)).sum() == 24
    assert (z.abs() == 2.0).all(1).sum() == 64


# --- what is right --------------------------------------------------------------------------


class NoNoise(Square):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"x": parameters["theta"]}  # the very tensor that it was given


class CurveWithoutNoise(Simulator):
    prior = Prior({"height": Normal(1.0, 0.1)})
    outputs = (Field("curve", (16,)),)
    observed = ("curve",)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, NDArray[np.floating]]:
        return {"curve": np.asarray(parameters["theta"])[:, :, None] * np.linspace(0, 1, 16)}


class ObservesNoNoise(GaussianField):
    """Data are the field itself, whatever the seeds."""

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        field = super().simulate(parameters, seeds=seeds)["field"]
        return {"field": field, "data": field}

    def observe(self, outputs: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"data": outputs["field"]}


class FurtherOutputs(Square):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return {**super().simulate(parameters, seeds=seeds), "note": torch.zeros(())}


class Counts(Square):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:  # type: ignore[override]
        rates = 10 * np.asarray(parameters["theta"]) ** 2
        draws = zip(seeds, rates, strict=True)
        return {"x": np.stack([np.random.default_rng(seed).poisson(rate) for seed, rate in draws])}


@pytest.mark.parametrize("right", [Square, NoNoise, CurveWithoutNoise, FurtherOutputs, Counts])
def test_what_is_right_is_accepted(right: type[Simulator]) -> None:
    check_simulator(right())


def test_observing_without_noise_is_right_where_there_is_none() -> None:
    toy, seeds = ObservesNoNoise(GaussianFieldOptions(size=8)), draw_seeds(0, "tests", 0, BATCH)
    draws = Simulations(toy, 0).training(0, BATCH)

    def check(simulator: GaussianField) -> None:
        given = clone(draws), clone(draws)
        check_observe(simulator, *given, observables=toy.spec.observables, seeds=seeds, name="Toy")

    class ObservesTwice(ObservesNoNoise):
        def observe(self, outputs: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
            return {"data": 2.0 * outputs["field"]}

    check(toy)
    with pytest.raises(ContractError, match="Other seeds give the same 'data'"):
        check(ObservesTwice(GaussianFieldOptions(size=8)))


def test_a_simulator_without_noise_is_named_as_such() -> None:
    monitor = Hearing()
    check_simulator(NoNoise(), monitor=monitor)
    assert "another seed gives the same outputs" in monitor.heard[0]
    assert f"finite at {POINTS + 8} points of the prior" in monitor.heard[1]
    check_simulator(Square(), monitor=(noisy := Hearing()))
    assert not any("another seed" in text for text in noisy.heard)


# --- a message a fault ----------------------------------------------------------------------


class ReusesItsBuffer(Square):
    buffer = torch.zeros(1100, 2)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        part = self.buffer[: len(seeds)]
        part.copy_(super().simulate(parameters, seeds=seeds)["x"])
        return {"x": part}


class ReusesANumpyBuffer(Square):
    buffer = np.zeros((1100, 2))

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:  # type: ignore[override]
        part = self.buffer[: len(seeds)]
        part[:] = super().simulate(parameters, seeds=seeds)["x"].numpy()
        return {"x": part}


class ChangesTheta(Square):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        x = super().simulate(parameters, seeds=seeds)
        np.asarray(parameters["theta"])[:] += 1.0
        return x


class ChangesSeeds(Square):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        x = super().simulate(parameters, seeds=seeds)
        seeds //= 2
        return x


class NoiseByRow(Square):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        noise = np.random.default_rng(0).normal(size=(len(seeds), 2))
        return {"x": parameters["theta"] + torch.from_numpy(noise)}


class NoiseOfTheFirstSeed(Square):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        noise = np.random.default_rng(seeds[0]).normal(size=(len(seeds), 2))
        return {"x": parameters["theta"] + torch.from_numpy(noise)}


class NoiseWithoutASeed(Square):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        noise = np.random.default_rng().normal(size=(len(seeds), 2))
        return {"x": parameters["theta"] + torch.from_numpy(noise)}


class NoiseOfForkedTorch(Square):
    """The global state is used and put back: it is the same before and after."""

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]):
            return {"x": parameters["theta"] + torch.randn(len(seeds), 2)[:1]}


class LatentByRow(GaussianField):
    """The latent alone ignores its seed."""

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        right = super().simulate(parameters, seeds=seeds)
        return {**right, "field": normals(np.arange(len(seeds)), (1, 16, 16))}


class Complex(Square):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"x": torch.fft.ifft(torch.fft.fft(super().simulate(parameters, seeds=seeds)["x"]))}


class ObserveChangesLatents(GaussianField):
    def observe(self, outputs: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        outputs["field"].add_(normals(seeds, (1, 16, 16)))
        return {"data": outputs["field"]}


class FloorChangesTheta(GaussianField):
    def floor(self, parameters: Values) -> Values:
        return {"field": parameters["theta"][:, :1].mul_(0.0) - 100.0}


class SummariesChangeData(GaussianField):
    summarised = (Field("smooth", (16, 16)),)

    def summaries(self, values: Values) -> Values:
        return {"smooth": values["data"].mul_(0.5)}


class SummariesReuseABuffer(GaussianField):
    summarised = (Field("smooth", (16, 16)),)
    buffer = torch.zeros(64, 1, 16, 16)

    def summaries(self, values: Values) -> Values:
        flat = values["data"].reshape(-1, 1, 16, 16)
        self.buffer[: len(flat)] = flat
        return {"smooth": self.buffer[: len(flat)].reshape(values["data"].shape)}


class DensityChangesData(GaussianVector):
    def log_density(self, observation: Values) -> LogDensity:
        found = super().log_density({"x": observation["x"].clone()})
        observation["x"].zero_()
        return found


class DensityChangesCoordinates(GaussianVector):
    def log_density(self, observation: Values) -> LogDensity:
        right = super().log_density(observation)

        def log_prob(z: Tensor) -> Tensor:
            found = right.log_prob(z)
            z.data.mul_(0.5)
            return found

        return replace(right, log_prob=log_prob)


@pytest.mark.parametrize(
    ("faulty", "message", "fix"),
    [
        (ReusesItsBuffer, "The next call overwrites the 'x'", "a copy"),
        (ReusesANumpyBuffer, "The next call overwrites the 'x'", "a copy"),
        (ChangesTheta, "argument 'theta' is changed in place", "a copy"),
        (ChangesSeeds, "argument 'seeds' is changed in place", "a copy"),
        (NoiseByRow, "The seeds are ignored", "seeds[i]"),
        (NoiseOfTheFirstSeed, "not the same alone and in a batch", "not from seeds[0]"),
        (NoiseWithoutASeed, "not the same for the same seeds", "without a seed"),
        (NoiseOfForkedTorch, "same for the same", ""),
        (LatentByRow, "The seeds are ignored: random numbers of 'field'", "seeds[i]"),
        (Complex, "'x' is complex", "real part"),
        (ObserveChangesLatents, "argument 'field' is changed in place", "a copy"),
        (FloorChangesTheta, "argument 'theta' is changed in place", "a copy"),
        (SummariesChangeData, "argument 'data' is changed in place", "a copy"),
        (SummariesReuseABuffer, "The next call overwrites the 'smooth'", "a copy"),
        (DensityChangesData, "argument 'x' is changed in place", "a copy"),
        (DensityChangesCoordinates, "argument 'z' is changed in place", "a copy"),
    ],
)
def test_the_message_names_the_fault(faulty: type[Simulator], message: str, fix: str) -> None:
    error = refusal(faulty())
    assert message in error.message
    assert fix in error.fix
    assert error.where.startswith(faulty.__name__)
