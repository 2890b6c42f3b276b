"""From chains to draws: which draws are kept, in which order, and what convergence is judged on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact_helpers import NoDensity
from torch import Tensor

from sbikit import (
    Field,
    LogDensity,
    Simulations,
    Spec,
    UnsupportedError,
    Vector,
)
from sbikit.testing import GaussianField, GaussianFieldOptions
from sbikit_exact.chains import chain_sizes, decode, judged, thin
from sbikit_exact.density import log_density_of


def field_problem(observations: int) -> tuple[LogDensity, Spec]:
    simulator = GaussianField(GaussianFieldOptions(size=4))
    held_out = Simulations(simulator, 0).held_out(0, observations)
    return simulator.log_density({"data": held_out["data"]}), simulator.spec


@pytest.mark.parametrize(
    ("n", "chains", "sizes"),
    [
        (42, 4, (11, 10, 11, 10)),
        (8, 4, (2, 2, 2, 2)),
        (7, 2, (3, 4)),
        (1, 4, (0, 0, 1, 0)),
        (3, 4, (1, 0, 1, 1)),
        (20, 6, (4, 3, 3, 4, 3, 3)),
    ],
)
def test_sizes(n: int, chains: int, sizes: tuple[int, ...]) -> None:
    assert chain_sizes(n, chains) == sizes
    assert sum(sizes) == n
    assert sum(sizes[: chains // 2]) == n // 2


@pytest.mark.parametrize("n", [1, 2, 7, 42, 80])
@pytest.mark.parametrize("chains", [2, 4, 6])
def test_the_halves_of_the_draws_share_no_chain(n: int, chains: int) -> None:
    owner = torch.arange(chains)[:, None, None].expand(chains, 40, 3)
    kept = thin(owner, n)
    assert kept.shape == (n, 3)
    first, second = kept[: n // 2].unique().tolist(), kept[n // 2 :].unique().tolist()
    assert not set(first) & set(second)
    assert kept[:, 0].tolist() == sorted(kept[:, 0].tolist())


def test_draws_are_evenly_spaced_along_a_chain() -> None:
    place = torch.arange(40).expand(2, 40)
    assert thin(place, 8).tolist() == [9, 19, 29, 39] * 2
    assert thin(place, 80).tolist() == list(range(40)) * 2


def test_decoding_in_chunks_is_decoding() -> None:
    density, spec = field_problem(3)
    z = torch.randn(131, 3, density.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, found = density.decode(z), decode(density, z, spec)
    assert set(found) == {"theta", "field"}
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert value.shape == (131, 3, *spec[name].shape)
        torch.testing.assert_close(value, whole[name].float())


def test_parameters_are_judged() -> None:
    density, spec = field_problem(3)
    z = torch.randn(4, 50, 3, density.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, values = judged(density, z, spec)
    vector = spec["theta"]
    assert isinstance(vector, Vector)
    assert labels == vector.labels
    assert values.shape == (3, len(labels), 4, 50)
    theta = density.decode(z)["theta"]
    for b, s in np.ndindex(3, len(labels)):
        np.testing.assert_allclose(values[b, s], theta[:, :, b, s], rtol=1e-6)


def test_coordinates_are_judged_where_there_is_no_vector() -> None:
    spec = Spec((Field("map", (2, 2)),), (Vector("x", ("x",)),))

    def unused(z: Tensor) -> Tensor:
        raise AssertionError("nothing to decode")

    density = LogDensity(4, unused, lambda z: {"map": unused(z)})
    z = torch.arange(4 * 5 * 2 * 4, dtype=torch.float64).reshape(4, 5, 2, 4)
    labels, values = judged(density, z, spec)
    assert labels == ("z0", "z1", "z2", "z3")
    assert np.array_equal(values[1, 2], z[:, :, 1, 2].numpy())


@pytest.mark.parametrize("name", ["hmc", "nuts"])
def test_a_simulator_without_log_density_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match="NoDensity has no differentiable log density") as caught:
        log_density_of(NoDensity(), name)
    assert caught.value.where == f"sampler '{name}'"
    assert "log_density" in caught.value.fix
    assert "npe" in caught.value.fix
