"""Figures of `benchmarks/calibration.py` for draws of known laws."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from _calibration.beside import packed, tell_coherence, tell_offsets, unpacked
from _calibration.drawn import Kept, OneByOne
from _calibration.judged import uniform_tarp
from _calibration.measures import (
    QUANTILES,
    coherence_rms,
    log_variance_ratios,
    offset_beyond_floor,
    quantile_shift,
    quantile_shifts,
    ratio_of_means,
    ratio_of_variances,
)
from _calibration.raw import raw_mira
from _calibration.sizes import Sizes, draws_of_fields, sizes_of
from _solved import compared, look
from scipy.special import polygamma
from scipy.stats import norm

from sbikit import Comparison, Field, Spec, Vector, generator
from sbikit.storage import write_tensors
from sbikit.testing import GaussianField, Spoiled, gather_evidence
from sbikit_calibration.agreement.compared import ComparedVariables
from sbikit_calibration.agreement.numbers import Numbers, gather

SPEC = Spec(
    (
        Vector("theta", ("a", "b")),
        Field("map", (12, 12), channels=1, stationary=True, periodic=True),
    ),
    (Field("data", (12, 12), channels=1, stationary=True, periodic=True),),
)
OBSERVATIONS, DRAWS, LOG_SD = 40, 400, 0.5


def offsets(shift: float, *, draws: int, var_exact: float, count: int = 4000) -> np.ndarray:
    """Offsets (count, 3) of a judged mean that is shifted, from halves whose means have a variance."""
    rng = np.random.default_rng(0)
    judged = shift + rng.normal(size=count) / draws**0.5
    first, second = rng.normal(size=(2, count)) * var_exact**0.5
    return np.stack([judged - first, judged - second, first - second], 1)


@pytest.mark.parametrize(("ratio", "ideal"), [(1.0, 2 / 3), (0.5, 0.718), (2.0, 0.602)])
def test_mira_in_raw_units_is_that_of_normal_laws(ratio: float, ideal: float) -> None:
    """3/4 - asin(r^2 / (1 + r^2)) / (2 pi), r the truth's deviation over the model's; centres are far."""
    source = generator(8)
    truth, mean = ratio * torch.randn(2000, 1, generator=source), torch.zeros(200, 1)
    training = {"a": 1e3 * torch.randn(500, 1, generator=source)}
    found = raw_mira(
        {"a": truth},
        lambda _: {"a": mean + torch.randn(200, 1, generator=source)},
        training,
        centres=2,
        seed=0,
    )
    assert found[0] == pytest.approx(ideal, abs=4 * found[1])
    assert found[1] < 0.004


def test_mira_in_raw_units_does_not_see_what_is_small() -> None:
    source = generator(9)
    truth = {"a": 1e-3 * torch.randn(500, 1, generator=source), "b": torch.randn(500, 3, generator=source)}

    def read(_: int) -> dict[str, torch.Tensor]:
        narrow, right = torch.randn(100, 1, generator=source), torch.randn(100, 3, generator=source)
        return {"a": 3e-4 * narrow, "b": right}

    together, error = raw_mira(truth, read, truth, centres=8, seed=0)
    assert together == pytest.approx(2 / 3, abs=4 * error)
    alone, error = raw_mira({"a": truth["a"]}, read, truth, centres=8, seed=0)
    assert abs(alone - 2 / 3) > 4 * error


@pytest.mark.parametrize(
    "var_exact", [1 / 500, 1 / 20]
)  # of independent draws, and of a chain that mixes slowly
@pytest.mark.parametrize("shift", [0.1, 0.3])
def test_the_offset_beyond_the_floor_is_the_shift_whatever_the_chains_are_worth(
    shift: float, var_exact: float
) -> None:
    found = offset_beyond_floor(offsets(shift, draws=500, var_exact=var_exact), np.zeros(4000), 500)
    assert abs(found.value - shift) < 4 * found.error
    assert found.error < 0.02
    assert found.floor == pytest.approx((1 / 500 + var_exact / 2) ** 0.5, rel=0.05)


def test_exact_draws_have_no_offset_beyond_the_floor() -> None:
    found = offset_beyond_floor(offsets(0.0, draws=500, var_exact=1 / 100), np.zeros(4000), 500)
    assert found.value < 2.5 * found.error < 0.05


def draws(correlation: float, count: int, seed: int, shift: float = 0.0, sd: float = 1.0) -> dict:
    """Normal scalars, and white maps the logarithm of whose sd has a correlation with the first of them."""
    source = generator(seed)
    theta = torch.randn(count, OBSERVATIONS, 2, generator=source)
    mixed = torch.stack([theta[..., 0], torch.randn(count, OBSERVATIONS, generator=source)], -1)
    log_sd = LOG_SD * mixed @ torch.tensor([correlation, (1 - correlation**2) ** 0.5])
    white = torch.randn(count, OBSERVATIONS, 1, 12, 12, generator=source)
    return {"theta": shift + sd * theta, "map": log_sd.exp()[..., None, None, None] * white}


def numbers(judged: dict) -> Numbers:
    comparison = Comparison("hmc", tuple(range(OBSERVATIONS)), draws(0.6, 2 * DRAWS, 1), judged)
    return gather(comparison, ComparedVariables(SPEC), None)


def told(tell: object, found: Numbers) -> dict[str, dict]:
    """Name -> figures that are told."""
    lines: dict[str, dict] = {}

    def note(name: str, value: float, error: float, **more: object) -> None:
        lines[name] = {"value": value, "error": error, **more}

    tell(found, ComparedVariables(SPEC), note)  # type: ignore[operator]
    return lines


def test_offsets_and_goals_of_shifted_draws() -> None:
    lines = told(tell_offsets, numbers(draws(0.6, DRAWS, 2, shift=0.3)))
    for label in ("a", "b"):
        line = lines[f"against hmc: offset of the mean of theta.{label} beyond the floor, rms, posterior sd"]
        assert abs(line["value"] - 0.3) < 4 * line["error"]
        assert line["ok"] is False


@pytest.mark.parametrize("correlation", [0.6, 0.0])
def test_coherence_is_the_difference_of_known_correlations(correlation: float) -> None:
    lines = told(tell_coherence, numbers(draws(correlation, DRAWS, 3)))
    # The log variance of 144 normal pixels scatters by itself, by the trigamma function (Bartlett 1937).
    scatter = float(polygamma(1, 143 / 2))
    known = (correlation - 0.6) * 2 * LOG_SD / ((2 * LOG_SD) ** 2 + scatter) ** 0.5
    line = lines["against hmc: correlation of theta.a with log_variance less the exact one"]
    assert abs(line["value"] - known) < 4 * line["error"]
    assert line["error"] < 0.02
    assert abs(line["floor"]) < 4 * line["floor_error"]
    other = lines["against hmc: correlation of theta.b with log_variance less the exact one"]
    assert abs(other["value"]) < 4 * other["error"]
    rms = lines["against hmc: rms of these 14 correlations"]
    assert (rms["value"] > 5 * rms["floor"]) == (correlation == 0.0)


def test_the_rms_of_correlations_of_exact_draws_is_its_floor() -> None:
    rng = np.random.default_rng(1)
    found = coherence_rms(rng.normal(size=(50, 3, 20, 20)))
    assert found.value == pytest.approx(found.floor, rel=0.2)


def test_numbers_are_kept_as_they_are() -> None:
    found = numbers(draws(0.6, DRAWS, 2))
    again = unpacked(packed(found), found.draws)
    assert again.draws == found.draws
    assert again.figures.keys() == found.figures.keys()
    for name, value in found.figures.items():
        np.testing.assert_array_equal(again.figures[name], value)
    np.testing.assert_array_equal(again.correlations, found.correlations)
    np.testing.assert_array_equal(again.offsets, found.offsets)


def test_quantiles_of_a_moved_and_a_wider_law() -> None:
    rng = np.random.default_rng(2)
    rows = np.stack(
        [
            quantile_shifts(0.2 + 1.1 * rng.normal(size=(200, 32)), rng.normal(size=(400, 32)))
            for _ in range(40)
        ]
    )
    for i, level in enumerate(QUANTILES):
        found = quantile_shift(rows[:, :, i])
        assert (
            abs(found.value - (0.2 + 0.1 * norm.ppf(level))) < 4 * found.error + 0.01
        )  # sd of the exact pixels
        assert found.floor is not None
        assert found.floor_error is not None
        assert abs(found.floor) < 4 * found.floor_error


def test_the_ratio_of_means_and_its_error() -> None:
    rng = np.random.default_rng(3)
    b = rng.gamma(2.0, size=(500, 100))
    a = 1.3 * b * rng.gamma(50.0, 1 / 50, size=b.shape)
    found = [ratio_of_means(*pair) for pair in zip(a, b, strict=True)]
    values, errors = np.array([[one.value, one.error] for one in found]).T
    assert values.mean() == pytest.approx(1.3, abs=0.01)
    assert values.std() == pytest.approx(errors.mean(), rel=0.15)


def test_uniform_centres_see_draws_that_are_too_narrow() -> None:
    simulator = GaussianField()
    exact = simulator.exact_sampler()
    right, narrow = (
        uniform_tarp(gather_evidence(simulator, sampler, observations=100, draws=49), 4)
        for sampler in (exact, Spoiled(exact, scale=0.5))
    )
    assert all(metric.verdict != "fail" for metric in right)
    assert any(metric.verdict == "fail" for metric in narrow)
    assert {metric.variable for metric in right} == {*(v.name for v in exact.spec.latents), "joint"}


def test_draws_are_read_one_observation_at_a_time(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "key", draws=6, fields=4)
    whole = torch.randn(3, 6, 2, generator=generator(0)), torch.randn(3, 6, 1, 12, 12, generator=generator(1))
    for b, (theta, maps) in enumerate(zip(*whole, strict=True)):
        most = 6 if b == 0 else 4
        write_tensors(kept.path(b), {"theta": theta, "map": maps[:most]}, {"key": "key"})
    few = OneByOne(kept, SPEC, 3, 4)
    torch.testing.assert_close(few["map"], whole[1][:, :4].movedim(0, 1), rtol=0, atol=0)
    two = few.block(["theta"], 1, 3)["theta"]
    torch.testing.assert_close(two, whole[0][1:, :4].movedim(0, 1), rtol=0, atol=0)
    assert few.shapes == {"theta": (4, 3, 2), "map": (4, 3, 1, 12, 12)}
    assert kept.there(2)
    assert not kept.there(3)
    assert not Kept(tmp_path, "another", 6, 4).there(2)


def test_sizes_fit_the_disk() -> None:
    quick, other = sizes_of("quick", quick=False), sizes_of("of a stranger", quick=False)
    assert (quick.observations, quick.draws, quick.compared) == (500, 500, 100)
    assert draws_of_fields(quick, 4 * 32**2) == 500
    assert other == Sizes()
    count = draws_of_fields(other, 4 * 5 * 128**2)
    assert 16 < count < 500
    assert count * other.observations * 4 * 5 * 128**2 <= other.field_bytes
    assert sizes_of("paper", quick=True).trial


def test_shifts_and_ratios_of_a_solver() -> None:
    exact = torch.randn(20_000, 3, 5, generator=generator(5), dtype=torch.float64)
    shift, ratio = compared(0.1 + 1.2 * exact, exact)
    torch.testing.assert_close(ratio, torch.full((3,), 1.2, dtype=torch.float64))
    torch.testing.assert_close(shift, torch.full((3,), 0.1, dtype=torch.float64), rtol=0.05, atol=0.005)


def test_what_of_maps_looks_most_different() -> None:
    """Of maps whose second channel is twice as high: its log variance by log 4, and all others by less."""
    field = Field("y", (16, 16), channels=2, stationary=True, periodic=True)
    exact = torch.randn(50, 4, 2, 16, 16, generator=generator(6), dtype=torch.float64)
    found = exact.clone()
    found[:, :, 1] *= 2.0
    told = look(found, exact, field)
    assert told["looked at"] == "log_variance, channel 2"
    spread = exact[:, :, 1].var((-2, -1), correction=0).log().var(0).mean().sqrt()
    assert told["look"] == pytest.approx(math.log(4.0) / float(spread), rel=1e-9)
    assert told["look error"] < 1e-9


def test_variances_of_masked_pixels_and_of_the_mean() -> None:
    """Of white pixels, some twice as wide: ratios 4 there, 1 elsewhere, and their mean of the mean's."""
    rng = np.random.default_rng(9)
    masked = np.zeros((8, 8), dtype=bool)
    masked[2:5, 3:7] = True
    wide = np.where(masked, 2.0, 1.0)
    rows = np.stack(
        [
            log_variance_ratios(
                wide * rng.normal(size=(200, 8, 8)), rng.normal(size=(400, 8, 8)), [None, masked, ~masked]
            )
            for _ in range(200)
        ]
    )
    of_mean = (wide**2).mean()
    for i, right in enumerate((of_mean, 4.0, 1.0)):
        found = ratio_of_variances(rows[:, :, i])
        assert abs(found.value - right) < 4 * found.error + 0.01 * right  # logarithms of few draws' variances
        assert found.floor is not None
        assert found.floor_error is not None
        assert abs(found.floor - 1.0) < 4 * found.floor_error
