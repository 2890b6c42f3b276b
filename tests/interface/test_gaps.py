"""Data that can be missing: what a simulator returns, what is kept, what is observed, and what is learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import sbikit
from sbikit import (
    Field,
    Normal,
    ObservationError,
    Prior,
    QuietMonitor,
    SimulationError,
    Simulations,
    Simulator,
    SpecError,
    Vector,
    draw_seeds,
    seen_of,
)
from sbikit.testing import GaussianGaps, check_simulator
from sbikit_exact.hmc import HMC, HMCOptions

QUIET = {"progress": False}


class Gappy(Simulator):
    """One parameter seen by two instruments, with noise of one, each out of order half of the time."""

    prior = Prior({"a": Normal(0.0, 2.0)})
    outputs = (Vector("x", ("x1", "x2"), fill=0.0),)
    observed = ("x",)

    def simulate_one(self, parameters: Mapping[str, float], rng: np.random.Generator) -> Mapping[str, Any]:
        """x (2,), NaN where an instrument was out of order."""
        x = parameters["a"] + rng.normal(size=2)
        return {"x": np.where(rng.random(2) < 0.5, np.nan, x)}


def exact_moments(x: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation of a given x (2,), by the precisions of what is seen."""
    seen = x[np.isfinite(x)]
    precision = 1.0 / 4.0 + len(seen)
    return seen.sum() / precision, precision**-0.5


def test_what_is_missing_is_filled_and_told() -> None:
    simulator = GaussianGaps()
    assert [v.name for v in simulator.spec.observables] == ["map", "map_seen", "numbers", "numbers_seen"]
    assert [v.name for v in simulator.spec.measured] == ["map", "numbers"]
    seeds = draw_seeds(0, "test", 0, 20)
    raw = simulator.simulate(simulator.prior.sample(seeds), seeds=seeds)
    stream = Simulations(simulator, 0)
    found = stream.training(0, 500)
    assert all(bool(value.isfinite().all()) for value in found.values())
    for name, fill in (("map", 0.0), ("numbers", 5.0)):
        assert bool(raw[name].isnan().any())
        seen = found[f"{name}_seen"]
        assert set(seen.unique().tolist()) == {0.0, 1.0}
        assert bool((found[name][seen == 0.0] == fill).all())
    # Each of four numbers is missing in a quarter, and all in a fifth: .8 x .75 are seen.
    assert float(found["numbers_seen"].mean()) == pytest.approx(0.6, abs=0.05)


def test_the_exact_posterior_of_what_is_seen_is_that_of_the_joint_normal_law() -> None:
    simulator = GaussianGaps()
    held_out = Simulations(simulator, 0).held_out(0, 3)
    mean, covariance = simulator.exact_sampler().moments(held_out)
    H, C = simulator.matrix().numpy(), simulator.covariance().numpy()
    noise = np.concatenate([np.ones(144), [1.0, 0.6, 0.9, 0.4]])
    for b in range(3):
        data = torch.cat([held_out["map"][b].flatten(), held_out["numbers"][b] - 5.0]).double().numpy()
        seen = torch.cat([held_out["map_seen"][b].flatten(), held_out["numbers_seen"][b]]).numpy() > 0
        rows, total = H[seen], H[seen] @ C @ H[seen].T + np.diag(noise[seen] ** 2)
        gain = C @ rows.T @ np.linalg.inv(total)
        assert mean[b].numpy() == pytest.approx(gain @ data[seen], abs=1e-9)
        assert covariance[b].numpy() == pytest.approx(C - gain @ rows @ C, abs=1e-9)


def test_hmc_sees_what_a_density_makes_of_missing_data() -> None:
    simulator = GaussianGaps()
    held_out = Simulations(simulator, 0).held_out(0, 2)
    observation = {v.name: held_out[v.name] for v in simulator.spec.observables}
    sampler = HMC(HMCOptions(draws=400, max_draws=2000)).posterior(simulator, monitor=QuietMonitor())
    drawn = sampler.sample(observation, 1600, seeds=draw_seeds(0, "hmc", 0, 2)).values
    mean, covariance = simulator.exact_sampler().moments(observation)
    sd = covariance.diagonal(dim1=1, dim2=2).sqrt()
    z = torch.cat([drawn["theta"], drawn["hidden"].flatten(2)], -1)
    assert bool((((z.mean(0) - mean) / sd).abs() < 0.2).all())
    assert bool((z.std(0) / sd - 1.0).abs().max() < 0.15)


def test_a_fitted_posterior_knows_what_is_missing(tmp_path: Path) -> None:
    kept = sbikit.simulate(Gappy(), 4000, store=tmp_path / "kept.zarr", **QUIET)
    assert not np.isnan(kept.arrays()["x"]).any()
    posterior = sbikit.fit(kept, "npe", out=tmp_path / "run", **QUIET)
    for x in ([1.0, np.nan], [np.nan, 1.0], [1.0, 2.0], [np.nan, np.nan]):
        draws = posterior.sample(x, 2000).to_numpy()["theta"]
        mean, sd = exact_moments(np.array(x))
        assert draws.mean() == pytest.approx(mean, abs=0.2 * sd)
        assert draws.std() == pytest.approx(sd, rel=0.12)
    both = posterior.sample({"x": [[1.0, np.nan], [1.0, 2.0]]}, 100)
    told = posterior.sample({"x": [[1.0, 7.0], [1.0, 2.0]], "x_seen": [[1, 0], [1, 1]]}, 100)
    assert np.array_equal(both.to_numpy()["theta"], told.to_numpy()["theta"])
    both.to_netcdf(tmp_path / "drawn.nc")
    with pytest.raises(ObservationError, match="not finite") as refusal:
        posterior.sample([1.0, np.inf], 10)
    assert "1 of 2 values are infinite" in refusal.value.got
    page = sbikit.report(posterior, **QUIET).read_text()
    assert "Missing, and left blank: " in page


def test_an_observation_with_gaps_is_read_from_files(tmp_path: Path) -> None:
    import xarray as xr

    from sbikit.storage import read_observation

    spec, x = Gappy().spec, np.array([np.nan, 3.0], dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    xr.Dataset({"x": ("d", x)}).to_netcdf(tmp_path / "nan.nc", engine="h5netcdf")
    told = xr.Dataset({"x": ("d", np.array([9.0, 3.0])), "x_seen": ("d", np.array([0.0, 1.0]))})
    told.to_netcdf(tmp_path / "told.nc", engine="h5netcdf")
    for name in ("x.npy", "nan.nc", "told.nc"):
        found = read_observation(tmp_path / name, spec)
        assert found["x"].tolist() == [[0.0, 3.0]]
        assert found["x_seen"].tolist() == [[0.0, 1.0]]


def test_contracts_and_mistakes() -> None:
    check_simulator(Gappy())
    with pytest.raises(SpecError, match="stands for missing"):
        Vector("x", ("a", "b"), fill=(1.0, 2.0, 3.0))
    with pytest.raises(SpecError, match="stands for missing"):
        Field("m", (4, 4), fill=np.nan)

    class Hidden(Gappy):
        outputs = (*Gappy.outputs, Vector("y", ("y",), fill=0.0))

    with pytest.raises(SpecError, match="is inferred"):
        _ = Hidden().spec

    class Far(Gappy):
        outputs = (replace(Gappy.outputs[0], fill=(0.0, 1e4)),)

    with pytest.raises(SimulationError, match="far from those that are seen") as refusal:
        Simulations(Far(), 0).training(0, 64)
    assert "x2" in refusal.value.where


def test_the_variable_that_tells_keeps_what_is_known_of_the_other() -> None:
    field = Field("shear", (8, 8), channels=2, extent=(5.0, 5.0), unit="1", periodic=True, fill=(0.0, 1.0))
    seen = seen_of(field)
    assert (seen.name, seen.shape, seen.tells, seen.fills) == ("shear_seen", field.shape, "shear", ())
    assert isinstance(seen, Field)
    assert (seen.extent, seen.periodic, seen.unit) == ((5.0, 5.0), True, "")
    assert field.fills == (0.0, 1.0)


def test_the_toys_data_vary_as_its_covariance_says() -> None:
    simulator = GaussianGaps()
    found = Simulations(simulator, 1).training(0, 4000)
    H, noise = simulator.matrix(), torch.tensor([1.0] * 144 + [1.0, 0.6, 0.9, 0.4]).double()
    expected = H @ simulator.covariance() @ H.T + torch.diag(noise**2)
    whole = found["numbers_seen"].bool().all(1)
    numbers = torch.cov((found["numbers"][whole].double() - 5.0).T)
    assert numbers.numpy() == pytest.approx(expected[144:, 144:].numpy(), abs=0.25)
    pixels, seen = found["map"].flatten(1).double(), found["map_seen"].flatten(1)
    assert ((pixels**2).sum(0) / seen.sum(0) / expected.diagonal()[:144]).numpy() == pytest.approx(
        1.0, abs=0.15
    )
