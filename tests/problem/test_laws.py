"""Laws against mpmath and scipy, in tails, in narrow windows and at their edges."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
import scipy.stats
import torch

from sbikit import Law, LogNormal, LogUniform, Normal, SpecError, TruncatedNormal, Uniform

WINDOWS = [
    (0, 1, 7, math.inf),
    (0, 1, 8, math.inf),
    (0, 1, 9, math.inf),
    (0, 1, 30, math.inf),
    (0, 1, 1e5, math.inf),
    (0, 1, -math.inf, -30),
    (1.1, 0.005, -1, 1),
    (0, 1, 8, 8.001),
    (0, 1, 0.5, 0.5 + 1e-6),
    (0, 1, -1e-9, 1e-9),
    (0, 1, 0, math.inf),
    (1, 1, 0, math.inf),
    (-1, 0.9, -2, -0.3),
    (0, 1, -5, 5),
    (0, 1, -40, 3),
    (0, 1, 0.9, 1.1),
    (3, 2, -math.inf, 4),
    (0, 1, -9, -8),
    (0, 1, 0.99, 40),
    (2.0, 3.0, -math.inf, math.inf),
    (1e9, 1.0, 1e9 - 1, 1e9 + 9),
    (0, 1, -1e10, 1e10),
    (0, 1, 2, 1e300),
    (5, 2, -1e300, 4),
]
WHITE = [-8.0, -7.0, -5.0, -3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 3.0, 5.0, 7.0, 8.0]


def _mass(a: mp.mpf, b: mp.mpf) -> mp.mpf:
    """Of a standard normal in a..b, in 60 digits."""
    root = mp.sqrt(2)
    return (
        (mp.erfc(a / root) - mp.erfc(b / root)) / 2
        if a > 0
        else (mp.erfc(-b / root) - mp.erfc(-a / root)) / 2
    )


class Exact:
    """A truncated normal in 60 digits."""

    def __init__(self, mean: float, sd: float, low: float, high: float) -> None:
        self.mean, self.sd = mp.mpf(mean), mp.mpf(sd)
        # beyond 10^9 standard deviations an edge is none, and mpmath fails
        self.a, self.b = (
            edge if abs(edge) < 1e9 else mp.sign(edge) * mp.inf
            for edge in ((mp.mpf(low) - self.mean) / self.sd, (mp.mpf(high) - self.mean) / self.sd)
        )
        self.total = _mass(self.a, self.b)

    def log_density(self, x: float) -> mp.mpf:
        y = (mp.mpf(x) - self.mean) / self.sd
        return -y * y / 2 - mp.log(2 * mp.pi) / 2 - mp.log(self.sd) - mp.log(self.total)

    def off(self, x: float, z: float) -> float:
        """How far x is from the quantile at white coordinate z, to first order."""
        y = (mp.mpf(x) - self.mean) / self.sd
        below = _mass(self.a, y) / self.total - mp.ncdf(z)
        above = mp.ncdf(-mp.mpf(z)) - _mass(y, self.b) / self.total
        return float(abs(below if z < 0 else above) / mp.exp(self.log_density(x)))


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(60):
        yield


@pytest.mark.parametrize("window", WINDOWS)
def test_a_truncated_normal_is_right_to_rounding(window: tuple[float, ...]) -> None:
    law, exact = TruncatedNormal(*window), Exact(*window)
    z = torch.tensor(WHITE, dtype=torch.float64)
    x = law.from_white(z)
    assert bool((x >= law.low).all())
    assert bool((x <= law.high).all())
    spread = float(law.from_white(torch.tensor(1.0, dtype=torch.float64)) - law.from_white(-z[8]))
    for xi, zi, density in zip(x.tolist(), WHITE, law.log_density(x).tolist(), strict=True):
        # a rounding of x, and of the law's own middle and spread
        assert exact.off(xi, zi) < 2 * np.spacing(abs(xi)) + 1e-14 * spread
        assert density == pytest.approx(float(exact.log_density(xi)), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("window", WINDOWS)
def test_white_coordinates_are_those_of_the_exact_distribution(window: tuple[float, ...]) -> None:
    law, exact = TruncatedNormal(*window), Exact(*window)
    x = law.from_white(torch.tensor(WHITE, dtype=torch.float64))
    for xi, zi in zip(x.tolist(), law.to_white(x).tolist(), strict=True):
        if law.low < xi < law.high:
            assert exact.off(xi, zi) * float(mp.exp(exact.log_density(xi)) / mp.npdf(zi)) < 1e-13 * (
                1 + abs(zi)
            )
        else:
            assert math.isinf(zi)


@pytest.mark.parametrize("window", [w for w in WINDOWS if w[1] < 5e8 and abs(w[0]) < 1e8])
def test_a_truncated_normal_agrees_with_scipy(window: tuple[float, ...]) -> None:
    mean, sd, low, high = window
    theirs = scipy.stats.truncnorm((low - mean) / sd, (high - mean) / sd, loc=mean, scale=sd)
    law = TruncatedNormal(*window)
    u = np.array([0.001, 0.1, 0.5, 0.9, 0.999])
    x = theirs.ppf(u)
    mine = law.from_white(torch.special.ndtri(torch.from_numpy(u))).numpy()
    np.testing.assert_allclose(mine, x, rtol=1e-9, atol=1e-6 * (x[-1] - x[0]))
    np.testing.assert_allclose(law.log_density(torch.from_numpy(x)).numpy(), theirs.logpdf(x), rtol=1e-6)


@pytest.mark.parametrize(
    "law",
    [
        *(TruncatedNormal(*window) for window in WINDOWS if window[2] < 1e5),
        Uniform(2.0, 5.0),
        Uniform(-3.0, 0.0),
        Normal(1.0, 2.0),
        LogNormal(2.0, 0.5),
        LogUniform(1e-3, 20.0),
        LogUniform(1.0, 1.001),
    ],
)
def test_derivatives_are_those_of_a_change_of_variables(law: Law) -> None:
    z = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    x = law.from_white(z)
    (slope,) = torch.autograd.grad(x.sum(), z)
    log_white = -0.5 * z.detach() ** 2 - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(slope.log(), log_white - law.log_density(x.detach()), rtol=1e-9, atol=1e-9)
    there = x.detach().requires_grad_()
    (back,) = torch.autograd.grad(law.to_white(there).sum(), there)
    torch.testing.assert_close(back * slope, torch.ones_like(back), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("law", "theirs"),
    [
        (Uniform(0.0, 1.0), scipy.stats.uniform(0, 1)),
        (Normal(3.0, 2.0), scipy.stats.norm(3, 2)),
        (LogNormal(2.0, 0.7), scipy.stats.lognorm(0.7, scale=2)),
        (LogNormal(1e9, 1e-6), scipy.stats.lognorm(1e-6, scale=1e9)),
        (LogUniform(1e-4, 3.0), scipy.stats.loguniform(1e-4, 3.0)),
        (LogUniform(1e-300, 1e300), scipy.stats.loguniform(1e-300, 1e300)),
    ],
)
def test_tails_agree_with_scipy(law: Law, theirs) -> None:
    z = torch.tensor([-8.0, -5.0, 0.0, 5.0, 8.0], dtype=torch.float64)
    p = scipy.stats.norm.cdf(-np.abs(z.numpy()))
    expected = np.where(z.numpy() < 0, theirs.ppf(p), theirs.isf(p))
    np.testing.assert_allclose(law.from_white(z).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(
        law.log_density(torch.from_numpy(expected)).numpy(), theirs.logpdf(expected), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("bounds", [(1e-4, 3.0), (5.0, 5.0 + 1e-6), (1e-300, 1e300)])
def test_a_log_uniform_law_is_right_to_rounding(bounds: tuple[float, float]) -> None:
    """Beside 60 digits, from the nearer bound: to four roundings, and eight of the mass that lies between."""
    law, (low, high) = LogUniform(*bounds), map(mp.mpf, bounds)
    width = mp.log(high / low)
    x = law.from_white(torch.tensor(WHITE, dtype=torch.float64))
    for xi, zi, density in zip(x.tolist(), WHITE, law.log_density(x).tolist(), strict=True):
        exact = low * mp.exp(width * mp.ncdf(zi)) if zi < 0 else high * mp.exp(-width * mp.ncdf(-zi))
        assert abs(xi / exact - 1) < np.finfo(float).eps * (4 + 8 * float(width * mp.ncdf(-abs(zi))))
        assert density == pytest.approx(float(-mp.log(mp.mpf(xi)) - mp.log(width)), rel=1e-13, abs=1e-13)
    shares = (0.1, 0.4, 0.6, 0.9)
    inside = torch.tensor([float(low * mp.exp(width * share)) for share in shares], dtype=torch.float64)
    for xi, zi in zip(inside.tolist(), law.to_white(inside).tolist(), strict=True):
        share = mp.log(mp.mpf(xi) / low) / width
        assert float(abs(mp.ncdf(zi) - share)) < 1e-15


def test_a_uniform_law_has_its_digits_at_an_upper_bound_of_zero() -> None:
    z = torch.tensor([5.0, 8.0], dtype=torch.float64)
    x = Uniform(-1.0, 0.0).from_white(z)
    np.testing.assert_allclose(x.numpy(), -scipy.stats.norm.sf(z.numpy()), rtol=1e-12)
    torch.testing.assert_close(Uniform(-1.0, 0.0).to_white(x), z, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "law", [Uniform(0.0, 1.0), Normal(3.0, 2.0), LogNormal(2.0, 0.7), TruncatedNormal(0.0, 1.0, 0.0)]
)
def test_white_coordinates_return_from_the_lower_tail(law: Law) -> None:
    z = torch.linspace(-8.0, 0.0, 65, dtype=torch.float64)
    torch.testing.assert_close(law.to_white(law.from_white(z)), z, rtol=0, atol=1e-12)


def test_what_lies_outside_has_an_infinite_white_coordinate() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    infinite = torch.tensor([-math.inf, -math.inf, math.inf, math.inf], dtype=torch.float64)
    for law in (Uniform(0.0, 1.0), TruncatedNormal(0.3, 1.0, 0.0, 1.0)):
        assert torch.equal(law.to_white(x), infinite)
    assert torch.equal(LogUniform(1.0, 2.0).to_white(x + 1.0)[1:3], infinite[1:3])
    assert torch.equal(LogUniform(1.5, 1.75).to_white(x)[[0, 3]], infinite[[0, 3]])


@pytest.mark.parametrize(
    ("law", "numbers"),
    [
        (Uniform, (-1e308, 1e308)),
        (Normal, (math.nan, 1.0)),
        (Normal, (0.0, math.inf)),
        (TruncatedNormal, (math.inf, 1.0)),
        (TruncatedNormal, (0.0, 1.0, math.inf, math.inf)),
        (LogNormal, (math.inf, 1.0)),
        (LogUniform, (0.0, 1.0)),
        (LogUniform, (2.0, 1.0)),
        (LogUniform, (1.0, math.inf)),
    ],
)
def test_numbers_that_make_no_law_are_refused(law, numbers) -> None:
    with pytest.raises(SpecError, match="law needs"):
        law(*numbers)
