"""Gaussian maps integrated out: for which options, and what does not depend on what."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from lognormal_cases import NO_MARGINAL
from torch import Tensor

from sbikit import ObservationError, UnsupportedError, draw_seeds, generator
from sbikit_lognormal.simulator import LogNormal, LogNormalOptions

PROBLEMS: dict[str, dict[str, Any]] = {
    "shear": {},
    "two bins of convergence": {"sources": {"bins": 2}, "observes": "convergence"},
    "free shear bias": {"sources": {"bins": 2}, "shear_bias": [{"normal": [0.0, 0.3]}, 0.1]},
}


def made(**options: Any) -> LogNormal:
    """A simulator of options as a configuration file has them."""
    given = {"field": "gaussian", "size": 8, "extent": 5.0, "n_gal": 60.0, **options}
    return LogNormal(LogNormalOptions.model_validate_json(json.dumps(given)))


def simulated(simulator: LogNormal, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Parameters (count, D), float64, and data."""
    theta = simulator.prior.sample(draw_seeds(5, "parameters", 0, count))
    outputs = simulator.simulate(theta, seeds=draw_seeds(5, "outputs", 0, count))
    return theta["theta"].double(), {name: outputs[name] for name in simulator.observed}


@pytest.mark.parametrize("name", PROBLEMS)
def test_an_observation_has_its_density_alone_and_in_any_batch(name: str) -> None:
    simulator = made(**PROBLEMS[name])
    theta, data = simulated(simulator, 5)
    together = simulator.marginal_density(data)
    log_p = together.log_likelihood(theta)
    assert log_p.shape == (5, 5)
    assert log_p.dtype == torch.float64
    maps = together.draw(theta, 3, generator(1))["kappa"]
    assert maps.shape == (5, simulator.bins, 8, 8)
    alone = simulator.marginal_density({name: value[3:4] for name, value in data.items()})
    torch.testing.assert_close(alone.log_likelihood(theta)[0], log_p[3], rtol=1e-12, atol=1e-9)
    again = alone.draw(theta, 0, generator(1))["kappa"]
    torch.testing.assert_close(again, maps, rtol=0, atol=1e-13)
    assert not torch.equal(alone.draw(theta, 0, generator(2))["kappa"], maps)


def test_the_data_s_own_parameters_are_the_likeliest_on_the_whole() -> None:
    simulator = made(n_gal=1000.0)
    theta, data = simulated(simulator, 40)
    log_p = simulator.marginal_density(data).log_likelihood(theta)
    surplus = log_p.diagonal() - log_p.mean(1)
    assert float(surplus.mean()) > 4 * float(surplus.std()) / 40**0.5


def test_of_no_observations_there_is_a_density() -> None:
    simulator = made()
    theta, data = simulated(simulator, 2)
    empty = simulator.marginal_density({name: value[:0] for name, value in data.items()})
    assert empty.log_likelihood(theta).shape == (0, 2)


@pytest.mark.parametrize(("options", "named"), NO_MARGINAL)
def test_where_maps_cannot_be_integrated_out_it_is_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        made(**options).marginal_density({"shear": torch.zeros(0, 2, 8, 8)})
    assert caught.value.got == named
    assert "field: gaussian" in caught.value.expected


def test_data_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ObservationError, match="does not fit"):
        made().marginal_density({"shear": torch.zeros(1, 2, 16, 16)})
