"""One contract over all shipped plug-ins and toys. A new plug-in adds one line to a list."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sbikit import Estimator, ExactSampler, QuietMonitor, Sampler, Simulations, Simulator, Validator
from sbikit.testing import (
    GaussianField,
    GaussianFieldOptions,
    GaussianGaps,
    GaussianVector,
    Spoiled,
    check_estimator,
    check_sampler,
    check_simulator,
    check_validator,
)
from sbikit_calibration.coverage.mira import Mira
from sbikit_calibration.coverage.tarp import Tarp
from sbikit_calibration.ranks.intervals import Coverage
from sbikit_calibration.ranks.sbc import Sbc
from sbikit_exact.hmc import HMC, HMCOptions
from sbikit_exact.nuts import NUTS, NUTSOptions
from sbikit_exact.wiener import Wiener, WienerOptions
from sbikit_lognormal.options import LogNormalOptions
from sbikit_lognormal.simulator import LogNormal
from sbikit_npe.estimator import NPE, NPEOptions
from sbikit_transformer.estimator import DiffusionTransformer, TransformerOptions

SMALL = GaussianFieldOptions(size=8, parameters=1)

SIMULATORS: dict[str, Callable[[], Simulator]] = {
    "vector": GaussianVector,
    "field": GaussianField,
    "gaps": GaussianGaps,
    "lognormal": lambda: LogNormal(LogNormalOptions(size=8)),
    "lognormal-gaussian": lambda: LogNormal(
        LogNormalOptions(size=8, field="gaussian", wiener=True, quadratics=3)
    ),
    "lognormal-padded": lambda: LogNormal(LogNormalOptions(size=8, padding=2)),
    "field-odd-one-parameter": lambda: GaussianField(GaussianFieldOptions(size=9, parameters=1)),
}

SAMPLERS: dict[str, Callable[[], tuple[Simulator, Sampler]]] = {
    "vector-exact": lambda: _exact(GaussianVector()),
    "field-exact": lambda: _exact(GaussianField()),
    "gaps-exact": lambda: _exact(GaussianGaps()),
    "hmc": lambda: _sampled(HMC(HMCOptions(warmup=50, draws=50, max_draws=100)), GaussianVector()),
    "hmc-field": lambda: _sampled(HMC(HMCOptions(warmup=50, draws=50, max_draws=50)), GaussianField(SMALL)),
    "nuts": lambda: _sampled(NUTS(NUTSOptions(warmup=50, draws=50)), GaussianVector()),
    "wiener": lambda: _sampled(Wiener(WienerOptions(prior_points=1024, points=512)), GaussianField(SMALL)),
    "field-spoiled": lambda: _spoiled(GaussianField(GaussianFieldOptions(size=8, parameters=1))),
}

VALIDATORS: dict[str, Callable[[], Validator]] = {
    "mira": Mira,
    "tarp": Tarp,
    "sbc": Sbc,
    "coverage": Coverage,
}


ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "diffusion-transformer": lambda: DiffusionTransformer(
        TransformerOptions(steps=2, width=16, depth=1, guide_simulations=128, evaluations=4)
    ),
    "npe": lambda: NPE(NPEOptions(simulations=500, steps=60)),
}


def _sampled(exact: ExactSampler, toy: Simulator) -> tuple[Simulator, Sampler]:
    return toy, exact.posterior(toy, monitor=QuietMonitor())


def _exact(toy: GaussianVector | GaussianField | GaussianGaps) -> tuple[Simulator, Sampler]:
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


@pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS.keys())
def test_estimator(make: Callable[[], Estimator]) -> None:
    check_estimator(make())
