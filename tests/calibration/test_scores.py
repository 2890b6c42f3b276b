"""RankTests of ranks: their null against enumeration and scipy, their power against simulation."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from sbikit_calibration.ranks.bands import INSIDE, band
from sbikit_calibration.ranks.reach import SEEN, rank_chances, reach, unit
from sbikit_calibration.ranks.scores import Score, normal_scores, rank_tests

NAMES = ("shift", "spread", "outliers", "farthest")


def _score(name: str, draws: int, observations: int) -> Score:
    score = getattr(rank_tests(draws, observations), name)
    assert isinstance(score, Score)
    return score


@pytest.mark.parametrize("name", NAMES)
def test_p_values_are_those_of_all_outcomes_counted(name: str) -> None:
    n, B = 4, 5
    score = _score(name, n, B)
    totals = [score.total(np.array(ranks)) for ranks in itertools.product(range(n + 1), repeat=B)]
    counted = Counter(totals)
    for total in counted:
        lower = sum(c for t, c in counted.items() if t <= total) / len(totals)
        upper = sum(c for t, c in counted.items() if t >= total) / len(totals)
        assert score.p_value(total) == pytest.approx(min(1.0, 2 * min(lower, upper)), abs=1e-12)


def test_outliers_are_binomial() -> None:
    n, B = 64, 256
    for name, chance in (("outliers", 2 / 65), ("farthest", 1 / 65)):
        for count in (0, 3, 8, 20, 30):
            law = stats.binom(B, chance)
            expected = min(1.0, 2 * min(law.cdf(count), law.sf(count - 1)))
            assert _score(name, n, B).p_value(count) == pytest.approx(expected, rel=1e-6, abs=1e-13)


@pytest.mark.parametrize("name", ["shift", "spread"])
@pytest.mark.parametrize(("n", "B"), [(64, 256), (9, 40), (1000, 30)])
def test_p_values_of_uniform_ranks_are_uniform(name: str, n: int, B: int) -> None:
    rng = np.random.default_rng(B)
    score = _score(name, n, B)
    found = [score.p_value(score.total(rng.integers(0, n + 1, B))) for _ in range(1000)]
    assert stats.kstest(found, "uniform").pvalue > 0.005


def test_a_mean_score_far_out_has_the_p_value_of_a_normal_mean() -> None:
    n, B = 100, 400
    z = normal_scores(n)
    ranks = np.random.default_rng(1).integers(0, n + 1, B)
    ranks[:60] = np.minimum(ranks[:60] + 30, n)
    distance = abs(z[ranks].mean()) / (z.std() / B**0.5)
    score = _score("shift", n, B)
    assert distance > 2.5
    assert score.p_value(score.total(ranks)) == pytest.approx(2 * stats.norm.sf(distance), rel=0.1)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.4, 1.0), (0.0, 1.5), (-0.3, 0.7)])
def test_chances_of_ranks_are_those_of_simulated_truths(shift: float, scale: float) -> None:
    """Mean rank share Phi(delta / sqrt(1 + s^2)); with s alone, pairs of draws below by the arcsine law."""
    n = 20
    chances = rank_chances(n, shift, scale)
    k = np.arange(n + 1)
    assert chances.sum() == pytest.approx(1.0)
    assert chances @ k / n == pytest.approx(stats.norm.cdf(shift / (1 + scale**2) ** 0.5), abs=1e-6)
    if shift == 0.0:
        pairs = 0.25 + np.arcsin(scale**2 / (1 + scale**2)) / (2 * np.pi)
        assert chances @ (k * (k - 1)) / (n * (n - 1)) == pytest.approx(pairs, abs=1e-6)
    if (shift, scale) == (0.0, 1.0):
        np.testing.assert_allclose(chances, 1 / (n + 1), rtol=1e-6)


def test_what_is_said_to_be_seen_is_seen_in_nine_of_ten_cases() -> None:
    n, B, alpha = 32, 120, 1e-3
    found = reach(n, B, alpha)
    assert found.shift is not None
    assert found.narrow is not None
    assert found.wide is not None
    rng = np.random.default_rng(7)

    def share(test: Score, shift: float, scale: float) -> float:
        alarms = 0
        for _ in range(500):
            truth = shift + scale * rng.normal(size=(B, 1))
            ranks = (rng.normal(size=(B, n)) < truth).sum(1)
            alarms += test.p_value(test.total(ranks)) <= alpha
        return alarms / 500

    test = rank_tests(n, B)
    error = (SEEN * (1 - SEEN) / 500) ** 0.5
    assert share(test.shift, found.shift, 1.0) == pytest.approx(SEEN, abs=3.5 * error)
    assert share(test.spread, 0.0, 1 / found.narrow) == pytest.approx(SEEN, abs=3.5 * error)
    assert share(test.spread, 0.0, 1 / found.wide) == pytest.approx(SEEN, abs=3.5 * error)


def test_few_observations_see_nothing_and_more_see_smaller_faults() -> None:
    assert reach(4, 4, 1e-4).of_a_parameter() == ()
    few, many = reach(64, 128, 1e-4), reach(64, 1024, 1e-4)
    assert few.shift is not None
    assert many.shift is not None
    assert many.shift == pytest.approx(few.shift / 8**0.5, rel=0.1)
    assert len(many.of_a_parameter()) == 2


def test_the_mean_score_of_a_small_shift_is_that_shift() -> None:
    n, B = 30, 40_000
    rng = np.random.default_rng(2)
    ranks = (rng.normal(size=(B, n)) < 0.2 + rng.normal(size=(B, 1))).sum(1)
    assert normal_scores(n)[ranks].mean() / unit(n) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(("n", "B"), [(64, 100), (9, 30), (500, 200)])
def test_the_band_holds_whole_curves_of_uniform_ranks(n: int, B: int) -> None:
    rng = np.random.default_rng(11)
    around = band(n, B)
    repeats = 1000
    inside = 0
    for _ in range(repeats):
        y = around.difference(rng.integers(0, n + 1, B))
        inside += bool(np.all((y >= around.low - 1e-12) & (y <= around.high + 1e-12)))
    assert inside / repeats > INSIDE - 0.025
    assert inside / repeats < INSIDE + 0.03
    assert around.x[-1] == 1.0


def test_the_curve_is_the_distribution_of_ranks() -> None:
    around = band(4, 10)
    ranks = np.array([0, 0, 1, 1, 1, 2, 3, 3, 4, 4])
    np.testing.assert_allclose(around.difference(ranks), np.array([2, 5, 6, 8, 10]) / 10 - around.x)
