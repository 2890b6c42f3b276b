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
from exact_helpers import Recorder, drawn, readings
from lognormal_cases import NO_MARGINAL
from scipy import stats
from torch import Tensor

from sbikit import (
    Monitor,
    QuietMonitor,
    SimulationError,
    Simulator,
    UnsupportedError,
    draw_seeds,
    generator,
    load,
)
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector, check_sampler
from sbikit_exact.wiener import Wiener, WienerOptions, WienerSampler
from sbikit_lognormal.options import LogNormalOptions
from sbikit_lognormal.posterior.gaussian import GaussianMaps
from sbikit_lognormal.simulator import LogNormal
from sbikit_lognormal.survey.lensing import KaiserSquires

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


def wiener(
    simulator: Simulator, options: WienerOptions | None = None, monitor: Monitor | None = None
) -> WienerSampler:
    return Wiener(options).posterior(simulator, monitor=monitor or QuietMonitor())


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
    ours = simulator.marginal_density(data).log_likelihood(theta)
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
    n = 4000
    found = drawn(wiener(simulator), data, n, seed=2)
    white = simulator.prior.to_white(found.values["theta"].double())
    edges = torch.linspace(-5.0, 5.0, 41, dtype=torch.float64)
    centres = 0.5 * (edges[1:] + edges[:-1])
    grid = torch.cartesian_prod(centres, centres, centres)
    likelihood = simulator.marginal_density(data).log_likelihood(simulator.prior.from_white(grid))
    log_p = likelihood - 0.5 * grid.square().sum(1)
    for b, weights in enumerate(torch.softmax(log_p, 1)):
        mean = weights @ grid
        variance = weights @ (grid - mean).square()
        kurtosis = weights @ (grid - mean) ** 4 / variance**2
        offset = (white[:, b].mean(0) - mean) / variance.sqrt() * math.sqrt(n)
        assert float(offset.abs().max()) < 3.5
        spread = (white[:, b].var(0) / variance - 1.0) / ((kurtosis - 1.0) / n).sqrt()
        assert float(spread.abs().max()) < 3.5
        assert float((weights @ grid).abs().max()) > 0.1
        for axis in range(3):
            mass = weights.reshape(40, 40, 40).sum([other for other in range(3) if other != axis])
            heights = np.concatenate([[0.0], np.cumsum(mass.numpy())])
            law = Interpolated(edges.numpy(), heights)
            assert stats.kstest(white[:, b, axis].numpy(), law).pvalue > 1e-3
    assert all(trust.trustworthy for trust in found.trust)


class Interpolated:
    """A distribution function known at some points."""

    def __init__(self, x: np.ndarray, heights: np.ndarray) -> None:
        self._x, self._heights = x, heights

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.interp(x, self._x, self._heights)


def uniformity(simulator: LogNormal, sampler: WienerSampler, count: int, n: int) -> dict[str, float]:
    """The probability of ranks at least as uneven as those of truths among n draws, n + 1 in eights.

    Args:
        simulator: where truths come from.
        sampler: what is tested.
        count: truths.
        n: draws for each, independent and so as good as truths.
    """
    truth = simulated(simulator, count, "truths")
    draws = dict(drawn(sampler, observed(simulator, truth), n, seed=11).values)
    summaries: dict[str, Callable[[dict[str, Tensor]], Tensor]] = {
        **{label: lambda v, i=i: v["theta"][..., i] for i, label in enumerate(simulator.prior.laws)},
        "log variance": lambda v: v["kappa"].var((-2, -1)).log().mean(-1),
        "mean": lambda v: v["kappa"].mean((-3, -2, -1)),
        "pixel": lambda v: v["kappa"][..., 0, 3, 4],
        "S8 times log variance": lambda v: v["theta"][..., 1] * v["kappa"].var((-2, -1)).log().mean(-1),
    }
    out = {}
    for name, summary in summaries.items():
        ranks = (summary(draws) < summary(truth)).sum(0)
        counts = torch.bincount(ranks // ((n + 1) // 8), minlength=8)
        out[name] = float(stats.chisquare(counts.numpy()).pvalue)
    return out


@pytest.mark.parametrize(
    "name", ["shear", *(pytest.param(name, marks=pytest.mark.slow) for name in list(PROBLEMS)[1:])]
)
def test_truths_rank_evenly_among_draws(name: str) -> None:
    simulator = made(**PROBLEMS[name])
    found = uniformity(simulator, wiener(simulator, QUICK), 200, 63)
    assert min(found.values()) > LEAST / len(found)


def test_any_simulator_with_a_marginal_density_will_do() -> None:
    """The toy field, whose own sampler has theta from a grid."""
    simulator = GaussianField(GaussianFieldOptions(size=8))
    data = observed(simulator, simulated(simulator, 3))
    found, expected = (drawn(s, data, 2000, seed=3) for s in (wiener(simulator), simulator.exact_sampler()))
    assert all(trust.trustworthy for trust in found.trust)
    for b in range(3):
        ours, theirs = (
            torch.stack([*one.values["theta"][:, b].T, one.values["field"][:, b].flatten(1).std(1).log()])
            for one in (found, expected)
        )
        for x, y in zip(ours, theirs, strict=True):
            assert stats.kstest(x.numpy(), y.numpy()).pvalue > 1e-3
        assert float((ours.corrcoef() - theirs.corrcoef()).abs().max()) < 4.5 * math.sqrt(2 / 2000)


def test_noise_taken_too_small_rings_the_alarm() -> None:
    """Noise is 1.3 times as large as the sampler believes."""
    believed = made(n_gal=60.0 * 1.3**2)
    found = uniformity(made(), wiener(believed, QUICK), 200, 63)
    assert min(found.values()) < 0.1 * LEAST / len(found)


def test_sampler_keeps_its_promises() -> None:
    for name in ("shear", "two bins of convergence"):
        simulator = made(**PROBLEMS[name])
        check_sampler(wiener(simulator, QUICK), observed(simulator, simulated(simulator, 3)))


def test_draws_are_the_same_alone_and_in_any_batch() -> None:
    simulator = made(size=16)
    data = observed(simulator, simulated(simulator, 5))
    sampler, seeds = wiener(simulator, QUICK), draw_seeds(4, "test", 0, 5)
    together = sampler.sample(data, 50, seeds=seeds)
    for rows in ([2], [0, 1], [4, 3, 2, 1]):
        fewer = sampler.sample({name: value[rows] for name, value in data.items()}, 50, seeds=seeds[rows])
        for name, value in together.values.items():
            assert torch.equal(fewer.values[name], value[:, rows])
        assert list(map(readings, fewer.trust)) == [readings(together.trust[row]) for row in rows]


def test_no_draw_comes_twice() -> None:
    simulator = made()
    draws = drawn(wiener(simulator), observed(simulator, simulated(simulator, 1)), 3000, seed=1).values
    assert len(torch.unique(draws["theta"], dim=0)) > 2990  # float32 may merge a few
    first, second = draws["kappa"][:1500, 0], draws["kappa"][1500:, 0]
    product = (first - first.mean(0)) * (second - second.mean(0)) / (first.std(0) * second.std(0))
    per_draw = product.mean((-3, -2, -1))
    assert abs(float(per_draw.mean())) < 4 * float(per_draw.std()) / math.sqrt(len(per_draw))


@pytest.mark.parametrize(("options", "named"), NO_MARGINAL)
def test_other_simulators_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        wiener(made(**options))
    assert caught.value.got == named
    assert "field: gaussian" in caught.value.expected
    assert "--reference hmc" in caught.value.fix


def test_another_problem_is_refused() -> None:
    with pytest.raises(UnsupportedError) as caught:
        wiener(GaussianVector())
    assert caught.value.got == "GaussianVector"
    assert "--reference hmc" in caught.value.fix


def test_it_is_found_by_name() -> None:
    sampler = load("sampler", "wiener", points=1024)
    assert isinstance(sampler, Wiener)
    assert sampler.options.points == 1024


# --- trust ----------------------------------------------------------------------------------


def test_what_cannot_be_trusted_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator, monitor = made(), Recorder()
    data = observed(simulator, simulated(simulator, 2))
    drawn(wiener(simulator, QUICK, monitor), data, 5, seed=0)
    assert monitor.lines == []
    assert monitor.done == monitor.total == 2
    monkeypatch.setattr("sbikit_exact.wiener.diagnostics.MOST_EXCESS", -1.0)
    drawn(wiener(simulator, QUICK, monitor), data, 5, seed=0)
    assert len(monitor.lines) == 1
    assert "do not trust the draws for 2 of 2 observations" in monitor.lines[0]
    assert "above the bound on the weights (wanted at most -1)" in monitor.lines[0]
    assert "More points or kernels" in monitor.lines[0]


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
