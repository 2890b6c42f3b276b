"""Agreement with an exact sampler: exact draws reach the floor, each way to be wrong fails its own figure."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import beta, norm
from torch import Tensor

from sbikit import (
    Comparison,
    Evidence,
    Field,
    Metric,
    Spec,
    SpecError,
    Values,
    Vector,
    derive_seed,
    generator,
)
from sbikit.storage import report_from_dict, report_to_dict
from sbikit.testing import (
    GaussianField,
    GaussianFieldOptions,
    GaussianVector,
    check_validator,
    gather_evidence,
)
from sbikit_calibration.agreement.options import AgreementOptions
from sbikit_calibration.agreement.validator import Agreement

R, N = 24, 200
QUICK = AgreementOptions(c2st_observations=0)


def judge(evidence: Evidence, options: AgreementOptions = QUICK) -> dict[tuple[str, str], Metric]:
    report = Agreement(options).validate(evidence, seed=0)
    assert report_from_dict(report_to_dict(report)) == report
    found = {(m.name, m.variable): m for m in report.metrics}
    assert len(found) == len(report.metrics)
    return found


def failed(evidence: Evidence) -> set[str]:
    return {m.name for m in judge(evidence).values() if m.verdict == "fail"}


def within(metric: Metric, expected: float, errors: float = 4.0) -> bool:
    return abs(metric.value - expected) < errors * metric.error


@pytest.fixture(scope="module")
def exact() -> Evidence:
    toy = GaussianField(GaussianFieldOptions(size=16))
    sampler = toy.exact_sampler()
    return gather_evidence(
        toy, sampler, observations=R, draws=N, training=2, reference=sampler, compared=R, seed=3
    )


def spoil(evidence: Evidence, **changed: Tensor) -> Evidence:
    assert evidence.comparison is not None
    draws = {**evidence.comparison.draws, **changed}
    return replace(evidence, comparison=replace(evidence.comparison, draws=draws))


def parts(evidence: Evidence, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Judged draws of a variable, their mean, and the exact draws' standard deviation."""
    assert evidence.comparison is not None
    draws = evidence.comparison.draws[name]
    return draws, draws.mean(0), evidence.comparison.exact[name].std(0)


# --- exact draws ----------------------------------------------------------------------------


def test_exact_draws_pass_everywhere_and_reach_their_floor(exact: Evidence) -> None:
    found = judge(exact)
    names = {name for name, _ in found}
    for name in ("mean_offset", "w1", "kl", "band_power_ratio_mid", "coverage_95", "coherence", "tail_high"):
        assert name in names
    for metric in found.values():
        assert metric.verdict == "pass", metric
        assert metric.floor is not None
        assert metric.floor_error is not None
        assert abs(metric.value - metric.floor) < 5 * math.hypot(metric.error, metric.floor_error), metric
        if metric.ideal is not None:
            assert within(metric, metric.ideal, 5.0), metric


def test_floor_of_the_offset_is_that_of_independent_draws(exact: Evidence) -> None:
    """Two means of n draws differ by sqrt(2/n) standard deviations."""
    found = judge(exact)
    for name, variable in (
        ("mean_offset", "theta.slope"),
        ("mean_offset", "theta.log_amplitude"),
        ("mean_map_error", "field"),
    ):
        metric = found[name, variable]
        assert metric.floor_error is not None
        assert abs((metric.floor or 0) - math.sqrt(2 / N)) < 4 * metric.floor_error
        assert within(metric, math.sqrt(2 / N))


def test_exact_draws_are_hardly_ever_refused() -> None:
    toy = GaussianVector()
    sampler = toy.exact_sampler()
    verdicts = []
    strict = AgreementOptions(c2st_observations=0, offset=1e-3, sd_ratio=1e-3, w1=1e-3, kl=1e-3)
    for seed in range(60):
        evidence = gather_evidence(
            toy, sampler, observations=12, draws=40, training=2, reference=sampler, seed=seed
        )
        verdicts += [m.verdict for m in judge(evidence, strict).values()]
    assert len(verdicts) == 60 * 9
    assert verdicts.count("fail") <= 0.02 * len(verdicts)


def test_errors_are_the_scatter_of_repetitions() -> None:
    names = ("mean_offset", "mean_shift", "sd_ratio", "w1")
    values: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for seed in range(80):
        source = generator(seed)
        draws = [torch.randn(n, 16, 1, generator=source) for n in (80, 40)]
        draws[1] = 0.3 * torch.randn(16, 1, generator=source) + draws[1]
        found = judge(vector_evidence(draws[0], draws[1]))
        for name in names:
            metric = found[name, "theta.a"]
            values[name].append((metric.value, metric.error))
    for name, rows in values.items():
        value, error = np.array(rows).T
        assert value.std() / error.mean() == pytest.approx(1.0, abs=5 / math.sqrt(2 * 80)), name


def vector_evidence(exact: Tensor, draws: Tensor) -> Evidence:
    """A comparison of a vector "theta" with one scalar for each of the last axis' entries."""
    labels = tuple("abcdefgh"[: exact.shape[-1]])
    spec = Spec((Vector("theta", labels),), (Vector("x", ("x",)),))
    return synthetic(spec, {"theta": exact}, {"theta": draws})


def synthetic(spec: Spec, exact: Values, draws: Values) -> Evidence:
    rows = tuple(range(next(iter(exact.values())).shape[1]))
    return Evidence(spec, {}, {}, {}, {}, Comparison("exact", rows, exact, draws))


# --- wrong draws ----------------------------------------------------------------------------


def test_shifted_parameters_fail_by_their_shift(exact: Evidence) -> None:
    """By one sd: half as far is a divergence of .117 nats, hardly above what `kl` tolerates."""
    draws, _, sd = parts(exact, "theta")
    evidence = spoil(exact, theta=draws + sd)
    found, right = judge(evidence), judge(exact)
    for label in ("log_amplitude", "slope"):
        shift, offset = found["mean_shift", f"theta.{label}"], found["mean_offset", f"theta.{label}"]
        assert shift.value - right["mean_shift", f"theta.{label}"].value == pytest.approx(1.0, rel=1e-4)
        assert within(replace(offset, value=math.sqrt(offset.value**2 - (offset.floor or 0) ** 2)), 1.0)
        assert within(found["w1", f"theta.{label}"], 1.0)
    assert failed(evidence) == {"mean_offset", "mean_shift", "w1", "kl"}


def test_wide_parameters_fail_by_their_width(exact: Evidence) -> None:
    draws, mean, _ = parts(exact, "theta")
    evidence = spoil(exact, theta=mean + 1.3 * (draws - mean))
    found, right = judge(evidence), judge(exact)
    for label in ("log_amplitude", "slope"):
        ratio = found["sd_ratio", f"theta.{label}"].value / right["sd_ratio", f"theta.{label}"].value
        assert ratio == pytest.approx(1.3, rel=1e-4)
    assert "sd_ratio" in failed(evidence)
    assert not failed(evidence) & {"mean_offset", "mean_shift", "pixel_variance_ratio"}


@pytest.mark.parametrize("factor", [0.8, math.sqrt(1.3)])
def test_a_map_of_wrong_variance_fails_by_it_and_covers_what_it_should(
    exact: Evidence, factor: float
) -> None:
    draws, mean, _ = parts(exact, "field")
    evidence = spoil(exact, field=mean + factor * (draws - mean))
    found, right = judge(evidence), judge(exact)
    ratio = found["pixel_variance_ratio", "field"].value / right["pixel_variance_ratio", "field"].value
    assert ratio == pytest.approx(factor**2, rel=1e-4)
    for level in (0.68, 0.95):
        metric = found[f"coverage_{100 * level:.0f}", "field"]
        upper = 0.5 + level / 2
        end = beta(upper * (N + 1), (1 - upper) * (N + 1))  # where an order statistic of N draws lies
        expected = 2 * end.expect(lambda u: norm.cdf(factor * norm.ppf(u))) - 1
        assert within(metric, expected)
    wrong = failed(evidence)
    assert {"pixel_variance_ratio", "coverage_68"} <= wrong
    assert not wrong & {"mean_offset", "sd_ratio", "kl", "mean_map_error", "field_correlation"}


def test_a_wrong_mean_map_is_refused(exact: Evidence) -> None:
    draws, _, sd = parts(exact, "field")
    noise = torch.randn(draws.shape[1:], generator=generator(0))
    evidence = spoil(exact, field=draws + 0.5 * sd * noise)
    metric = judge(evidence)["mean_map_error", "field"]
    assert math.sqrt(metric.value**2 - (metric.floor or 0) ** 2) == pytest.approx(0.5, abs=0.02)
    assert "mean_map_error" in failed(evidence)


def test_power_of_one_band_is_seen_in_that_band(exact: Evidence) -> None:
    draws, _, _ = parts(exact, "field")
    transform = torch.fft.rfft2(draws)
    k = torch.fft.fftfreq(16)[:, None] ** 2 + torch.fft.rfftfreq(16) ** 2
    evidence = spoil(exact, field=torch.fft.irfft2(transform * torch.where(k > 0.3**2, 1.2, 1.0), s=(16, 16)))
    found, right = judge(evidence), judge(exact)
    for band, low, high in (("low", 1.0, 1.0001), ("mid", 1.0, 1.0001), ("high", 1.15, 1.44)):
        name = f"band_power_ratio_{band}"
        assert low * 0.9999 < found[name, "field"].value / right[name, "field"].value < high
    assert "band_power_ratio_high" in failed(evidence)
    assert not failed(evidence) & {"band_power_ratio_low", "band_power_ratio_mid"}


def test_a_heavy_tail_is_refused(exact: Evidence) -> None:
    draws, _, _ = parts(exact, "field")
    evidence = spoil(exact, field=torch.where(draws > 2, 2 + 2 * (draws - 2), draws))
    wrong = failed(evidence)
    assert "tail_high" in wrong
    assert "tail_low" not in wrong


def test_parameters_and_maps_paired_at_random_fail_coherence_alone(exact: Evidence) -> None:
    draws, _, _ = parts(exact, "theta")
    evidence = spoil(exact, theta=draws[torch.randperm(N, generator=generator(1))])
    found, right = judge(evidence), judge(exact)
    wrong = failed(evidence)
    assert wrong
    assert all(name.startswith("coherence") for name in wrong)
    assert found["coherence", "joint"].verdict == "fail"
    metric = found["coherence_power_high", "theta.slope"]
    assert metric.verdict == "fail"
    assert "in the reference, 0.0" in metric.meaning or "in the reference, -0.0" in metric.meaning
    for key, value in right.items():
        if not key[0].startswith("coherence"):
            assert found[key].value == pytest.approx(value.value, rel=1e-3, abs=1e-6), key


def test_one_observation_that_is_far_off_is_enough(exact: Evidence) -> None:
    """Its own scatter must not hide it: 5 standard deviations in one of 24."""
    draws, _, sd = parts(exact, "theta")
    moved = draws.clone()
    moved[:, 7] += 5 * sd[7]
    evidence = spoil(exact, theta=moved)
    metric = judge(evidence)["mean_offset", "theta.slope"]
    assert metric.value**2 < 3 * 2 * metric.value * metric.error  # less than 3 standard errors
    assert {"mean_offset", "w1"} <= failed(evidence)


def test_a_tolerance_that_is_wider_lets_pass(exact: Evidence) -> None:
    draws, _, sd = parts(exact, "theta")
    evidence = spoil(exact, theta=draws + 0.5 * sd)
    options = AgreementOptions(c2st_observations=0, offset=0.6, w1=0.6, kl=1.0)
    assert {m.verdict for m in judge(evidence, options).values()} == {"pass"}


def test_with_few_observations_nothing_is_judged(exact: Evidence) -> None:
    assert exact.comparison is not None
    few = Comparison(
        "exact",
        tuple(range(7)),
        {k: v[:, :7] for k, v in exact.comparison.exact.items()},
        {k: v[:, :7] + 9 for k, v in exact.comparison.draws.items()},
    )
    assert {m.verdict for m in judge(replace(exact, comparison=few)).values()} == {"none"}


# --- curves ---------------------------------------------------------------------------------


def test_curves_of_exact_draws_follow_their_ideal_and_those_of_wrong_draws_leave_it(exact: Evidence) -> None:
    draws, _, sd = parts(exact, "theta")
    fields, mean, _ = parts(exact, "field")
    order = torch.randperm(N, generator=generator(1))
    wrong = spoil(exact, theta=(draws + 0.5 * sd)[order], field=mean + 1.3 * (fields - mean))

    def outside(evidence: Evidence) -> dict[tuple[str, str], float]:
        """Share of points further from their ideal, which scatters too, than twice the 95 % band."""
        report = Agreement(QUICK).validate(evidence, seed=0)
        columns = {
            (c.name, c.variable): (np.array(part) for part in (c.y, c.low, c.high, c.ideal))
            for c in report.curves
        }
        return {
            key: float(np.mean((ideal < y - 2 * (y - low)) | (ideal > y + 2 * (high - y))))
            for key, (y, low, high, ideal) in columns.items()
        }

    right, off = outside(exact), outside(wrong)
    assert set(right) == {
        ("mean_offset", "theta.log_amplitude"),
        ("mean_offset", "theta.slope"),
        ("coherence", "theta.log_amplitude"),
        ("coherence", "theta.slope"),
        ("band_power_ratio", "field"),
    }
    assert all(share <= 0.25 for share in right.values()), right
    assert all(share >= 0.5 for share in off.values()), off


# --- shapes ---------------------------------------------------------------------------------


def made(spec: Spec, observations: int = 8, draws: int = 40) -> Evidence:
    """Unit normal draws of every latent."""

    def sample(n: int, what: str) -> dict[str, Tensor]:
        return {
            v.name: torch.randn(n, observations, *v.shape, generator=generator(derive_seed(0, what, v.name)))
            for v in spec.latents
        }

    return synthetic(spec, sample(2 * draws, "exact"), sample(draws, "draws"))


EVEN = {"stationary": True, "periodic": True}
DATA = (Vector("x", ("x",)),)


@pytest.mark.parametrize(
    "grid", [(12,), (6, 5, 4), (1,), (2, 2), (3, 1), (8, 6)], ids=lambda grid: "x".join(map(str, grid))
)
def test_fields_of_any_grid_are_compared(grid: tuple[int, ...]) -> None:
    evidence = made(Spec((Vector("theta", ("a",)), Field("f", grid, **EVEN)), DATA))
    found = judge(evidence)
    assert {m.verdict for m in found.values()} == {"pass"}
    assert ("coherence_minimum", "theta.a") in found


def test_channels_and_several_fields_are_told_apart() -> None:
    spec = Spec(
        (Field("f", (4, 4), channels=2, **EVEN), Vector("theta", ("a", "b")), Field("g", (6,), **EVEN)), DATA
    )
    evidence = made(spec)
    found = judge(evidence)
    for variable in ("f.1", "f.2", "g"):
        assert ("tail_low", variable) in found
        assert (f"coherence_maximum_{variable}", "theta.b") in found
    assert evidence.comparison is not None
    wrong = evidence.comparison.draws["f"].clone()
    wrong[:, :, 1] *= 3
    spoiled = judge(spoil(evidence, f=wrong))
    assert spoiled["pixel_variance_ratio", "f.2"].verdict == "fail"
    assert spoiled["pixel_variance_ratio", "f.1"].verdict == "pass"


def test_maps_alone_and_parameters_alone_are_compared() -> None:
    maps = judge(made(Spec((Field("f", (4, 4), **EVEN),), DATA)))
    assert {variable for _, variable in maps} == {"f"}
    assert not any("coherence" in name for name, _ in maps)
    vectors = judge(made(Spec((Vector("u", ("a",)), Vector("v", ("a", "b"))), DATA)))
    assert {variable for _, variable in vectors} == {"u", "u.a", "v", "v.a", "v.b"}


def test_a_part_of_the_problem_is_compared_where_the_draws_are_of_a_part(exact: Evidence) -> None:
    assert exact.comparison is not None
    marginal = replace(exact.comparison, draws={"theta": exact.comparison.draws["theta"]})
    found = judge(replace(exact, spec=exact.spec.select("theta"), comparison=marginal))
    whole = judge(exact)
    assert found == {key: metric for key, metric in whole.items() if key in found}


def test_constant_draws_fail_and_constant_exact_draws_are_refused() -> None:
    spec = Spec((Vector("theta", ("a", "b")), Field("f", (4, 4), **EVEN)), DATA)
    evidence = made(spec)
    collapsed = spoil(evidence, theta=torch.zeros(40, 8, 2), f=torch.zeros(40, 8, 1, 4, 4))
    found = judge(collapsed)
    assert found["sd_ratio", "theta.a"].verdict == "fail"
    assert found["pixel_variance_ratio", "f"].verdict == "fail"
    assert evidence.comparison is not None
    exact = {**evidence.comparison.exact, "f": torch.ones(80, 8, 1, 4, 4)}
    with pytest.raises(SpecError, match="no variation in 'f'"):
        replace(collapsed, comparison=replace(collapsed.comparison, exact=exact))


def test_the_halves_are_the_first_and_the_last_draws_and_an_odd_one_is_left_out() -> None:
    """Halves that differ by 1 sd and draws that equal the first: offset 1 from the second alone."""
    source = generator(0)
    half = torch.randn(30, 10, 1, generator=source)
    exact = torch.cat([half, half + 1, torch.full((1, 10, 1), 1e3)])
    metric = judge(vector_evidence(exact, half))["mean_shift", "theta.a"]
    unit = float(torch.cat([half, half + 1]).std(0).reciprocal().mean())
    assert metric.value == pytest.approx(-0.5 * unit, rel=1e-4)
    assert metric.floor == pytest.approx(-unit, rel=1e-4)


@pytest.mark.parametrize(("judged", "reference"), [(50, 400), (500, 160)])
def test_more_draws_on_one_side_are_thinned_so_that_the_floor_stays_fair(judged: int, reference: int) -> None:
    source = generator(2)
    evidence = vector_evidence(
        torch.randn(reference, 60, 2, generator=source), torch.randn(judged, 60, 2, generator=source)
    )
    n = min(judged, reference // 2)
    for metric in judge(evidence).values():
        assert metric.verdict == "pass"
        if metric.name == "mean_offset":
            assert within(metric, math.sqrt(2 / n))
            assert abs((metric.floor or 0) - math.sqrt(2 / n)) < 4 * (metric.floor_error or 0)


# --- C2ST -----------------------------------------------------------------------------------


def test_c2st_of_shifted_normals_is_that_of_the_best_classifier() -> None:
    """Equal covariance: the best classifier is linear, its accuracy Phi(distance / 2)."""
    source = generator(4)
    exact = torch.randn(400, 8, 2, generator=source)
    draws = torch.randn(200, 8, 2, generator=source) + torch.tensor([1.2, -0.9])
    states = random.getstate(), str(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    options = AgreementOptions(c2st_observations=8)
    found = judge(vector_evidence(exact, draws), options)
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    metric = found["c2st", "theta"]
    assert metric.ideal == 0.5
    assert metric.verdict == "fail"
    assert norm.cdf(0.75) - 0.06 < metric.value < norm.cdf(0.75) + 4 * metric.error
    assert abs((metric.floor or 0) - 0.5) < 4 * (metric.floor_error or 0) + 0.01


@pytest.mark.parametrize(
    ("draws", "asked", "verdict"), [(200, 8, "fail"), (200, 7, "none"), (199, 8, "none")]
)
def test_c2st_is_judged_with_8_observations_and_200_draws(
    monkeypatch: pytest.MonkeyPatch, draws: int, asked: int, verdict: str
) -> None:
    calls = []

    def accuracy(X: Tensor, Y: Tensor, *, seed: int, classifier: str) -> Tensor:
        calls.append(seed)
        assert classifier == "mlp"
        return torch.tensor(0.6 if float((X - Y).abs().max()) > 50 else 0.5)

    monkeypatch.setattr("sbikit_calibration.agreement.validator.load_c2st", lambda: accuracy)
    source = generator(4)
    exact, judged = (torch.randn(n, 9, 1, generator=source) for n in (2 * draws, draws))
    found = judge(vector_evidence(exact, judged + 99), AgreementOptions(c2st_observations=asked))
    metric = found["c2st", "theta"]
    assert (metric.value, metric.floor) == pytest.approx((0.6, 0.5))
    assert metric.verdict == verdict
    assert ("fewer than 200 draws" in metric.meaning) == (draws < 200)
    assert len(calls) == 3 * asked
    assert len(set(calls)) == asked


@pytest.fixture
def without_sbi(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "sbi.utils.metrics", None)
    return


@pytest.mark.usefixtures("without_sbi")
def test_without_sbi_c2st_is_left_out_and_the_report_says_so() -> None:
    source = generator(4)
    evidence = vector_evidence(
        torch.randn(40, 9, 1, generator=source), torch.randn(20, 9, 1, generator=source)
    )
    found = judge(evidence, AgreementOptions())
    assert ("c2st", "theta") not in found
    assert "pip install 'sbikit[npe]'" in found["kl", "theta"].meaning
    assert "sbi" not in judge(evidence, QUICK)["kl", "theta"].meaning


def test_c2st_of_one_observation_is_refused() -> None:
    with pytest.raises(ValueError, match="0, or 2 or more"):
        AgreementOptions(c2st_observations=1)


# --- what is refused ------------------------------------------------------------------------


def test_the_contract_is_kept() -> None:
    check_validator(Agreement(QUICK))


def test_the_same_seed_gives_the_same_report_with_c2st() -> None:
    toy = GaussianVector()
    sampler = toy.exact_sampler()
    evidence = gather_evidence(toy, sampler, observations=8, draws=32, training=2, reference=sampler)
    options = AgreementOptions(c2st_observations=2)
    one, two = (Agreement(options).validate(evidence, seed=0) for _ in range(2))
    assert one == two


def test_evidence_without_a_reference_names_the_fix(exact: Evidence) -> None:
    with pytest.raises(SpecError, match="exact sampler") as caught:
        Agreement().validate(replace(exact, comparison=None), seed=0)
    assert "--reference" in caught.value.fix


def _few_rows(c: Comparison) -> Comparison:
    return replace(
        c,
        rows=(0,),
        exact={k: v[:, :1] for k, v in c.exact.items()},
        draws={k: v[:, :1] for k, v in c.draws.items()},
    )


def _not_finite(c: Comparison) -> Comparison:
    theta = c.draws["theta"].clone()
    theta[3, 5, 1] = math.nan
    return replace(c, rows=tuple(range(100, 100 + len(c.rows))), draws={**c.draws, "theta": theta})


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        (_few_rows, "evidence.comparison", "Too few observations"),
        (lambda c: replace(c, exact={k: v[:15] for k, v in c.exact.items()}), "", "Too few draws"),
        (lambda c: replace(c, draws={k: v[:7] for k, v in c.draws.items()}), "", "Too few draws"),
        (lambda c: replace(c, draws={"theta": c.draws["theta"]}), "comparison.draws", "'field' is missing"),
        (lambda c: replace(c, rows=c.rows[:-1]), "comparison.exact", "'theta' has the wrong shape"),
        (_not_finite, "comparison.", "not finite"),
    ],
)
def test_comparisons_that_cannot_be_judged_are_refused(
    exact: Evidence, change: object, where: str, message: str
) -> None:
    assert callable(change)
    with pytest.raises(SpecError, match=message) as caught:
        judge(replace(exact, comparison=change(exact.comparison)))
    assert where in caught.value.where


def test_two_observations_and_eight_draws_are_the_least() -> None:
    spec = Spec((Vector("theta", ("a",)), Field("f", (4, 4), **EVEN)), DATA)
    found = judge(made(spec, observations=2, draws=8))
    assert {m.verdict for m in found.values()} == {"none"}
