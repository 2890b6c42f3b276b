"""Fields given parameters and data, by every exact sampler, beside dense algebra of the toy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact_helpers import Recorder

from sbikit import (
    ExactSampler,
    LogDensity,
    Simulations,
    Spec,
    SpecError,
    UnsupportedError,
    Values,
    draw_seeds,
    supports,
)
from sbikit.roles import SupportsGiven
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector
from sbikit_exact.hmc import HMC, HMCOptions
from sbikit_exact.nuts import NUTS, NUTSOptions
from sbikit_exact.wiener import Wiener
from sbikit_lognormal.options import LogNormalOptions
from sbikit_lognormal.simulator import LogNormal

SIZE, DRAWS = 6, 2000
PLUGINS = {
    "hmc": HMC(HMCOptions(chains=4, warmup=200, draws=500)),
    "nuts": NUTS(NUTSOptions(chains=4, warmup=300, draws=500)),
    "wiener": Wiener(),
}


def dense(simulator: GaussianField, theta: torch.Tensor, data: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the field's pixels given parameters and data: normal laws in pixels, whose
    covariance of the field is built from its spectrum by a sum over modes.
    """
    n = SIZE
    power = simulator.power(theta, simulator.k_squared).numpy()
    x = np.arange(n)
    apart = x[:, None] - x[None, :]
    waves = np.fft.fftfreq(n, 1.0 / n)
    phase = np.exp(2j * np.pi * waves[:, None, None] * apart / n)  # (k, x, x')
    prior = np.einsum("kl,kac,lbd->abcd", power, phase, phase).real / n**2
    prior = prior.reshape(n * n, n * n)
    noise = simulator.options.noise**2 * np.eye(n * n)
    gain = prior @ np.linalg.inv(prior + noise)
    return gain @ data.numpy().ravel(), prior - gain @ prior


@pytest.mark.parametrize("name", PLUGINS)
def test_fields_given_parameters_are_wieners(name: str) -> None:
    simulator = GaussianField(GaussianFieldOptions(size=SIZE))
    truth = Simulations(simulator, 3).held_out(0, 2)
    plugin: ExactSampler = PLUGINS[name]
    joint = plugin.posterior(simulator, monitor=Recorder())
    assert supports(joint, SupportsGiven)
    sampler = joint.given(["theta"])
    assert sampler.spec == Spec((simulator.outputs[0],), (simulator.outputs[1], simulator.prior.variable))
    found = sampler.sample(
        {"data": truth["data"], "theta": truth["theta"]}, DRAWS, seeds=draw_seeds(1, "x", 0, 2)
    )
    assert set(found.values) == {"field"}
    for b in range(2):
        mean, covariance = dense(simulator, truth["theta"][b], truth["data"][b, 0].double())
        pixels = found.values["field"][:, b].flatten(1).double().numpy()
        sd = np.sqrt(covariance.diagonal())
        # Independent draws would have a mean .022 sd and variances 3 % off; chains a little more.
        off = (pixels.mean(0) - mean) / sd
        assert np.sqrt(np.mean(off**2)) < 0.05
        assert pixels.var(0).mean() / (sd**2).mean() == pytest.approx(1.0, abs=0.04)
        # Neighbours go together as they should, which widths alone do not tell.
        assert np.corrcoef(pixels.T)[0, 1] == pytest.approx(covariance[0, 1] / (sd[0] * sd[1]), abs=0.08)


def test_lensing_maps_given_parameters_have_the_joint_density() -> None:
    """On lines at fixed parameters the conditional log density changes as the joint one does, value and
    gradient."""
    simulator = LogNormal(LogNormalOptions(size=8, extent=5.0))
    truth = Simulations(simulator, 1).held_out(0, 1)
    joint = HMC(HMCOptions(chains=2, warmup=50, draws=50, max_draws=100))
    sampler = joint.posterior(simulator, monitor=Recorder()).given(["theta"])
    data = {name: truth[name] for name in simulator.observed}
    density, whole = sampler._density_of({**data, "theta": truth["theta"]}), simulator.log_density(data)
    count = len(simulator.prior.laws)
    assert (density.size, density.parameters) == (whole.size - count, 0)
    z = torch.randn(3, 1, density.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    white = simulator.prior.to_white(truth["theta"].double()).expand(3, 1, count)
    at = torch.cat([white, z], -1)
    change = whole.log_prob(at) - whole.log_prob(at[:1])
    torch.testing.assert_close(density.log_prob(z) - density.log_prob(z[:1]), change)
    torch.testing.assert_close(density.decode(z)["theta"].float(), truth["theta"].expand(3, 1, count))
    assert density.gradient is not None
    z.requires_grad_()
    (exact,) = torch.autograd.grad(density.log_prob(z).sum(), z)
    torch.testing.assert_close(density.gradient(z.detach().float()).double(), exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", PLUGINS)
@pytest.mark.parametrize("names", [["field"], ["theta", "field"]])
def test_other_conditionals_are_refused(name: str, names: list[str]) -> None:
    simulator = GaussianField(GaussianFieldOptions(size=SIZE))
    plugin: ExactSampler = PLUGINS[name]
    joint = plugin.posterior(simulator, monitor=Recorder())
    assert supports(joint, SupportsGiven)
    with pytest.raises(UnsupportedError, match="cannot draw the other latents given"):
        joint.given(names)


def test_without_fields_nothing_is_left() -> None:
    joint = HMC().posterior(GaussianVector(), monitor=Recorder())
    with pytest.raises(UnsupportedError, match="a problem with other latents than"):
        joint.given(["theta"])


def test_a_density_in_other_coordinates_is_refused() -> None:
    class Mirrored(GaussianField):
        def log_density(self, observation: Values) -> LogDensity:
            own = super().log_density(observation)
            return LogDensity(own.size, lambda z: own.log_prob(-z), lambda z: own.decode(-z), own.parameters)

    simulator = Mirrored(GaussianFieldOptions(size=SIZE))
    truth = Simulations(simulator, 3).held_out(0, 1)
    sampler = HMC().posterior(simulator, monitor=Recorder()).given(["theta"])
    with pytest.raises(UnsupportedError, match="which of its coordinates parameters are"):
        sampler.sample(truth, 4, seeds=draw_seeds(1, "x", 0, 1))


def test_a_conditional_problem_has_what_is_given_among_its_data() -> None:
    spec = GaussianField(GaussianFieldOptions(size=4)).spec
    assert [v.name for v in spec.given("theta").observables] == ["data", "theta"]
    assert [v.name for v in spec.given("theta").latents] == ["field"]
    with pytest.raises(SpecError, match="nothing to infer"):
        spec.given("theta", "field")
    with pytest.raises(SpecError, match="'data' is not a latent"):
        spec.given("data")
