"""One contract over all shipped plug-ins and toys. A new plug-in adds one line to a list."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sbikit import Sampler, Simulations, Simulator, Validator
from sbikit.testing import (
    GaussianField,
    GaussianFieldOptions,
    GaussianVector,
    Spoiled,
    check_sampler,
    check_simulator,
    check_validator,
)
from sbikit_calibration.mira import Mira
from sbikit_calibration.tarp import Tarp

SIMULATORS: dict[str, Callable[[], Simulator]] = {
    "vector": GaussianVector,
    "field": GaussianField,
    "field-odd-one-parameter": lambda: GaussianField(GaussianFieldOptions(size=9, parameters=1)),
}

SAMPLERS: dict[str, Callable[[], tuple[Simulator, Sampler]]] = {
    "vector-exact": lambda: _exact(GaussianVector()),
    "field-exact": lambda: _exact(GaussianField()),
    "field-spoiled": lambda: _spoiled(GaussianField(GaussianFieldOptions(size=8, parameters=1))),
}

VALIDATORS: dict[str, Callable[[], Validator]] = {"mira": Mira, "tarp": Tarp}


def _exact(toy: GaussianVector | GaussianField) -> tuple[Simulator, Sampler]:
    return toy, toy.exact_sampler()


def _spoiled(toy: GaussianField) -> tuple[Simulator, Sampler]:
    return toy, Spoiled(toy.exact_sampler(), shift=0.5, scale=2.0)


@pytest.mark.parametrize("make", SIMULATORS.values(), ids=SIMULATORS.keys())
def test_simulator(make: Callable[[], Simulator]) -> None:
    check_simulator(make())


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS.keys())
def test_sampler(make: Callable[[], tuple[Simulator, Sampler]]) -> None:
    simulator, sampler = make()
    held_out = Simulations(simulator, 0).held_out(0, 3)
    check_sampler(sampler, {v.name: held_out[v.name] for v in sampler.spec.observables})


@pytest.mark.parametrize("make", VALIDATORS.values(), ids=VALIDATORS.keys())
def test_validator(make: Callable[[], Validator]) -> None:
    check_validator(make())
