"""Simulations from Python: decorated functions, kept draws, and stores that are gone on with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from known import Counting

import sbikit
from sbikit import OptionError, PluginError, SimulationError, Simulations, StoreError

QUIET = {"progress": False}


class Needs(Counting):
    """A simulator that is not made without an argument."""

    def __init__(self, table: float) -> None:
        super().__init__()
        self.table = table


def counting(calls: list[float]) -> Any:
    """`Counting` from a function, which notes its calls."""

    @sbikit.simulator(prior=Counting.prior, outputs=Counting.outputs, observed=["counts"])
    def count(parameters: Any, rng: np.random.Generator) -> dict[str, Any]:
        """Counts."""
        calls.append(parameters["rate"])
        return {"counts": rng.poisson(parameters["rate"], size=2)}

    return count


def test_a_decorated_function_is_the_simulator_of_the_class() -> None:
    made = counting([])
    one, other = (Simulations(simulator, 3).training(0, 20) for simulator in (made, Counting()))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert made.__name__ == "count"
    assert made.__doc__ == "Counts."
    found = made({"rate": 4.0}, np.random.default_rng(1))
    assert np.array_equal(found["counts"], np.random.default_rng(1).poisson(4.0, size=2))


def test_a_function_of_many_draws_at_once() -> None:
    @sbikit.simulator(prior=Counting.prior, outputs=Counting.outputs, observed=["counts"], batched=True)
    def count(parameters: Any, *, seeds: Any) -> dict[str, Any]:
        rates = parameters["theta"][:, 0].tolist()
        draws = [np.random.default_rng(int(s)).poisson(r, size=2) for s, r in zip(seeds, rates, strict=True)]
        return {"counts": np.stack(draws)}

    one, other = (Simulations(simulator, 3).training(0, 20) for simulator in (count, Counting()))
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_kept_draws_are_those_of_the_stream_and_are_drawn_once(tmp_path: Path) -> None:
    calls: list[float] = []
    kept = sbikit.simulate(counting(calls), 50, seed=4, store=tmp_path / "store", **QUIET)
    assert len(kept) == len(calls) == kept.size == kept.count == 50
    assert kept.seed == 4
    assert "50 draws of theta, counts" in repr(kept)
    stream = Simulations(Counting(), 4)
    assert np.array_equal(kept.arrays()["counts"], stream.training(0, 50)["counts"].numpy())
    assert kept.arrays(10, 5)["theta"].shape == (5, 1)
    assert torch.equal(kept.held_out(0, 9)["counts"], stream.held_out(0, 9)["counts"])
    calls.clear()
    more = sbikit.simulate(counting(calls), 70, store=tmp_path / "store", **QUIET)
    assert len(calls) == 20
    assert more.seed == 4
    assert np.array_equal(more.arrays(0, 50)["counts"], kept.arrays()["counts"])


def test_a_temporary_store_ends_with_its_draws() -> None:
    kept = sbikit.simulate(Counting, 20, **QUIET)
    folder = kept.store
    assert folder.exists()
    del kept
    assert not folder.exists()


def test_a_function_that_says_something_else_does_not_go_on(tmp_path: Path) -> None:
    def made(scale: float) -> Any:
        @sbikit.simulator(prior=Counting.prior, outputs=Counting.outputs, observed=["counts"])
        def count(parameters: Any, rng: np.random.Generator) -> dict[str, Any]:
            return {"counts": scale * rng.poisson(parameters["rate"], size=2)}

        return count

    sbikit.simulate(made(1.0), 10, store=tmp_path / "store", **QUIET)
    assert len(sbikit.simulate(made(1.0), 12, store=tmp_path / "store", **QUIET)) == 12
    with pytest.raises(StoreError, match="something else"):
        sbikit.simulate(made(2.0), 12, store=tmp_path / "store", **QUIET)


def test_draws_that_fail_are_counted_and_too_many_refused() -> None:
    @sbikit.simulator(prior=Counting.prior, outputs=Counting.outputs, observed=["counts"])
    def count(parameters: Any, rng: np.random.Generator) -> dict[str, Any]:
        if parameters["rate"] > 7.0:
            raise ValueError("no solution")
        return {"counts": rng.poisson(parameters["rate"], size=2)}

    kept = sbikit.simulate(count, 200, max_failures=0.5, **QUIET)
    expected = int((Simulations(Counting(), 0).training(0, 200)["theta"] > 7.0).sum())
    assert kept.failures == {"raised": expected}
    assert len(kept) == 200 - expected
    assert float(kept.arrays()["theta"].max()) <= 7.0
    assert f"{expected} more failed" in repr(kept)
    with pytest.raises(SimulationError, match="Too many draws fail"):
        sbikit.simulate(count, 200, max_failures=0.01, **QUIET)


@pytest.mark.parametrize(
    ("simulator", "count", "error"),
    [
        (Counting, 1, OptionError),
        (3, 10, PluginError),
        (sbikit.Validator, 10, PluginError),
        (sbikit.Estimator, 10, PluginError),
        (Needs, 10, PluginError),
        (Simulations(Counting(), 0), 10, PluginError),
    ],
)
def test_what_cannot_be_is_refused(simulator: Any, count: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        sbikit.simulate(simulator, count, **QUIET)


NOTEBOOK = """
import numpy as np, sbikit
SCALE = 2.0

def scaled(x):
    return SCALE * x

@sbikit.simulator(prior=sbikit.Prior({"a": sbikit.Uniform(0.5, 2.0)}),
                  outputs=[sbikit.Vector("x", ("x1", "x2"))], observed=["x"])
def toy(parameters, rng):
    return {"x": scaled(parameters["a"]) + rng.standard_normal(2)}

class Same(sbikit.Simulator):
    prior, outputs, observed = toy.prior, toy.outputs, toy.observed

    def simulate_one(self, parameters, rng):
        return toy(parameters, rng)

here = sbikit.simulate(toy, 300, progress=False).arrays()
for simulator in (toy, Same()):
    there = sbikit.simulate(simulator, 300, workers=2, progress=False).arrays()
    assert all(np.array_equal(here[name], there[name]) for name in here)
print("the same")
"""


def test_workers_know_what_a_notebook_defines() -> None:
    """Code that is in no file, as in a notebook, goes to workers with what it uses."""
    done = subprocess.run(
        [sys.executable], input=NOTEBOOK, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.endswith("the same\n"), done.stderr
