"""Laws of one's own for the six parameters of the prior `wcdm`, and what the emulator covers."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from sbikit import Normal, OptionError, TruncatedNormal, Uniform
from sbikit_lognormal.cosmology import COVERED, LEAST_OMEGA_C, RADIUS, Parameters, make_parameters
from sbikit_lognormal.options import LogNormalOptions
from sbikit_lognormal.simulator import LogNormal
from sbikit_lognormal.spectra import DirectSpectra, PolynomialSpectra

PLANCK: dict[str, Any] = {
    "omega_c": {"normal": [0.3, 0.05]},
    "sigma_8": {"normal": [0.8, 0.05]},
    "omega_b": 0.0486,
    "h": 0.6774,
    "n_s": 0.9667,
    "w_0": -1.0,
}


def options(**given: Any) -> LogNormalOptions:
    """Options as a configuration file has them."""
    return LogNormalOptions.model_validate_json(json.dumps({"prior": "wcdm", **given}))


def made(**given: Any) -> Parameters:
    return make_parameters(options(**given), 1)


def test_laws_of_the_benchmarks_are_those_left_out() -> None:
    laws = made(sigma_8={"uniform": [0.6, 1.0]}, h=0.7).prior.laws
    assert list(laws) == ["omega_c", "omega_b", "sigma_8", "n_s", "w_0"]
    assert laws["sigma_8"] == Uniform(0.6, 1.0)
    benchmark = made().prior.laws
    assert list(benchmark) == list(COVERED.laws)
    assert {name: laws[name] for name in ("omega_c", "omega_b", "n_s", "w_0")} == {
        name: benchmark[name] for name in ("omega_c", "omega_b", "n_s", "w_0")
    }


def test_two_free_parameters_about_planck() -> None:
    found = made(**PLANCK)
    assert found.prior.laws == {
        "omega_c": TruncatedNormal(0.3, 0.05, LEAST_OMEGA_C, 0.9),
        "sigma_8": Normal(0.8, 0.05),
    }
    assert found.prior.variable.latex == (r"\Omega_{\rm c}", r"\sigma_8")
    cosmology = found.cosmology(torch.tensor([[0.25, 0.9], [0.35, 0.7]], dtype=torch.float64))
    expected = [[0.25, 0.0486, 0.9, 0.6774, 0.9667, -1.0], [0.35, 0.0486, 0.7, 0.6774, 0.9667, -1.0]]
    torch.testing.assert_close(cosmology, torch.tensor(expected, dtype=torch.float64), rtol=1e-15, atol=0)


def test_a_fixed_parameter_is_that_of_the_spectra() -> None:
    fixed = LogNormal(options(size=8, extent=5.0, **PLANCK))
    free = LogNormal(options(size=8, extent=5.0))
    theta = torch.tensor([0.28, 0.84], dtype=torch.float64)
    same = torch.tensor([0.28, 0.0486, 0.84, 0.6774, 0.9667, -1.0], dtype=torch.float64)
    for ours, theirs in zip(fixed.spectra(theta), free.spectra(same), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    assert isinstance(fixed._engine(torch.float64, theta.device).spectra, DirectSpectra)


def test_few_uniform_parameters_take_polynomials() -> None:
    ranges = {"omega_c": {"uniform": [0.2, 0.4]}, "sigma_8": {"uniform": [0.7, 0.9]}}
    simulator = LogNormal(options(size=8, extent=5.0, **{**PLANCK, **ranges}))
    spectra = simulator._engine(torch.float64, torch.device("cpu")).spectra
    assert isinstance(spectra, PolynomialSpectra)
    assert spectra.error < 2e-4


def test_cosmology_may_be_fixed_if_something_else_is_free() -> None:
    fixed = {**PLANCK, "omega_c": 0.2589, "sigma_8": 0.8159}
    simulator = LogNormal(options(size=8, extent=5.0, shear_bias={"normal": [0.0, 0.1]}, **fixed))
    assert list(simulator.prior.laws) == ["m_1"]
    with pytest.raises(OptionError, match="No parameter is free"):
        made(**fixed)


@pytest.mark.parametrize(
    ("given", "message", "got"),
    [
        ({"omega_c": 0.04}, "omega_c leave", "0.04 to 0.04"),
        ({"omega_c": {"uniform": [0.1, 0.95]}}, "omega_c leave", "0.1 to 0.95"),
        ({"w_0": {"normal": [-0.2, 0.1]}}, "w_0 leave", "-0.2 to -0.2"),
        ({"sigma_8": 1.6}, "emulator covers", "sigma_8 = 1.6"),
        ({"sigma_8": {"uniform": [0.6, 1.6]}}, "emulator covers", "sigma_8=1.6"),
        ({"omega_b": {"normal": [0.05, 0.02]}}, "emulator covers", "omega_b = "),
        # Each alone is covered, but not all at their ends at once.
        (
            {
                "h": {"uniform": [0.45, 0.9]},
                "n_s": {"uniform": [0.7, 1.2]},
                "omega_b": {"uniform": [0.03, 0.07]},
            },
            "emulator covers",
            "omega_b = 0.0",
        ),
    ],
)
def test_laws_beyond_the_emulator_are_refused(given: dict[str, Any], message: str, got: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        made(**given)
    assert got in caught.value.got
    assert all(f"simulator.{name}" in caught.value.where for name in given)


def test_what_is_accepted_is_covered_but_for_a_thousandth() -> None:
    widest = {"sigma_8": {"normal": [0.831, 0.14]}, "h": {"normal": [0.6727, 0.063]}, "w_0": -1.0}
    found = made(**widest)
    white = torch.randn(100_000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    radius = COVERED.to_white(found.cosmology(found.prior.from_white(white))).norm(dim=-1)
    assert float((radius > RADIUS).double().mean()) < 1e-3


def test_own_laws_are_idle_with_the_prior_s8() -> None:
    with pytest.raises(OptionError, match="the prior is s8") as caught:
        make_parameters(options(prior="s8", h=0.7), 1)
    assert caught.value.where == "simulator.h"
    assert math.isclose(made(h=0.7).fixed["h"], 0.7)
