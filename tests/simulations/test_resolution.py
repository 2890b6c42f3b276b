"""Outputs that float32 does not hold are refused; what it holds passes, whatever its scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import constraints

from sbikit import Field, Normal, Prior, SimulationError, Simulator, Vector, normals
from sbikit.simulations import Simulations


class Offset(Simulator):
    """x = offset + scale * noise as a vector beside a field of the same, in a given type."""

    prior = Prior({"a": Normal(0.0, 1.0)})
    observed = ("x",)

    def __init__(self, offset, scale, dtype, *, support=constraints.real, fixed=0.0) -> None:
        self.numbers = offset, scale, dtype, fixed
        self.outputs = (
            Vector("x", ("p", "q"), support=support),
            Field("f", (4, 4), channels=2, support=support),
        )

    def simulate(self, parameters, *, seeds):
        offset, scale, dtype, fixed = self.numbers
        z = normals(seeds, (34,)).double()
        value = (offset + scale * z).to(dtype)
        f = value[:, 2:].reshape(-1, 2, 4, 4)
        f[:, 0] = fixed
        return {"x": value[:, :2], "f": f}


UNRESOLVED = [
    (5e9, 50.0, torch.float64),
    (2460000.5, 1.0, torch.float64),
    (-1e6, 1.0, torch.float64),
    (0.0, 1e-42, torch.float64),
    (1.0, 1e-9, torch.float64),
    (2460000.5, 1.0, torch.float32),
    (1e7, 5.0, torch.float32),
]


@pytest.mark.parametrize(("offset", "scale", "dtype"), UNRESOLVED)
def test_outputs_that_lose_their_digits_are_refused_with_the_figure(offset, scale, dtype) -> None:
    with pytest.raises(SimulationError, match="do not resolve 'x'") as caught:
        Simulations(Offset(offset, scale, dtype), 0).training(0, 64)
    gaps = float(caught.value.got.split()[0])
    spacing = max(float(np.spacing(np.float32(abs(offset) + 2 * scale))), 2.0**-126)
    assert gaps == pytest.approx(scale / spacing, rel=0.6)
    assert "p in Offset.simulate" in caught.value.where


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("offset", "scale"),
    [(0.0, 1.0), (0.0, 1e-30), (0.0, 1e30), (1e4, 1.0), (1e9, 1e6), (-3e-9, 1e-9), (5.0, 0.0)],
)
def test_what_float32_resolves_passes(offset, scale, dtype) -> None:
    drawn = Simulations(Offset(offset, scale, dtype), 0).training(0, 64)
    assert drawn["x"].dtype == torch.float32


def test_a_channel_that_is_constant_but_for_rounding_in_float64_passes() -> None:
    Simulations(Offset(0.0, 1.0, torch.float64, fixed=3.0), 0).training(0, 64)
    Simulations(Offset(1.0, 1e-15, torch.float64), 0).training(0, 64)


def test_only_the_first_draws_of_a_stream_are_asked_for_their_spread() -> None:
    simulations = Simulations(Offset(2460000.5, 1.0, torch.float64), 0)
    simulations.training(64, 64)
    with pytest.raises(SimulationError):
        simulations.held_out(0, 64)


def test_what_is_finite_in_float64_alone_is_refused_as_too_large() -> None:
    with pytest.raises(SimulationError, match="too large for float32") as caught:
        Simulations(Offset(0.0, 1e39, torch.float64), 0).training(64, 4)
    assert "e+39" in caught.value.got


@pytest.mark.parametrize(
    ("support", "offset", "right"),
    [
        (constraints.unit_interval, 0.5, True),
        (constraints.unit_interval, 0.95, False),
        (constraints.less_than(1.0), 0.95, False),
        (constraints.less_than(1.0), -5.0, True),
        (constraints.positive, -0.5, False),
        (constraints.independent(constraints.nonnegative, 1), -0.5, False),
        (constraints.interval(0.1, 0.3), 0.2, True),
        (constraints.interval(-1e300, 1e300), 0.2, True),
    ],
)
def test_values_outside_of_a_declared_support_are_refused(support, offset, right) -> None:
    simulator = Offset(offset, 0.02, torch.float32, support=support, fixed=offset)
    if right:
        Simulations(simulator, 0).training(0, 64)
        return
    with pytest.raises(SimulationError, match="outside of its support") as caught:
        Simulations(simulator, 0).training(0, 64)
    assert "% of them outside" in caught.value.got


def test_a_value_that_rounding_takes_to_its_bound_lies_inside() -> None:
    simulator = Offset(0.3, 0.0, torch.float64, support=constraints.interval(0.1, 0.3), fixed=0.3 + 1e-12)
    assert float(Simulations(simulator, 0).training(0, 8)["f"].max()) == pytest.approx(0.3)
