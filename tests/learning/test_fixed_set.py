"""A fixed number of draws: who trains, who judges, and fresh noise where a simulator can draw it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kept_draws import KeptDraws
from torch import Tensor

from sbikit import SimulationError, UnsupportedError, Values, load
from sbikit.learning import FixedSet, validation_size
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector


def small_field() -> GaussianField:
    return GaussianField(GaussianFieldOptions(size=4))


@pytest.mark.parametrize(
    ("count", "size"), [(10_000, 1000), (1000, 100), (600, 100), (300, 60), (10, 2), (2, 1)]
)
def test_a_small_set_is_judged_by_more_of_it(count: int, size: int) -> None:
    assert validation_size(count, 0.1) == size


@pytest.mark.parametrize("budget", [2**20, 100])
def test_the_last_draws_judge_and_never_train(budget: int) -> None:
    draws = KeptDraws(GaussianVector(), 60)
    kept = FixedSet(draws, count=50, judges=12, batch=7, seed=0, budget=budget)
    assert (kept.training, kept.judges, kept.batches, kept.fresh_noise) == (38, 12, 6, False)
    for _ in range(2):
        judging = torch.cat([part["x"] for part in kept.judging()])
        assert torch.equal(judging, draws.values["x"][38:50])
    seen = torch.cat([kept.batch(step)["x"] for step in range(6)])
    assert torch.equal(seen.sort(0).values, draws.values["x"][:38].sort(0).values)


def test_from_the_second_epoch_on_noise_is_fresh_and_a_step_has_its_own() -> None:
    simulator = small_field()
    draws = KeptDraws(simulator, 40)
    kept = FixedSet(draws, count=40, judges=8, batch=8, seed=5)
    assert kept.fresh_noise
    noise = []
    for epoch in range(3):
        parts = [kept.batch(4 * epoch + step) for step in range(4)]
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        order = joined["field"][:, 0, 0, 0].argsort()
        noise.append((joined["data"] - joined["field"])[order])
    kept_order = draws.values["field"][:32, 0, 0, 0].argsort()
    stored = (draws.values["data"] - draws.values["field"])[:32][kept_order]
    assert torch.equal(noise[0], stored)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        correlation = torch.corrcoef(torch.stack([noise[one].flatten(), noise[other].flatten()]))[0, 1]
        assert abs(float(correlation)) < 0.2  # five of its standard deviations, 1 / sqrt(512)
    assert float(noise[1].std()) == pytest.approx(1.0, abs=0.15)
    alone = FixedSet(draws, count=40, judges=8, batch=8, seed=5)
    assert torch.equal(alone.batch(9)["data"], kept.batch(9)["data"])
    judging = torch.cat([part["data"] for part in kept.judging()])
    assert torch.equal(judging, draws.values["data"][32:])


class CannotNow(GaussianField):
    def observe(self, outputs: Values, *, seeds: np.ndarray) -> dict[str, Tensor]:
        raise UnsupportedError("Not with these options.")


class Broken(GaussianField):
    def observe(self, outputs: Values, *, seeds: np.ndarray) -> dict[str, Tensor]:
        return {"data": super().observe(outputs, seeds=seeds)["data"] * float("nan")}


def test_noise_is_kept_where_it_cannot_be_drawn_and_what_is_broken_is_refused() -> None:
    options = GaussianFieldOptions(size=4)
    kept = FixedSet(KeptDraws(CannotNow(options), 20), count=20, judges=4, batch=8, seed=0)
    assert not kept.fresh_noise
    draws = KeptDraws(Broken(options), 20)
    with pytest.raises(SimulationError, match="no usable 'data'") as caught:
        FixedSet(draws, count=20, judges=4, batch=8, seed=0)
    assert "16 values not finite" in caught.value.got


def test_the_lensing_simulator_has_fresh_shape_noise() -> None:
    """Of the same convergence: two observations differ by noise of twice the variance."""
    simulator = load("simulator", "lognormal", size=8)
    draws = KeptDraws(simulator, 24)
    kept = FixedSet(draws, count=24, judges=4, batch=20, seed=0)
    assert kept.fresh_noise
    first, second = kept.batch(0), kept.batch(1)
    order = [values["kappa"][:, 0, 0, 0].argsort() for values in (first, second)]
    assert torch.equal(first["kappa"][order[0]], second["kappa"][order[1]])
    difference = first["shear"][order[0]] - second["shear"][order[1]]
    options = simulator.options
    pixel = (60.0 * options.extent / options.size) ** 2  # arcmin^2
    sigma = options.sigma_e / (options.n_gal * pixel) ** 0.5
    assert float(difference.std()) == pytest.approx(2**0.5 * sigma, rel=0.05)
