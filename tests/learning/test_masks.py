"""Where a simulator masks its data, what an observation holds is read by nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from sbikit import (
    Estimator,
    Field,
    Normal,
    ObservationError,
    Prior,
    QuietMonitor,
    Simulations,
    Simulator,
    SupportsMasks,
    Values,
    Workspace,
    draw_seeds,
    normals,
    supports,
)
from sbikit.storage import read_observation
from sbikit.testing import ContractError, check_simulator
from sbikit_lognormal.simulator import LogNormal, LogNormalOptions
from sbikit_npe.estimator import NPE
from sbikit_npe.options import NPEOptions
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.options import TransformerOptions

SEEN = torch.ones(1, 4, 4, dtype=torch.bool)
SEEN[:, 1:3, 2] = False


class Masked(Simulator):
    """A level in noise, of which two pixels are not seen."""

    prior = Prior({"level": Normal(0.0, 1.0)})
    outputs = (Field("d", (4, 4)),)
    observed = ("d",)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        noise = normals(seeds, (1, 4, 4))
        return {"d": (parameters["theta"][:, :, None, None] + noise).masked_fill(~SEEN, 0.0)}

    def masks(self) -> dict[str, Tensor]:
        return {"d": SEEN}


class Careless(Masked):
    """Has a mask and does not heed it."""

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"d": parameters["theta"][:, :, None, None] + normals(seeds, (1, 4, 4))}


@pytest.mark.parametrize(
    "estimator",
    [
        NPE(NPEOptions(simulations=200)),
        DiffusionTransformer(TransformerOptions(steps=2, width=16, depth=1, heads=2, guide_simulations=128)),
    ],
)
def test_masked_pixels_of_an_observation_do_not_matter(estimator: Estimator) -> None:
    simulations = Simulations(Masked(), 0)
    sampler = estimator.fit(simulations, seed=0, workspace=Workspace(), monitor=QuietMonitor())
    clean = simulations.held_out(0, 2)["d"]
    spoilt = clean.masked_fill(~SEEN, -999.0)
    first, second = (
        sampler.sample({"d": data}, 5, seeds=draw_seeds(0, "t", 0, 2)).values["theta"]
        for data in (clean, spoilt)
    )
    assert torch.equal(first, second)


def test_a_file_may_hold_nan_where_it_is_masked(tmp_path: Path) -> None:
    data = Simulations(Masked(), 0).held_out(0, 1)["d"]
    holes = data.masked_fill(~SEEN, torch.nan).numpy()
    xr.Dataset({"d": (("o", "c", "y", "x"), holes)}).to_netcdf(tmp_path / "o.nc", engine="h5netcdf")
    spec = Masked().spec
    assert torch.equal(read_observation(tmp_path / "o.nc", spec, {"d": SEEN})["d"], data)
    with pytest.raises(ObservationError, match="not finite"):
        read_observation(tmp_path / "o.nc", spec)


def test_masks_are_part_of_the_contract() -> None:
    check_simulator(Masked())
    with pytest.raises(ContractError, match="not 0 where they are masked"):
        check_simulator(Careless())


def test_the_lensing_simulator_tells_its_mask() -> None:
    options = LogNormalOptions(size=16, mask={"density": 4.0, "radius": 8.0})
    simulator = LogNormal(options)
    assert supports(simulator, SupportsMasks)
    mask = simulator.masks()["shear"]
    assert torch.equal(mask[0], simulator.survey.mask)
    assert mask.shape == (2, 16, 16)
    assert LogNormal(LogNormalOptions(size=16)).masks() == {}
