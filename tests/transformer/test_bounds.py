"""Fields with bounds: their bend is exact, no draw lies beyond, and draws have the right distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import constraints

from sbikit import (
    Field,
    Normal,
    Prior,
    QuietMonitor,
    Simulator,
    UnsupportedError,
    Vector,
    Workspace,
    draw_seeds,
    normals,
    round_into,
)
from sbikit.simulations import Simulations
from sbikit_transformer.bounds import fit_bend, harden, soften
from sbikit_transformer.estimator import DiffusionTransformer
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.sampler import TransformerSampler

LAWS = {
    "beta": (constraints.unit_interval, scipy.stats.beta(2, 5)),
    "edges": (constraints.unit_interval, scipy.stats.beta(0.5, 0.5)),
    "interval": (constraints.interval(-3.0, 2.0), scipy.stats.beta(3, 1.5, loc=-3, scale=5)),
    "half open": (constraints.half_open_interval(0.0, 1.0), scipy.stats.beta(1, 20)),
    "below": (constraints.less_than(1.0), scipy.stats.truncnorm(-math.inf, 0.0, loc=1.0)),
    "above": (constraints.greater_than(0.1), scipy.stats.expon(loc=0.1)),
    "positive": (constraints.positive, scipy.stats.gamma(1.5)),
    "nonnegative": (constraints.independent(constraints.nonnegative, 1), scipy.stats.expon()),
    "narrow": (constraints.unit_interval, scipy.stats.beta(200, 300)),
}


class Pixels(Simulator):
    """Independent pixels of one law, seen through noise of .3 standard deviations."""

    prior = Prior({"a": Normal(0.0, 1.0)})
    observed = ("d",)

    def __init__(self, law: str) -> None:
        self.support, self.law = LAWS[law]
        self.noise = 0.3 * float(self.law.std())
        self.outputs = (Field("f", (4, 4), support=self.support), Field("d", (4, 4)))

    def simulate(self, parameters, *, seeds):
        z = normals(seeds, (2, 1, 4, 4)).double()
        f = round_into("f", self.support, torch.from_numpy(self.law.ppf(scipy.stats.norm.cdf(z[:, 0]))))
        return {"f": f, "d": (f + self.noise * z[:, 1]).float()}


def _fit(simulator: Simulator, **options) -> tuple[TransformerSampler, Simulations]:
    small = {"width": 16, "depth": 1, "heads": 2, "guide_nodes": 16, "evaluations": 12, "steps": 2}
    simulations = Simulations(simulator, 0)
    made = TransformerOptions(**(small | {"guide_simulations": 512, "batch": 32} | options))
    fitted = DiffusionTransformer(made).fit(
        simulations, seed=0, workspace=Workspace(), monitor=QuietMonitor()
    )
    return fitted, simulations


@pytest.mark.parametrize("law", LAWS)
def test_no_draw_lies_outside_of_the_support(law: str) -> None:
    simulator = Pixels(law)
    sampler, simulations = _fit(simulator)
    data = simulations.held_out(0, 8)
    far = {"d": torch.cat([data["d"], data["d"] * 3.0, data["d"] - 2.0, data["d"] + 2.0])}
    drawn = sampler.sample(far, 64, seeds=draw_seeds(0, "t", 0, 32)).values["f"]
    assert bool(simulator.support.check(drawn.double()).all())
    assert float(drawn.std()) > 0.1 * float(simulator.law.std())


def test_draws_of_a_field_between_two_bounds_have_its_distribution() -> None:
    simulator = Pixels("beta")
    options = {"steps": 150, "depth": 2, "patch": 1, "batch": 64, "rate": 3e-3, "guide_simulations": 1024}
    sampler, simulations = _fit(simulator, evaluations=None, **options)
    data = simulations.held_out(0, 64)
    drawn = sampler.sample({"d": data["d"]}, 64, seeds=draw_seeds(0, "t", 0, 64)).values["f"].numpy()
    # over observations, draws are distributed as the prior: 1024 numbers reach .043 once in twenty times
    assert scipy.stats.kstest(drawn[0].ravel(), simulator.law.cdf).statistic < 0.043
    mean, sd = _exact(simulator, data["d"].numpy().ravel())
    off = (drawn.mean(0).ravel() - mean) / sd
    assert math.sqrt((off**2).mean()) < 0.2  # 0.125 of it is the Monte-Carlo error of 64 draws
    assert (drawn.std(0).ravel() / sd).mean() == pytest.approx(1.0, abs=0.05)


def _exact(simulator: Pixels, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and sd of a pixel by quadrature over the law's quantiles."""
    x = simulator.law.ppf((np.arange(4000) + 0.5) / 4000)
    weight = np.exp(-0.5 * ((data[:, None] - x) / simulator.noise) ** 2)
    weight /= weight.sum(1, keepdims=True)
    mean = weight @ x
    return mean, np.sqrt(weight @ x**2 - mean**2)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-3.0, 2.0), (0.0, math.inf)])
@pytest.mark.parametrize("c", [0.05, 0.5, 4.0, 32.0])
def test_a_bend_is_inverted_and_rises(bounds, c) -> None:
    low, high = bounds
    x = low + torch.linspace(1e-4, 1 - 1e-4, 1001) * min(high - low, 20.0)
    at = torch.tensor(low), torch.tensor(c), torch.tensor(high)
    t = soften(x, *at)
    assert bool((t.diff() > 0).all())
    torch.testing.assert_close(harden(t, *at), x, rtol=2e-6, atol=2e-6)
    far = harden(torch.linspace(-1000.0, 1000.0, 2001), *at)
    assert float(far.min()) >= low
    assert float(far.max()) <= high


def test_a_wide_bend_is_the_logit() -> None:
    x = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    c = torch.tensor(1e4, dtype=torch.float64)
    t = soften(x, torch.zeros((), dtype=torch.float64), c, torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(t / c, torch.logit(x), rtol=0, atol=1e-3)


def test_the_bend_makes_a_logit_normal_field_normal() -> None:
    z = torch.randn(64, 400, generator=torch.Generator().manual_seed(0))
    for scale in (0.5, 2.0):
        x = torch.sigmoid(scale * z - 1.0)
        bend = fit_bend(x, 0.0, 1.0)
        assert bend is not None
        t = soften(x, torch.tensor(bend.low), torch.tensor(bend.c), torch.tensor(bend.high)).flatten()
        assert float(np.corrcoef(t, z.flatten())[0, 1]) > 0.999


def test_an_upper_bound_is_a_lower_one_mirrored() -> None:
    x = torch.from_numpy(scipy.stats.gamma(1.5).rvs((50, 100), random_state=0)).float()
    plain, mirrored = fit_bend(x, 0.0, math.inf), fit_bend(2.0 - x, -math.inf, 2.0)
    assert plain is not None
    assert mirrored is not None
    assert (plain.sign, mirrored.sign) == (1.0, -1.0)
    assert mirrored.low == -2.0
    assert mirrored.c == pytest.approx(plain.c, rel=1e-5)


class Floored(Simulator):
    """A field above a floor that the parameter moves far more than the field varies, and below 200."""

    prior = Prior({"a": Normal(0.0, 30.0)})
    observed = ("d",)
    outputs = (Field("f", (4, 4), support=constraints.less_than(200.0)), Field("d", (4, 4)))

    def simulate(self, parameters, *, seeds):
        z = normals(seeds, (2, 1, 4, 4))
        f = parameters["theta"][:, :1, None, None] + (0.5 * z[:, 0]).exp()
        return {"f": f, "d": f + 0.1 * z[:, 1]}

    def floor(self, parameters):
        return {"f": parameters["theta"]}


def test_a_floor_above_the_mean_of_all_fields_keeps_the_field() -> None:
    sampler, simulations = _fit(Floored())
    field_map, coordinates = sampler.denoiser.field_map, sampler.denoiser.coordinates
    values = simulations.held_out(0, 256)
    u = coordinates.encode(values)
    again = field_map.decode(field_map.encode(values, u), values, u)["f"]
    torch.testing.assert_close(again, values["f"], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "support",
    [
        constraints.boolean,
        constraints.integer_interval(0, 3),
        constraints.positive_integer,
        constraints.simplex,
    ],
)
def test_a_field_in_no_interval_is_refused_before_any_work(support) -> None:
    simulator = Pixels("beta")
    simulator.outputs = (Field("f", (4, 4), support=support), Field("d", (4, 4)))
    with pytest.raises(UnsupportedError, match="'f' is no interval"):
        DiffusionTransformer().match(simulator.spec)


class Bounded(Simulator):
    """A latent vector beside the parameters."""

    prior = Prior({"a": Normal(0.0, 1.0)})
    observed = ("x",)

    def __init__(self, support: constraints.Constraint, least: float, most: float) -> None:
        self.reach = least, most
        self.outputs = (Vector("v", ("p", "q"), support=support), Vector("x", ("x",)))

    def simulate(self, parameters, *, seeds):
        v = normals(seeds, (2,)).clamp(-2.0, 2.0)
        least, most = self.reach
        return {"v": least + (most - least) * (v + 2.0) / 4.0, "x": parameters["theta"]}


@pytest.mark.parametrize(
    ("support", "least", "most"),
    [
        (constraints.unit_interval, 0.1, 0.9),
        (constraints.interval(0.1, 0.3), 0.11, 0.29),
        (constraints.positive, 0.1, 3.0),
        (constraints.less_than(1.0), -2.0, 0.9),
    ],
)
def test_no_draw_of_a_vector_lies_outside_of_its_support(support, least, most) -> None:
    sampler, _ = _fit(Bounded(support, least, most))
    coordinates = sampler.denoiser.coordinates
    far = torch.linspace(-200.0, 200.0, 81)[:, None].expand(-1, coordinates.size)
    assert bool(support.check(coordinates.decode(far)["v"].double()).all())
