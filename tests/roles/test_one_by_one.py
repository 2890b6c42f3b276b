"""Simulators of one draw at a time: their batches are what each draw is by itself, and faults are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sbikit import Field, PluginError, Prior, SimulationError, Simulations, Simulator, Uniform, Vector
from sbikit.problem.variables import Values
from sbikit.testing import check_simulator

SHAPES = {"map": (1, 4, 3), "two": (2, 4, 3), "one": (1,), "three": (3,)}
SHORT = {"map": (4, 3), "one": ()}


class Each(Simulator):
    """Outputs of all kinds; numbers of one channel come without its axis where `short`."""

    prior = Prior({"a": Uniform(0.5, 2.0), "b": Uniform(-3.0, 1.0)})
    outputs = (
        Field("map", (4, 3)),
        Field("two", (4, 3), channels=2),
        Vector("one", ("o",)),
        Vector("three", ("p", "q", "r")),
    )
    observed = ("two", "three")

    def __init__(self, *, short: bool = False, as_tensors: bool = False) -> None:
        super().__init__()
        self.shapes = SHAPES | SHORT if short else SHAPES
        self.as_tensors = as_tensors

    def simulate_one(self, parameters: Mapping[str, float], rng: np.random.Generator) -> Mapping[str, Any]:
        assert type(parameters["a"]) is float
        made = {
            name: parameters["a"] * rng.standard_normal(shape) + parameters["b"]
            for name, shape in self.shapes.items()
        }
        return {name: torch.as_tensor(value) for name, value in made.items()} if self.as_tensors else made


def by_hand(parameters: Values, seeds: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The same written as a loop over rows of the vector."""
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in SHAPES}
    for (a, b), seed in zip(parameters["theta"].tolist(), seeds, strict=True):
        rng = np.random.default_rng(seed)
        for name, shape in SHAPES.items():
            found[name].append(a * rng.standard_normal(shape) + b)
    return {name: np.stack(values) for name, values in found.items()}


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("as_tensors", [False, True])
def test_a_batch_is_made_of_its_draws(short: bool, as_tensors: bool) -> None:
    simulator = Each(short=short, as_tensors=as_tensors)
    parameters = {"theta": torch.tensor([[1.0, -2.0], [0.7, 0.5], [1.9, 0.0]])}
    seeds = np.array([5, 2**62, 0])
    found = simulator.simulate(parameters, seeds=seeds)
    assert all(isinstance(value, torch.Tensor) == as_tensors for value in found.values())
    for name, expected in by_hand(parameters, seeds).items():
        np.testing.assert_array_equal(np.asarray(found[name]), expected)


def test_it_keeps_the_contract_and_joins_a_stream() -> None:
    check_simulator(Each())
    drawn = Simulations(Each(short=True), 0).training(0, 5)
    assert {name: tuple(value.shape) for name, value in drawn.items()} == {
        "theta": (5, 2),
        **{name: (5, *shape) for name, shape in SHAPES.items()},
    }


class Spoiled(Each):
    """Draws that are `spoiled` after they were made."""

    def __init__(self, spoiled: Any) -> None:
        super().__init__()
        self.spoiled = spoiled

    def simulate_one(self, parameters: Mapping[str, float], rng: np.random.Generator) -> Mapping[str, Any]:
        return self.spoiled(super().simulate_one(parameters, rng))


@pytest.mark.parametrize(
    ("spoiled", "got"),
    [
        (list, "list"),
        (lambda made: None, "NoneType"),
        (lambda made: {"map": made["map"]}, "map"),
        (lambda made: {}, "nothing"),
    ],
    ids=["a list", "nothing returned", "one missing", "empty"],
)
def test_what_lacks_an_output_is_refused_as_that_of_a_batch(spoiled: Any, got: str) -> None:
    with pytest.raises(SimulationError, match=r"^Spoiled\.simulate_one did not return") as refusal:
        Simulations(Spoiled(spoiled), 0).training(0, 3)
    assert str(refusal.value.expected).endswith("map, two, one, three")
    assert refusal.value.got == got


@pytest.mark.parametrize(
    ("spoiled", "expected", "got"),
    [
        (lambda made: made | {"two": made["two"][0]}, "(2, 4, 3) = two.shape, of one draw", "(4, 3)"),
        (lambda made: made | {"three": 1.0}, "(3,) = three.shape, of one draw", "()"),
        (lambda made: made | {"map": made["map"].T}, "(1, 4, 3) = map.shape, of one draw", "(3, 4, 1)"),
    ],
    ids=["a channel short", "a number", "turned"],
)
def test_another_shape_is_refused_by_name(spoiled: Any, expected: str, got: str) -> None:
    with pytest.raises(PluginError) as refusal:
        Simulations(Spoiled(spoiled), 0).training(0, 3)
    assert refusal.value.where == "Spoiled.simulate_one"
    assert (refusal.value.expected, refusal.value.got) == (expected, got)


def test_complex_and_masked_values_are_refused_as_those_of_a_batch_are() -> None:
    hidden = np.ma.masked_less(np.ones((1, 4, 3)), 2.0)
    for value, text in ((np.ones((1, 4, 3), complex), "complex"), (hidden, "masked")):
        with pytest.raises(SimulationError, match=text):
            Simulations(Spoiled(lambda made, value=value: made | {"map": value}), 0).training(0, 3)


def test_a_draw_that_raises_is_told_and_left_out_alone() -> None:
    def picky(made: Mapping[str, Any]) -> Mapping[str, Any]:
        if made["one"][0] > 0.9:
            raise RuntimeError("did not converge")
        return made

    with pytest.raises(SimulationError, match=r"^Spoiled\.simulate_one raised RuntimeError: did not"):
        Simulations(Spoiled(picky), 0).training(0, 40)
    drawn = Simulations(Spoiled(picky), 0, max_failures=0.9).training(0, 40)
    whole = Simulations(Each(), 0).training(0, 40)
    stays = whole["one"][:, 0] <= 0.9
    assert 0 < int(stays.sum()) < 40
    assert torch.equal(drawn["one"][stays], whole["one"][stays])
    assert float(drawn["one"].max()) <= 0.9


class Silent(Simulator):
    """Neither of the two methods."""

    prior = Prior({"a": Uniform(0.0, 1.0)})
    outputs = (Vector("x", ("x",)),)
    observed = ("x",)


def test_a_simulator_that_does_not_simulate_is_told_what_it_lacks() -> None:
    with pytest.raises(PluginError, match="simulate_one"):
        Simulations(Silent(), 0).training(0, 1)
