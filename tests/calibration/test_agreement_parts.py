"""The pieces of agreement against closed forms, scipy, scikit-learn and brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.special import digamma
from scipy.stats import norm, t, wasserstein_distance
from sklearn.linear_model import LinearRegression

from sbikit import Field
from sbikit.fields import power_spectrum
from sbikit_calibration.agreement.coherence import correlations
from sbikit_calibration.agreement.curves import coherence_curve
from sbikit_calibration.agreement.maps import describe, peaks, summary_names
from sbikit_calibration.agreement.parameters import divergence, marginal_numbers, whitened
from sbikit_calibration.agreement.power import PowerBins
from sbikit_calibration.agreement.trio import Floats, Trio
from sbikit_calibration.agreement.verdict import Figure


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- parameters -----------------------------------------------------------------------------


def test_w1_is_scipys_in_units_of_the_exact_sd() -> None:
    source = rng()
    trio = Trio(*(source.gamma(2.0, size=(60, 3)) * scale for scale in (1.3, 1.0, 1.0)))
    unit = np.concatenate([trio.first, trio.second]).std(0, ddof=1)
    found = marginal_numbers(trio)["w1"]
    for i in range(3):
        pairs = ((trio.draws, trio.first), (trio.draws, trio.second), (trio.first, trio.second))
        a, b, floor = (wasserstein_distance(x[:, i], y[:, i]) / unit[i] for x, y in pairs)
        assert found[:, i] == pytest.approx([(a + b) / 2, floor])


def test_w1_of_a_shift_is_the_shift() -> None:
    x = rng().normal(size=(500, 1))
    found = marginal_numbers(Trio(x + 0.7, x, x))
    assert found["w1"][0, 0] * x.std(ddof=1) == pytest.approx(0.7, rel=1e-2)
    assert found["mean_offset"][0, 0] == pytest.approx(found["mean_shift"][0, 0] ** 2)
    assert not found["w1"][1, 0]


@pytest.mark.parametrize("shift", [0.0, 3.0, 100.0])
def test_divergence_is_the_estimator_written_as_loops(shift: float) -> None:
    source = rng(2)
    x, y = source.normal(size=(30, 2)), shift + source.normal(size=(20, 2))

    def one_way(x: Floats, y: Floats) -> float:
        total = 0.0
        for i, point in enumerate(x):
            among = np.linalg.norm(np.delete(x, i, 0) - point, axis=1)
            others = np.linalg.norm(y - point, axis=1)
            radius = max(among.min(), others.min())
            total += digamma((among <= radius).sum()) - digamma((others <= radius).sum())
        return total / len(x) + math.log(len(y) / (len(x) - 1))

    assert float(divergence(x, y)) == pytest.approx(0.5 * (one_way(x, y) + one_way(y, x)))


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 1.0), (0.8, 1.0), (0.0, 1.3), (0.0, 0.8)])
def test_divergence_of_two_normals_is_nearly_the_closed_form(shift: float, scale: float) -> None:
    """Half of Jeffreys' divergence of N(0, I) and N(m, s^2 I) is d ((1 + m^2)/s^2 + s^2 + m^2 - 2) / 4.

    Nothing where nothing is; elsewhere 75 to 100 % of it, mixed by a linear map that both share.
    """
    d, n, repetitions = 2, 2000, 24
    source, mix = rng(1), np.array([[2.0, 0.3], [-1.5, 0.1]])
    found = []
    for _ in range(repetitions):
        reference = source.normal(size=(2 * n, d)) @ mix
        judged = (shift + scale * source.normal(size=(n, d))) @ mix
        trio = whitened(Trio(judged, reference[:n], reference[n:]))
        found.append(float(divergence(trio.draws, trio.first)))
    expected = d * ((1 + shift**2) / scale**2 + scale**2 + shift**2 - 2) / 4
    error = float(np.std(found, ddof=1)) / math.sqrt(repetitions)
    assert error < 0.015
    assert 0.75 * expected - 4 * error < np.mean(found) < expected + 4 * error


def test_divergence_survives_draws_that_a_chain_repeats() -> None:
    x = np.repeat(rng().normal(size=(40, 2)), 8, axis=0)
    assert math.isfinite(float(divergence(x, x)))


def test_whitened_draws_have_unit_covariance_even_where_parameters_are_degenerate() -> None:
    x = rng().normal(size=(2000, 3)) * [1e-6, 1.0, 1e6]
    x = np.concatenate([x, x[:, :1] + x[:, 1:2]], 1)
    trio = whitened(Trio(x[:1000], x[:1000], x[1000:]))
    covariance = np.cov(np.concatenate([trio.first, trio.second]), rowvar=False)
    assert np.linalg.matrix_rank(covariance, tol=1e-3) >= 3
    assert np.diag(covariance).max() == pytest.approx(1.0, rel=1e-3)


# --- figures --------------------------------------------------------------------------------


def numbers(value: Floats, floor: Floats) -> Floats:
    return np.stack([value, floor], 1)


def test_a_figure_is_the_mean_of_its_kind() -> None:
    q, f = rng().chisquare(1, size=(2, 50))
    rms = Figure("x", "rms", 0.1, "").metric("v", numbers(q, f), 3.0)
    assert (rms.value, rms.floor) == pytest.approx((math.sqrt(q.mean()), math.sqrt(f.mean())))
    assert rms.error == pytest.approx(q.std(ddof=1) / math.sqrt(50) / 2 / math.sqrt(q.mean()))
    ratio = Figure("x", "ratio", 0.1, "", 1.0).metric("v", numbers(q - 1, f - 1), 3.0)
    assert ratio.value == pytest.approx(math.exp(q.mean() - 1))
    assert ratio.error == pytest.approx(ratio.value * q.std(ddof=1) / math.sqrt(50))


@pytest.mark.parametrize(
    ("kind", "ideal", "floor", "inside", "outside"),
    [
        ("rms", None, 1e-4, 1e-4 + 0.099**2, 1e-4 + 0.101**2),
        ("distance", None, 0.5, 0.599, 0.601),
        ("similarity", None, 0.9, 0.801, 0.799),
        ("signed", 0.68, 0.5, 0.779, 0.781),
        ("signed", 0.68, 0.5, 0.581, 0.579),
        ("ratio", 1.0, 0.5, math.log(1.099), math.log(1.101)),
        ("ratio", 1.0, 0.5, -math.log(1.099), -math.log(1.101)),
    ],
)
def test_the_tolerance_is_where_the_verdict_turns(
    kind: str, ideal: float | None, floor: float, inside: float, outside: float
) -> None:
    figure = Figure("x", kind, 0.1, "", ideal)  # type: ignore[arg-type]
    for value, verdict in ((inside, "pass"), (outside, "fail")):
        metric = figure.metric("v", numbers(np.full(8, value), np.full(8, floor)), 3.0)
        assert metric.verdict == verdict


@pytest.mark.parametrize("kind", ["distance", "similarity", "signed", "ratio"])
def test_an_excess_that_noise_explains_passes(kind: str) -> None:
    """The verdict turns where Student's t of 15 degrees of freedom is as rare as the threshold."""
    scatter = np.array([-1.0, 1.0] * 8)
    rare = t.sf(0.5 / (scatter.std(ddof=1) / 4), 15)
    for threshold, verdict in ((norm.isf(rare) + 0.01, "pass"), (norm.isf(rare) - 0.01, "fail")):
        figure = Figure("x", kind, 0.01, "", 0.0 if kind == "signed" else None)  # type: ignore[arg-type]
        excess = -0.5 if kind == "similarity" else 0.5
        metric = figure.metric("v", numbers(scatter + excess, scatter), threshold)
        assert metric.verdict == verdict


def test_an_rms_that_noise_explains_passes() -> None:
    """Squares of normal numbers for figure and floor: refused about as rarely as 3 standard errors say."""
    source, figure = rng(3), Figure("x", "rms", 1e-6, "")
    refused = dict.fromkeys((8, 16, 100), 0)
    for R in refused:
        for _ in range(2000):
            draws, first, second = source.normal(size=(3, R))
            value = ((draws - first) ** 2 + (draws - second) ** 2) / 2
            metric = figure.metric("v", numbers(value, (first - second) ** 2), 3.0)
            refused[R] += metric.verdict == "fail"
    assert max(refused.values()) <= 14, refused


def test_an_rms_that_noise_does_not_explain_fails() -> None:
    source, figure = rng(3), Figure("x", "rms", 0.2, "")
    for _ in range(50):
        draws, first, second = 0.07 * source.normal(size=(3, 16))
        draws += 0.4
        value = ((draws - first) ** 2 + (draws - second) ** 2) / 2
        assert figure.metric("v", numbers(value, (first - second) ** 2), 3.0).verdict == "fail"


# --- maps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(9,), (7, 8), (4, 5, 6)])
def test_peaks_are_those_of_a_loop_over_pixels(grid: tuple[int, ...]) -> None:
    maps = rng(2).normal(size=(5, *grid))
    for one, found in zip(maps, peaks(maps, 0.3, periodic=True), strict=True):
        count = 0
        for pixel in np.ndindex(grid):
            steps = [s for s in itertools.product((-1, 0, 1), repeat=len(grid)) if any(s)]
            around = [
                one[tuple((p + s) % n for p, s, n in zip(pixel, step, grid, strict=True))] for step in steps
            ]
            count += bool(one[pixel] > max(around) and one[pixel] > 0.3)
        assert found == count


def test_the_number_of_peaks_of_white_noise_is_one_in_nine() -> None:
    """Each of 9 exchangeable pixels is the highest equally often."""
    found = peaks(rng(3).normal(size=(400, 12, 12)), -np.inf, periodic=True) / 144
    assert abs(found.mean() - 1 / 9) < 4 * found.std() / 20


@pytest.mark.parametrize(
    ("grid", "extent"),
    [((16,), (2.0,)), ((16, 16), (5.0, 5.0)), ((15, 15), (1.0, 1.0)), ((8, 8, 8), (1.0,) * 3)],
)
def test_rings_of_power_are_those_of_the_power_spectrum(
    grid: tuple[int, ...], extent: tuple[float, ...]
) -> None:
    """Up to a constant, on grids with no more rings than are shown."""
    bins = PowerBins(Field("f", grid, extent=extent, stationary=True, periodic=True))
    maps = rng(4).normal(size=(6, *grid))
    expected = power_spectrum(maps, extent)
    found = bins.power(maps)[0]
    assert bins.k == pytest.approx(expected.k)
    ratio = found / expected.power
    assert ratio == pytest.approx(np.full_like(ratio, ratio[0, 0]))


def test_a_wave_has_its_power_in_its_band() -> None:
    bins = PowerBins(Field("f", (16, 16), extent=(4.0, 4.0), stationary=True, periodic=True))
    assert bins.bands == ("low", "mid", "high")
    x = np.arange(16)
    for waves, band in ((1, 0), (2, 1), (3, 1), (4, 2), (8, 2)):
        maps = np.cos(2 * np.pi * waves * x / 16)[None, :, None] * np.ones((1, 16, 16))
        power = bins.power(maps)[1][0]
        assert power[band] > 1e10 * np.delete(power, band).max(), waves
    corner = np.cos(np.pi * (x[:, None] + x[None, :]))[None]
    assert bins.power(corner)[1][0].argmax() == 2


def test_summaries_are_what_their_names_say() -> None:
    bins = PowerBins(Field("f", (8, 8), stationary=True, periodic=True))
    maps = rng(5).normal(size=(90, 8, 8))
    trio, sd = describe(Trio(maps[:30], maps[30:60], maps[60:]), bins)
    found = dict(zip(summary_names(bins), trio.draws.summaries.T, strict=True))
    assert sd == pytest.approx(maps[30:].std(), rel=1e-6)
    assert found["minimum"] == pytest.approx(maps[:30].min((1, 2)))
    assert found["maximum"] == pytest.approx(maps[:30].max((1, 2)))
    assert found["log_variance"] == pytest.approx(np.log(maps[:30].var((1, 2))))
    assert found["peaks"] == pytest.approx(
        peaks(maps[:30], maps[30:].mean() + maps[30:].std(), periodic=True)
    )
    assert trio.draws.tails == pytest.approx(np.quantile(maps[:30], [0.001, 0.999]))
    expected = np.quantile(maps[:30].reshape(30, -1), [0.16, 0.84], axis=0, method="weibull")
    assert trio.draws.intervals[0] == pytest.approx(expected)


@pytest.mark.parametrize("n", [8, 15, 60])
def test_intervals_cover_exact_draws_as_they_should_for_every_number_of_draws(n: int) -> None:
    source = rng(n)
    bins = PowerBins(Field("f", (64, 64), stationary=True, periodic=True))
    shares = []
    for _ in range(6):
        trio, _ = describe(Trio(*source.random(size=(3, n, 64, 64))), bins)
        for one, other in itertools.permutations((trio.draws, trio.first, trio.second), 2):
            low, high = one.intervals[0]
            shares.append(np.mean((other.maps >= low) & (other.maps <= high)))
    assert np.mean(shares) == pytest.approx(min(0.68, (n - 1) / (n + 1)), abs=0.003)


# --- coherence ------------------------------------------------------------------------------


def test_correlations_are_numpys_and_the_regression_is_scikit_learns() -> None:
    source = rng(6)
    x = source.normal(size=(200, 4)) @ source.normal(size=(4, 4)) + 3.0
    y = x[:, :2] + source.normal(size=(200, 2))
    found = correlations(y, x)
    for i in range(2):
        assert found[i, :4] == pytest.approx([np.corrcoef(y[:, i], x[:, j])[0, 1] for j in range(4)])
        score = LinearRegression().fit(x, y[:, i]).score(x, y[:, i])
        assert found[i, 4] == pytest.approx(math.sqrt(score))


def test_a_constant_summary_has_no_correlation() -> None:
    source = rng(7)
    x = np.concatenate([np.full((50, 1), 0.1), source.normal(size=(50, 1))], 1)
    found = correlations(x[:, 1:], x)
    assert found[0] == pytest.approx([0.0, 1.0, 1.0])


def test_the_coherence_curve_of_exact_draws_follows_its_ideal_and_not_the_diagonal() -> None:
    """Correlations that differ by noise alone fall back towards the mean, in draws as in the other half."""
    source = rng(8)
    truth, noise = source.normal(size=(300, 1, 7)), source.normal(size=(300, 3, 7))
    curve = coherence_curve("theta.a", 0.1 * (truth + noise))
    slope = np.polyfit(curve.x, curve.y, 1)[0]
    assert slope == pytest.approx(0.5, abs=0.05)
    assert np.polyfit(curve.x, curve.ideal, 1)[0] == pytest.approx(0.5, abs=0.05)
    y, ideal, half = np.array(curve.y), np.array(curve.ideal), (np.array(curve.high) - curve.low) / 2
    assert np.mean(np.abs(y - ideal) < 2 * half) >= 0.9
