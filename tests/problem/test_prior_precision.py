"""Priors in float32: what is not resolved is refused, and what is stays inside of its support."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sbikit import Law, LogNormal, Normal, Prior, SpecError, TruncatedNormal, Uniform, draw_seeds
from sbikit.problem.precision import gap


class Shifted(Law):
    """An exponential law that starts far from zero."""

    high = math.inf

    def __init__(self, low: float) -> None:
        self.low = low

    def from_white(self, z: torch.Tensor) -> torch.Tensor:
        return self.low - torch.special.log_ndtr(-z)

    def to_white(self, x: torch.Tensor) -> torch.Tensor:
        return -torch.special.ndtri(torch.exp(self.low - x))

    def log_density(self, x: torch.Tensor) -> torch.Tensor:
        return self.low - x


def test_gaps_are_those_of_float32() -> None:
    sizes = np.float32([1.0, 1.5, 2.0, -5e9, 2460000.5, 3e38, 1e-20])
    found = gap(torch.from_numpy(sizes)).numpy()
    np.testing.assert_array_equal(found, np.spacing(np.abs(sizes)).astype(np.float64))
    assert gap(torch.tensor([0.0, 1e-42])).tolist() == [float(np.finfo(np.float32).tiny)] * 2


UNRESOLVED = [
    Uniform(5e9 - 100, 5e9 + 100),
    Uniform(-5e9 - 100, -5e9 + 100),
    Normal(2460000.5, 1.0),
    TruncatedNormal(2460000.5, 1.0, 2460000.0, 2460001.0),
    TruncatedNormal(0.0, 1.0, 8.0, 8.0001),
    LogNormal(1e9, 1e-6),
    Shifted(1e6),
    Normal(0.0, 1e-42),
    Normal(0.0, 1e-37),
]


@pytest.mark.parametrize("law", UNRESOLVED, ids=lambda law: type(law).__name__)
def test_a_law_whose_draws_lose_their_digits_is_refused_with_the_figure(law: Law) -> None:
    with pytest.raises(SpecError) as caught:
        Prior({"a": law})
    error = caught.value
    first, third = law.from_white(torch.tensor([-0.67448975, 0.67448975], dtype=torch.float64)).numpy()
    gaps = (third - first) / max(np.spacing(np.float32(max(abs(first), abs(third)))), 2.0**-126)
    assert gaps < 1024
    assert f"{gaps:.3g} gaps" in error.got
    assert "'a'" in error.where
    assert ("offset" if abs(first) > third - first else "another unit") in error.fix


@pytest.mark.parametrize(
    "law", [Normal(0.0, 1e38), Uniform(-3e38, 3.5e38), LogNormal(1.0, 20.0), LogNormal(1e38, 1.0)]
)
def test_a_law_that_reaches_beyond_float32_is_refused(law: Law) -> None:
    with pytest.raises(SpecError, match="beyond what float32 holds"):
        Prior({"a": law})


@pytest.mark.parametrize(
    "law",
    [
        Normal(2000.0, 1.0),
        Normal(0.0, 1e-30),
        Normal(1e9, 1e6),
        Normal(2.7255, 6e-4),
        TruncatedNormal(0.0, 1.0, 9.0),
        TruncatedNormal(1.1, 0.005, -1.0, 1.0),
        LogNormal(1.0, 10.0),
        LogNormal(1e-9, 1.0),
        Shifted(1000.0),
    ],
    ids=lambda law: str(law).split(" object")[0],
)
def test_what_float32_resolves_is_drawn_with_its_quantiles(law: Law) -> None:
    drawn = Prior({"a": law}).sample(draw_seeds(0, "t", 0, 4000))["theta"]
    assert drawn.dtype == torch.float32
    assert len(drawn.unique()) > 2000
    z = law.to_white(drawn.double()[:, 0])
    assert z.isfinite().float().mean() > 0.99
    assert abs(float(z[z.isfinite()].mean())) < 4 / math.sqrt(4000)
    assert float(z[z.isfinite()].std()) == pytest.approx(1.0, abs=4 / math.sqrt(8000))


@pytest.mark.parametrize("bounds", [(0.1, 0.3), (-0.3, 0.1), (0.7, 0.9)])
def test_float32_draws_never_lie_beyond_the_bounds(bounds: tuple[float, float]) -> None:
    prior = Prior({"a": Uniform(*bounds)})
    for z in (torch.tensor([[-9.0], [9.0]]), torch.tensor([[-9.0], [9.0]], dtype=torch.float64)):
        theta = prior.rounded(prior.from_white(z)).double()
        assert bool(((theta >= bounds[0]) & (theta <= bounds[1])).all())
        assert theta.flatten().tolist() == pytest.approx(bounds, rel=1e-6)


def test_a_bound_beyond_float32_bounds_nothing() -> None:
    prior = Prior({"a": TruncatedNormal(0.0, 1.0, -1e300, 1e300)})
    assert torch.equal(prior.from_white(torch.tensor([[2.0]])), torch.tensor([[2.0]]))


def test_a_bound_that_float32_rounds_outwards_still_has_a_density() -> None:
    prior = Prior({"a": Uniform(0.1, 0.3)})
    edges = torch.tensor([[0.1], [0.3]])  # 0.3 in float32 is more than 0.3
    assert prior.log_prob(edges).tolist() == pytest.approx([-math.log(0.2)] * 2)
    assert prior.log_prob(torch.tensor([[0.3001], [0.0999]])).tolist() == [-math.inf] * 2


def test_no_draw_of_a_positive_law_is_zero() -> None:
    prior = Prior({"a": LogNormal(1.0, 10.0)})
    smallest = prior.from_white(torch.tensor([[-30.0]]))
    assert float(smallest) > 0
    assert math.isfinite(float(prior.log_prob(smallest)))


def test_a_law_without_bounds_or_order_is_refused() -> None:
    class NoBounds(Shifted):
        def __init__(self) -> None:
            pass

        def from_white(self, z: torch.Tensor) -> torch.Tensor:
            return z

    class Falls(Shifted):
        def from_white(self, z: torch.Tensor) -> torch.Tensor:
            return -z

    with pytest.raises(SpecError, match="bounds of its support"):
        Prior({"a": NoBounds()})
    with pytest.raises(SpecError, match="must rise"):
        Prior({"a": Falls(0.0)})
