"""Verdicts corrected for their number: Holm's steps, the false alarms of many, p-values of scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sbikit import Metric
from sbikit_calibration.alarms import binomial_p, judged, refused, students_p
from sbikit_calibration.options import ALPHA


def test_holm_refuses_step_by_step() -> None:
    assert refused([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]
    assert refused([0.02, 0.02], 0.05) == [True, True]  # .02 <= .05/2, then .02 <= .05
    assert refused([0.03, 0.001, 0.9], 0.05) == [False, True, False]
    assert refused([], 0.05) == []


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_many_tests_together_raise_as_few_false_alarms_as_one(correlation: float) -> None:
    rng = np.random.default_rng(0)
    repeats, alpha = 2000, 0.05
    common = rng.normal(size=(repeats, 1))
    z = correlation**0.5 * common + (1 - correlation) ** 0.5 * rng.normal(size=(repeats, 30))
    alarms = sum(any(refused(row, alpha)) for row in 2 * stats.norm.sf(np.abs(z)))
    assert alarms / repeats < alpha + 3 * (alpha * (1 - alpha) / repeats) ** 0.5
    single = np.mean((2 * stats.norm.sf(np.abs(z)) < alpha).any(1))
    assert single > 2 * alpha  # uncorrected, the page would cry wolf


def test_the_shares_of_the_default_validators_add_up_to_one_per_cent() -> None:
    assert sum(ALPHA.values()) == pytest.approx(0.01)


def test_only_metrics_with_a_p_value_are_judged() -> None:
    def metric(p: float | None) -> Metric:
        return Metric("m", "joint", 0.0, 1.0, 0.0, "none", "", p=p)

    assert [m.verdict for m in judged([metric(1e-5), metric(None), metric(0.5)], 0.01)] == [
        "fail",
        "none",
        "pass",
    ]


def test_p_values_are_those_of_scipy() -> None:
    values = np.random.default_rng(3).normal(0.3, 1.0, 20)
    error = values.std(ddof=1) / 20**0.5
    assert students_p(values.mean(), error, 20) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)
    assert students_p(0.0, 0.0, 5) == 1.0
    assert students_p(0.1, 0.0, 5) == 0.0
    for count in (3, 10, 17):
        assert binomial_p(count, 20, 0.5) == pytest.approx(stats.binomtest(count, 20, 0.5).pvalue)
