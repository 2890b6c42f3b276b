"""The exact posterior of Gaussian maps: against dense algebra, an integral on a grid, and its own truths."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from recorder import Recorder
from scipy import stats
from torch import Tensor

from sbikit import SimulationError, Simulator, UnsupportedError, load
from sbikit.problem.seeds import draw_seeds, generator
from sbikit.testing import GaussianVector, check_sampler
from sbikit_lognormal.lensing import KaiserSquires
from sbikit_lognormal.posterior.gaussian import GaussianMaps
from sbikit_lognormal.rejection import Drawn, Mixture, Weighted, draw
from sbikit_lognormal.simulator import LogNormal, LogNormalOptions
from sbikit_lognormal.wiener import Diagnostics, Wiener, WienerOptions

SMALL: dict[str, Any] = {"field": "gaussian", "size": 8, "extent": 5.0, "n_gal": 60.0}
QUICK = WienerOptions(prior_points=2048, points=512, kernels=128)
LEAST = 1e-3
"""The probability, of all ranks together, below which they are called uneven."""

PROBLEMS: dict[str, dict[str, Any]] = {
    "shear": {},
    "convergence": {"observes": "convergence"},
    "two bins": {"sources": {"bins": 2}, "n_gal": [20.0, 50.0]},
    "two bins of convergence": {"sources": {"bins": 2}, "observes": "convergence"},
    "free shear bias": {"sources": {"bins": 2}, "shear_bias": [{"normal": [0.0, 0.3]}, 0.1]},
}


def made(**options: Any) -> LogNormal:
    """A simulator of options as a configuration file has them."""
    return _made(json.dumps({**SMALL, **options}))


@cache
def _made(options: str) -> LogNormal:
    return LogNormal(LogNormalOptions.model_validate_json(options))


def simulated(simulator: Simulator, count: int, stream: str = "simulator") -> dict[str, Tensor]:
    """Parameters and outputs of some draws."""
    theta = simulator.prior.sample(draw_seeds(5, "parameters of " + stream, 0, count))
    outputs = simulator.simulate(theta, seeds=draw_seeds(5, stream, 0, count))
    return {**theta, **{name: torch.as_tensor(value) for name, value in outputs.items()}}


def observed(simulator: Simulator, values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: values[name] for name in simulator.observed}


class Dense:
    """The joint normal distribution of map and data in pixels.

    Attributes:
        prior: covariance of the maps, (bins N N, bins N N).
        seen: noiseless data of maps, (data, bins N N), made by pushing unit vectors through.
        covariance: of the data.
    """

    def __init__(self, simulator: LogNormal, theta: Tensor) -> None:
        bins, size = simulator.bins, simulator.size
        maps = torch.eye(bins * size**2, dtype=torch.float64).unflatten(1, (bins, size, size))
        seen = maps.unsqueeze(2)
        if simulator.observed == ("shear",):
            seen = KaiserSquires(size, torch.float64).shear(maps)
        bias = simulator.parameters.shear_bias(theta)
        if bias is not None:
            seen = seen * (1.0 + bias)[:, None, None, None]
        noise = simulator.survey.noise[:, None].expand(seen.shape[1:]).square()
        self.prior, self.seen = self._pixels(simulator, theta), seen.flatten(1).T
        self.covariance = self.seen @ self.prior @ self.seen.T + torch.diag(noise.flatten())

    @staticmethod
    def _pixels(simulator: LogNormal, theta: Tensor) -> Tensor:
        """The correlation functions at the lags between all pairs of pixels."""
        bins, size = simulator.bins, simulator.size
        wave = (torch.fft.fftfreq(size) * size).abs().long()
        xi = torch.fft.ifft2(simulator.mode_power(theta)[:, wave][:, :, wave]).real
        pair = torch.zeros(bins, bins, dtype=torch.int64)
        first, second = torch.tril_indices(bins, bins)
        pair[first, second] = pair[second, first] = torch.arange(len(first))
        lag = (torch.arange(size)[:, None] - torch.arange(size)) % size
        blocks = xi[pair][:, :, lag[:, None, :, None], lag[None, :, None, :]]
        return blocks.permute(0, 2, 3, 1, 4, 5).reshape(bins * size**2, bins * size**2)

    def log_likelihood(self, data: Tensor) -> float:
        """log p(d | theta)."""
        zero = torch.zeros_like(data)
        return float(torch.distributions.MultivariateNormal(zero, self.covariance).log_prob(data))

    def posterior(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the map, (bins N N,) and its square."""
        pull = torch.linalg.solve(self.covariance, self.seen @ self.prior).T
        return pull @ data, self.prior - pull @ self.seen @ self.prior


@pytest.mark.parametrize("name", PROBLEMS)
def test_likelihood_is_that_of_the_pixels(name: str) -> None:
    simulator = made(**PROBLEMS[name])
    values = simulated(simulator, 6)
    data = observed(simulator, values)
    theta = values["theta"].double()
    ours = Wiener(simulator).log_likelihood(theta, data)
    flat = data[simulator.observed[0]].double().flatten(1)
    pixels = [Dense(simulator, one) for one in theta]
    theirs = torch.tensor([[dense.log_likelihood(d) for dense in pixels] for d in flat], dtype=torch.float64)
    # The B modes and constants are the same at all parameters.
    ours, theirs = ours - ours[:, :1], theirs - theirs[:, :1]
    assert float(theirs.abs().max()) > 1.0
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", PROBLEMS)
def test_maps_are_drawn_from_the_wiener_posterior(name: str) -> None:
    simulator = made(**PROBLEMS[name])
    values = simulated(simulator, 1)
    data, theta = observed(simulator, values), values["theta"][0].double()
    (seen,) = data.values()
    mean, covariance = Dense(simulator, theta).posterior(seen[0].double().flatten())
    noise = simulator.survey.noise[:, 0, 0]

    def gain(at: Tensor) -> Tensor:
        bias = simulator.parameters.shear_bias(at)
        return (torch.ones(len(at), 1) if bias is None else 1.0 + bias) / noise

    lensing = simulator.observed == ("shear",)
    maps = GaussianMaps(8, simulator.bins, simulator.mode_power, gain, mean_is_seen=not lensing)
    seen = seen[0].double()
    if lensing:
        seen = KaiserSquires(8, torch.float64).convergence(seen.unflatten(0, (-1, 2)))
    n = 8000
    drawn = maps.draw(theta.expand(n, -1), seen / noise[:, None, None], generator(3)).flatten(1)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (drawn - mean).T, upper=False)
    p = len(white)
    assert 1e-3 < stats.chi2(p).cdf(float(white.mean(1).square().sum() * n)) < 1 - 1e-3
    # In the mean over all pairs the squared correlation is 1 / n, that of a square with itself 2 / n.
    apart = white @ white.T / n - torch.eye(p)
    scatter = float(apart.tril(-1).square().sum() + 0.5 * apart.diagonal().square().sum()) * n
    freedom = p * (p + 1) / 2
    assert abs(scatter / freedom - 1.0) < 5 * math.sqrt(2 / freedom)
    assert abs(float(apart.diagonal().mean())) < 4 * math.sqrt(2 / (n * p))


@pytest.mark.parametrize("name", ["shear", "two bins of convergence"])
def test_parameters_follow_the_integral_on_a_grid(name: str) -> None:
    simulator = made(**PROBLEMS[name], w0=(-1.8, -0.5))
    data = observed(simulator, simulated(simulator, 2))
    sampler = Wiener(simulator)
    n = 4000
    drawn = simulator.prior.to_white(sampler.sample(data, n, seed=2)["theta"].double())
    edges = torch.linspace(-5.0, 5.0, 41, dtype=torch.float64)
    centres = 0.5 * (edges[1:] + edges[:-1])
    grid = torch.cartesian_prod(centres, centres, centres)
    log_p = sampler.log_likelihood(simulator.prior.from_white(grid), data) - 0.5 * grid.square().sum(1)
    for b, weights in enumerate(torch.softmax(log_p, 1)):
        mean = weights @ grid
        variance = weights @ (grid - mean).square()
        kurtosis = weights @ (grid - mean) ** 4 / variance**2
        offset = (drawn[:, b].mean(0) - mean) / variance.sqrt() * math.sqrt(n)
        assert float(offset.abs().max()) < 3.5
        spread = (drawn[:, b].var(0) / variance - 1.0) / ((kurtosis - 1.0) / n).sqrt()
        assert float(spread.abs().max()) < 3.5
        assert float((weights @ grid).abs().max()) > 0.1
        for axis in range(3):
            mass = weights.reshape(40, 40, 40).sum([other for other in range(3) if other != axis])
            heights = np.concatenate([[0.0], np.cumsum(mass.numpy())])
            law = Interpolated(edges.numpy(), heights)
            assert stats.kstest(drawn[:, b, axis].numpy(), law).pvalue > 1e-3
    assert all(found.trustworthy for found in sampler.diagnostics)


class Interpolated:
    """A distribution function known at some points."""

    def __init__(self, x: np.ndarray, heights: np.ndarray) -> None:
        self._x, self._heights = x, heights

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.interp(x, self._x, self._heights)


def uniformity(simulator: LogNormal, sampler: Wiener, count: int, n: int) -> dict[str, float]:
    """The probability of ranks at least as uneven as those of truths among n draws, n + 1 in eights.

    Args:
        simulator: where truths come from.
        sampler: what is tested.
        count: truths.
        n: draws for each, independent and so as good as truths.
    """
    truth = simulated(simulator, count, "truths")
    drawn = sampler.sample(observed(simulator, truth), n, seed=11)
    summaries: dict[str, Callable[[dict[str, Tensor]], Tensor]] = {
        **{label: lambda v, i=i: v["theta"][..., i] for i, label in enumerate(simulator.prior.laws)},
        "log variance": lambda v: v["kappa"].var((-2, -1)).log().mean(-1),
        "mean": lambda v: v["kappa"].mean((-3, -2, -1)),
        "pixel": lambda v: v["kappa"][..., 0, 3, 4],
        "S8 times log variance": lambda v: v["theta"][..., 1] * v["kappa"].var((-2, -1)).log().mean(-1),
    }
    out = {}
    for name, summary in summaries.items():
        ranks = (summary(drawn) < summary(truth)).sum(0)
        counts = torch.bincount(ranks // ((n + 1) // 8), minlength=8)
        out[name] = float(stats.chisquare(counts.numpy()).pvalue)
    return out


@pytest.mark.parametrize(
    "name", ["shear", *(pytest.param(name, marks=pytest.mark.slow) for name in list(PROBLEMS)[1:])]
)
def test_truths_rank_evenly_among_draws(name: str) -> None:
    simulator = made(**PROBLEMS[name])
    found = uniformity(simulator, Wiener(simulator, QUICK), 200, 63)
    assert min(found.values()) > LEAST / len(found)


def test_noise_taken_too_small_rings_the_alarm() -> None:
    """Noise is 1.3 times as large as the sampler believes."""
    believed = made(n_gal=60.0 * 1.3**2)
    found = uniformity(made(), Wiener(believed, QUICK), 200, 63)
    assert min(found.values()) < 0.1 * LEAST / len(found)


def test_sampler_keeps_its_promises() -> None:
    for name in ("shear", "two bins of convergence"):
        simulator = made(**PROBLEMS[name])
        check_sampler(Wiener(simulator, QUICK), observed(simulator, simulated(simulator, 3)))


def test_draws_are_the_same_alone_and_in_any_batch() -> None:
    simulator = made(size=16)
    data = observed(simulator, simulated(simulator, 5))
    sampler = Wiener(simulator, QUICK)
    together = sampler.sample(data, 50, seed=4)
    for count in (1, 2, 4):
        fewer = sampler.sample({name: value[:count] for name, value in data.items()}, 50, seed=4)
        for name, value in together.items():
            assert torch.equal(fewer[name], value[:, :count])
    assert len(sampler.diagnostics) == 4


def test_no_draw_comes_twice() -> None:
    simulator = made()
    drawn = Wiener(simulator).sample(observed(simulator, simulated(simulator, 1)), 3000, seed=1)
    assert len(torch.unique(drawn["theta"], dim=0)) > 2990  # float32 may merge a few
    first, second = drawn["kappa"][:1500, 0], drawn["kappa"][1500:, 0]
    product = (first - first.mean(0)) * (second - second.mean(0)) / (first.std(0) * second.std(0))
    per_draw = product.mean((-3, -2, -1))
    assert abs(float(per_draw.mean())) < 4 * float(per_draw.std()) / math.sqrt(len(per_draw))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"field": "lognormal"}, "field: lognormal"),
        ({"padding": 2}, "padding: 2"),
        ({"mask": {"density": 2.0, "radius": 8.0}}, "a mask"),
        ({"depth": {"scatter": 0.2}, "padding": 2}, "padding: 2, a varying depth"),
    ],
)
def test_other_simulators_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        Wiener(made(**options))
    assert caught.value.got == named
    assert "field: gaussian" in caught.value.expected
    assert "--reference hmc" in caught.value.fix


def test_another_problem_is_refused() -> None:
    with pytest.raises(UnsupportedError) as caught:
        Wiener(GaussianVector())
    assert caught.value.got == "GaussianVector"


def test_it_is_found_by_name() -> None:
    sampler = load("sampler", "wiener", simulator=made(), points=1024)
    assert isinstance(sampler, Wiener)
    assert sampler.options.points == 1024


# --- diagnostics ----------------------------------------------------------------------------


def test_trust_needs_a_small_excess_that_is_known() -> None:
    good = Diagnostics(excess=0.004, ess=500.0, largest=0.005, evaluations=1, seconds=1.0)
    assert good.trustworthy
    for excess, ess, largest in ((0.006, 500.0, 0.005), (0.0, 399.0, 0.005), (0.0, 500.0, 0.02)):
        assert not Diagnostics(excess, ess, largest, 1, 1.0).trustworthy


def test_what_cannot_be_trusted_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator, monitor = made(), Recorder()
    data = observed(simulator, simulated(simulator, 2))
    Wiener(simulator, QUICK, monitor=monitor).sample(data, 5, seed=0)
    assert monitor.lines == []
    monkeypatch.setattr("sbikit_lognormal.wiener.MOST_EXCESS", -1.0)
    Wiener(simulator, QUICK, monitor=monitor).sample(data, 5, seed=0)
    assert [line.split(":")[1] for line in monitor.lines] == [
        f" do not trust the draws for observation {b}" for b in (0, 1)
    ]


# --- rejection, with posteriors that are known ----------------------------------------------


def scouts(log_likelihood: Callable[[Tensor], Tensor], dimension: int, count: int = 4096) -> Weighted:
    z = torch.randn(count, dimension, generator=generator(8), dtype=torch.float64)
    return Weighted(z, log_likelihood(z))


def rejected(log_likelihood: Callable[[Tensor], Tensor], dimension: int, n: int) -> Drawn:
    start = scouts(log_likelihood, dimension)
    return draw(log_likelihood, start, n, kernels=512, points=4096, source=generator(9))


def test_proposal_has_the_density_that_it_says() -> None:
    start = scouts(lambda z: -2.0 * (z[:, 0] - z[:, 1] ** 2).square(), 2)
    mixture = Mixture(start, 64, generator(1))
    edges = torch.linspace(-12.0, 12.0, 481, dtype=torch.float64)
    centres = 0.5 * (edges[1:] + edges[:-1])
    density = mixture.log_density(torch.cartesian_prod(centres, centres)).exp().reshape(480, 480) * 0.05**2
    assert float(density.sum()) == pytest.approx(1.0, abs=2e-3)
    n = 20_000
    z = mixture.sample(n, generator(2)).clamp(-11.9, 11.9)
    counts = np.histogramdd(z.numpy(), bins=[edges.numpy()[::20]] * 2)[0]
    expected = density.reshape(24, 20, 24, 20).sum((1, 3)).numpy() * n
    kept = expected > 10
    score = float(((counts - expected) ** 2 / expected)[kept].sum())
    assert 1e-3 < stats.chi2(kept.sum()).cdf(score) < 1 - 1e-3


@pytest.mark.parametrize(("dimension", "sd"), [(1, 0.01), (3, 0.02), (6, 0.2), (9, 0.5)])
def test_a_narrow_normal_posterior_is_found(dimension: int, sd: float) -> None:
    """From points of the prior almost none of which lies in it: they carry 1e-6 of its volume."""
    centre = torch.linspace(-1.0, 1.5, dimension, dtype=torch.float64)
    found = rejected(lambda z: -0.5 * ((z - centre) / sd).square().sum(1), dimension, 2000)
    variance = sd**2 / (1.0 + sd**2)
    white = (found.z - centre / (1.0 + sd**2)) / math.sqrt(variance)
    assert 1e-3 < stats.chi2(dimension).cdf(float(white.mean(0).square().sum() * len(white))) < 1 - 1e-3
    assert stats.kstest(white.square().sum(1).numpy(), stats.chi2(dimension).cdf).pvalue > 1e-3
    assert found.excess < 0.005
    assert found.ess > 2000


def test_two_modes_get_their_shares() -> None:
    def log_likelihood(z: Tensor) -> Tensor:
        low, high = (-0.5 * ((z - place) / 0.1).square().sum(1) for place in (-1.0, 1.0))
        return torch.logaddexp(low, high + math.log(3.0))

    found = rejected(log_likelihood, 2, 4000)
    share = float((found.z[:, 0] > 0).double().mean())
    assert abs(share - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 4000)


def test_a_posterior_that_the_proposal_cannot_follow_is_not_trusted() -> None:
    """A funnel: the scale of nine coordinates grows a hundredfold along the first."""

    def log_likelihood(z: Tensor) -> Tensor:
        scale = torch.exp(-2.5 + 1.5 * z[:, :1])
        return (-0.5 * (z[:, 1:] / scale).square() - scale.log() + 0.5 * z[:, 1:].square()).sum(1)

    found = rejected(log_likelihood, 10, 500)
    assert not Diagnostics(found.excess, found.ess, found.largest, found.evaluations, 0.0).trustworthy


def test_where_the_likelihood_is_not_a_number_there_is_no_posterior() -> None:
    found = rejected(lambda z: torch.where(z[:, 0] > 0, -z[:, 0], math.nan), 2, 500)
    assert float(found.z[:, 0].min()) > 0
    with pytest.raises(SimulationError):
        rejected(lambda z: torch.full((len(z),), math.nan, dtype=torch.float64), 2, 10)


def test_power_that_is_not_positive_is_refused() -> None:
    maps = GaussianMaps(
        8,
        1,
        lambda theta: -torch.ones(len(theta), 1, 5, 5, dtype=torch.float64),
        lambda theta: torch.full((len(theta), 1), 0.1, dtype=torch.float64),
        mean_is_seen=True,
    )
    data = torch.zeros(1, 8, 8, dtype=torch.float64)
    with pytest.raises(SimulationError):
        maps.draw(torch.zeros(2, 1, dtype=torch.float64), data, generator(0))
