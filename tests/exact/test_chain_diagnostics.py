"""Diagnostics of chains against analytic autoregressive chains, and every alarm that they should ring."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from arviz_stats.base import array_stats
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, norm

from sbikit import Trust
from sbikit_exact.diagnostics import ChainDiagnostics, diagnose

Array = NDArray[np.float64]
CHAINS, DRAWS = 4, 2000


def autoregressive(rho: float, draws: int = DRAWS, seed: int = 1) -> Array:
    """Stationary normal chains (CHAINS, draws) of unit variance, x_t = rho x_{t-1} + noise."""
    noise = np.random.default_rng(seed).normal(size=(CHAINS, draws))
    x = np.empty_like(noise)
    x[:, 0] = noise[:, 0]
    for t in range(1, draws):
        x[:, t] = rho * x[:, t - 1] + math.sqrt(1 - rho**2) * noise[:, t]
    return x


def judge(*scalars: Array, energies: Array | None = None, divergent: int = 0) -> ChainDiagnostics:
    flags = np.zeros(scalars[0].size, dtype=bool)
    flags[:divergent] = True
    return diagnose(
        tuple(f"s{i}" for i in range(len(scalars))),
        np.stack(scalars),
        energies,
        flags.reshape(scalars[0].shape),
        gradients=7,
        seconds=0.5,
    )


# --- figures ----------------------------------------------------------------------------------


def test_independent_draws_are_trusted() -> None:
    found = judge(autoregressive(0.0), autoregressive(0.3, seed=2))
    assert found.trust().trustworthy
    assert found.complaints == ()
    assert found.labels == ("s0", "s1")
    assert found.draws == CHAINS * DRAWS
    assert (found.gradients, found.seconds, found.divergences, found.e_bfmi) == (7, 0.5, 0, None)


def test_trust_tells_the_worst_scalar_and_goes_to_json() -> None:
    found = judge(autoregressive(0.0), autoregressive(0.5, seed=2), energies=autoregressive(0.5), divergent=2)
    trust = found.trust()
    assert Trust.from_record(json.loads(json.dumps(trust.record()))) == trust
    assert trust.value("R-hat") == max(found.r_hat)
    assert trust.value("bulk ESS") == min(found.ess_bulk) == found.ess_bulk[1]
    assert trust.value("tail ESS") == min(found.ess_tail)
    assert trust.value("share of divergent transitions") == 2 / (CHAINS * DRAWS)
    assert trust.value("E-BFMI") == found.e_bfmi
    assert (trust.value("transitions"), trust.value("gradients")) == (CHAINS * DRAWS, 7)
    assert [one.name for one in trust.readings if one.wanted] == [
        "R-hat",
        "bulk ESS",
        "tail ESS",
        "share of divergent transitions",
    ]


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9])
def test_bulk_size_of_autoregressive_chains(rho: float) -> None:
    """Of the mean of such chains: draws (1 - rho) / (1 + rho)."""
    x = autoregressive(rho, draws=20_000)
    assert judge(x).ess_bulk[0] == pytest.approx(x.size * (1 - rho) / (1 + rho), rel=0.1)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_tail_size_of_autoregressive_chains(rho: float) -> None:
    """From the correlation of being below the 5 % quantile at two times: a bivariate normal integral."""
    p, q = 0.05, norm.ppf(0.05)
    together = np.array(
        [multivariate_normal.cdf([q, q], cov=[[1, rho**t], [rho**t, 1]]) for t in range(1, 60)] if rho else []
    )
    expected = 1 / (1 + 2 * ((together - p**2) / (p * (1 - p))).sum())
    x = autoregressive(rho, draws=20_000)
    assert judge(x).ess_tail[0] == pytest.approx(x.size * expected, rel=0.1)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.95])
def test_energy_fraction_of_autoregressive_energies(phi: float) -> None:
    """E (E_t - E_{t-1})^2 = 2 (1 - phi) var E."""
    energies = 3.0 * autoregressive(phi, draws=20_000) + 100.0
    found = judge(autoregressive(0.0), energies=energies).e_bfmi
    assert found is not None
    # Of four estimates with an error of a few per cent each, the lowest.
    assert found == pytest.approx(2 * (1 - phi), rel=0.1)


# --- alarms -----------------------------------------------------------------------------------


def test_a_chain_that_never_moves() -> None:
    stuck = autoregressive(0.0)
    stuck[2] = 0.3
    found = judge(stuck, autoregressive(0.0))
    assert found.r_hat[0] == math.inf
    assert found.ess_bulk[0] == found.ess_tail[0] == 0.0
    assert found.r_hat[1] < 1.01 < found.ess_bulk[1]
    assert not found.trust().trustworthy


def test_a_chain_that_gets_stuck_half_way() -> None:
    stuck = autoregressive(0.0)
    stuck[1, DRAWS // 2 :] = stuck[1, DRAWS // 2]
    assert judge(stuck).r_hat == (math.inf,)


def test_a_value_that_is_not_finite() -> None:
    x = autoregressive(0.0)
    x[0, 3] = np.nan
    found = judge(x)
    assert (found.r_hat, found.ess_bulk, found.ess_tail) == ((math.inf,), (0.0,), (0.0,))
    assert not found.trust().trustworthy


def test_a_shifted_chain() -> None:
    x = autoregressive(0.0)
    x[0] += 0.5
    found = judge(autoregressive(0.0, seed=2), x)
    assert found.r_hat[0] < 1.01 < found.r_hat[1]
    assert found.complaints[0].startswith(f"R-hat up to {found.r_hat[1]:.3f}")


def test_a_drift_common_to_all_chains() -> None:
    """Only the halves of the chains differ."""
    x = autoregressive(0.0) + np.linspace(0.0, 1.0, DRAWS)
    assert judge(x).r_hat[0] > 1.01


def test_a_wider_chain_of_the_same_mean() -> None:
    """The ranks agree; only those of the distances from the median do not."""
    x = autoregressive(0.0)
    x[0] *= 1.6
    assert array_stats.rhat(x, method="z_scale") < 1.01
    assert judge(x).r_hat[0] > 1.01
    assert not judge(x).trust().trustworthy


def test_slow_chains() -> None:
    found = judge(autoregressive(0.97))
    assert found.ess_bulk[0] < 400
    assert any(text.startswith("bulk ESS down to") for text in found.complaints)


def test_tails_that_are_visited_rarely() -> None:
    """A slowly changing width: the sign is new in every draw, the size is not."""
    x = np.exp(1.5 * autoregressive(0.998)) * autoregressive(0.0, seed=2)
    found = judge(x)
    assert found.ess_bulk[0] > 400 > found.ess_tail[0]
    assert any(text.startswith("tail ESS down to") for text in found.complaints)
    assert not found.trust().trustworthy


def test_divergences() -> None:
    one_in_a_thousand = CHAINS * DRAWS // 1000
    assert judge(autoregressive(0.0), divergent=one_in_a_thousand).trust().trustworthy
    found = judge(autoregressive(0.0), divergent=one_in_a_thousand + 1)
    assert not found.trust().trustworthy
    assert found.complaints == ("0.11% of the transitions diverged (wanted at most 0.1%)",)


def test_one_chain_of_slow_energy() -> None:
    energies = autoregressive(0.5)
    energies[3] = autoregressive(0.98)[3]
    found = judge(autoregressive(0.0), energies=energies).e_bfmi
    assert found == pytest.approx(2 * (1 - 0.98), rel=0.5)


@pytest.mark.parametrize("value", [2.0, math.nan])
def test_an_energy_that_is_no_energy(value: float) -> None:
    energies = autoregressive(0.5)
    energies[1] = value
    assert judge(autoregressive(0.0), energies=energies).e_bfmi == 0.0
