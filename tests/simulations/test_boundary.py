"""A simulator may use its memory again and change what it is given: what it returned stays as it was.

The right values are those of a twin that does neither, to the bit.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import QuietMonitor, SimulationError, Simulations, Simulator, Values, draw_seeds
from sbikit.simulations import run_simulator
from sbikit.testing import GaussianVector


class ReusesItsBuffer(GaussianVector):
    """One buffer for all calls, as of a library that allocates once."""

    buffer = torch.zeros(64, 3)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        part = self.buffer[: len(seeds)]
        part.copy_(super().simulate(parameters, seeds=seeds)["x"])
        return {"x": part}


class ReusesANumpyBuffer(GaussianVector):
    buffer = np.zeros((64, 3), dtype=np.float32)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        part = self.buffer[: len(seeds)]
        part[:] = super().simulate(parameters, seeds=seeds)["x"].numpy()
        return {"x": part}  # type: ignore[dict-item]


class ChangesItsParameters(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        x = super().simulate(parameters, seeds=seeds)
        parameters["theta"].mul_(2.0)
        return x


class ChangesItsParametersByNumpy(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        x = super().simulate(parameters, seeds=seeds)
        np.asarray(parameters["theta"])[:] = 0.0
        seeds += 1
        return x


@pytest.mark.parametrize(
    "careless",
    [ReusesItsBuffer, ReusesANumpyBuffer, ChangesItsParameters, ChangesItsParametersByNumpy],
)
def test_careless_simulators_draw_what_careful_ones_draw(careless: type[GaussianVector]) -> None:
    found, expected = (
        [stream.training(0, 32), stream.training(32, 32), stream.held_out(0, 32)]
        for stream in (Simulations(careless(), 0), Simulations(GaussianVector(), 0))
    )
    for one, other in zip(found, expected, strict=True):
        for name in other:
            assert torch.equal(one[name], other[name])


class Returns(GaussianVector):
    """Another form of the same numbers, or other numbers."""

    def __init__(self, form: object) -> None:
        super().__init__()
        self.form = form

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        x = super().simulate(parameters, seeds=seeds)["x"]
        return {"x": self.form(x)}  # type: ignore[operator]


def _read_only(x: Tensor) -> object:
    array = x.numpy().copy()
    array.flags.writeable = False
    return array


FORMS = {
    "requires grad": lambda x: x.clone().requires_grad_(),
    "big endian": lambda x: x.numpy().astype(">f8"),
    "read only": _read_only,
    "backwards": lambda x: x.numpy()[::-1].copy()[::-1],
    "lists": lambda x: x.tolist(),
    "transposed": lambda x: x.T.contiguous().T,
    "long double": lambda x: x.numpy().astype(np.longdouble),
    "a mask that hides nothing": lambda x: np.ma.masked_invalid(x.numpy()),
    "sparse": lambda x: x.to_sparse(),
    "objects of numbers": lambda x: [list(row) for row in x.double().numpy()],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_forms_of_the_same_numbers_are_the_same(form: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Simulations(Returns(form), 0).training(0, 8)
    expected = Simulations(GaussianVector(), 0).training(0, 8)
    assert torch.equal(found["x"], expected["x"])
    assert found["x"].is_contiguous()
    assert not found["x"].requires_grad


@pytest.mark.parametrize(("kind", "value"), [("bool", True), ("int16", -3), ("uint16", 3), ("float16", 0.5)])
def test_numbers_of_other_kinds_keep_their_value(kind: str, value: float) -> None:
    found = Simulations(Returns(lambda x: np.full(x.shape, value, dtype=kind)), 0).training(0, 8)
    assert torch.equal(found["x"], torch.full((8, 3), float(value)))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda x: x + 0.5j, "is complex"),
        (lambda x: x.to(torch.complex64), "is complex"),
        (lambda x: x.numpy().astype(complex), "is complex"),
        (lambda x: np.ma.masked_less(x.numpy(), 0.0), "partly masked"),
        (lambda x: [["one"] * 3] * len(x), "no array of numbers"),
        (lambda x: [[1.0], [1.0, 2.0]], "no array of numbers"),
        (lambda x: None, "no array of numbers"),
        (lambda x: x.mean(0), "wrong shape"),
        (lambda x: x[:1], "wrong shape"),
        (lambda x: x[:, :, None], "wrong shape"),
    ],
)
def test_what_would_be_cut_is_refused(form: object, message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        Simulations(Returns(form), 0).training(0, 8)


def test_a_simulator_that_returns_no_mapping_is_told_so() -> None:
    class Bare(GaussianVector):
        def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
            return super().simulate(parameters, seeds=seeds)["x"]  # type: ignore[return-value]

    with pytest.raises(SimulationError, match="did not return a mapping") as caught:
        Simulations(Bare(), 0).training(0, 8)
    assert caught.value.got == "Tensor"


# --- the first draws of a run ---------------------------------------------------------------


class Hearing(QuietMonitor):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard.append(text)


class NoiseByRow(GaussianVector):
    """A generator with a seed of its own: the seeds are ignored."""

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        noise = np.random.default_rng(0).normal(size=(len(seeds), 3))
        return {"x": self._mean(parameters["theta"]) + torch.from_numpy(noise)}


class NoiseOfTheGlobalState(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        noise = np.random.normal(size=(len(seeds), 3))  # noqa: NPY002
        return {"x": self._mean(parameters["theta"]) + torch.from_numpy(noise)}


class NoiseOfAKeptGenerator(GaussianVector):
    source = np.random.default_rng(0)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        noise = self.source.normal(size=(len(seeds), 3))
        return {"x": self._mean(parameters["theta"]) + torch.from_numpy(noise)}


class NoiseOfTheFirstSeed(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        noise = np.random.default_rng(seeds[0]).normal(size=(len(seeds), 3))
        return {"x": self._mean(parameters["theta"]) + torch.from_numpy(noise)}


class ScaledByTheBatch(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        x = super().simulate(parameters, seeds=seeds)["x"]
        return {"x": x - x.mean(0)}


class NoNoise(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"x": self._mean(parameters["theta"])}


class Constant(GaussianVector):
    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"x": torch.ones(len(seeds), 3)}


def first_draws(simulator: Simulator) -> list[str]:
    simulations, monitor = Simulations(simulator, 0), Hearing()
    simulations.check(simulations.held_out(0, 32), monitor)
    return monitor.heard


@pytest.mark.parametrize(
    ("simulator", "message"),
    [
        (NoiseByRow, "The seeds are ignored"),
        (NoiseOfTheGlobalState, "not the same for the same seeds"),
        (NoiseOfAKeptGenerator, "not the same for the same seeds"),
        (NoiseOfTheFirstSeed, "not the same alone and in a batch"),
        (ScaledByTheBatch, "not the same alone and in a batch"),
    ],
)
def test_the_first_draws_of_a_run_refuse_randomness_that_is_not_the_seeds(
    simulator: type[Simulator], message: str
) -> None:
    with pytest.raises(SimulationError, match=message):
        first_draws(simulator())


def test_the_first_draws_of_a_run_say_what_may_be_a_mistake() -> None:
    assert first_draws(GaussianVector()) == []
    (heard,) = first_draws(NoNoise())
    assert "another seed gives the same outputs" in heard
    assert "x is the same in each of the first 32 draws" in first_draws(Constant())[1]


def test_the_failing_draw_is_found_with_its_own_parameters() -> None:
    """The search for it gives every row its own copy, too."""

    class Raises(GaussianVector):
        def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
            if bool((parameters["theta"][:, 0] > 1.5).any()):
                parameters["theta"].zero_()
                raise ValueError("too large")
            parameters["theta"].add_(10.0)
            return super().simulate(parameters, seeds=seeds)

    toy = Raises()
    theta = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.75, 0.0]])
    with pytest.raises(SimulationError, match="too large") as caught:
        run_simulator(toy, {"theta": theta}, draw_seeds(0, "tests", 0, 3))
    assert caught.value.where.startswith("draw 2 (a=1.75")
    assert torch.equal(theta, torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.75, 0.0]]))
