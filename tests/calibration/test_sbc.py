"""What sbc ranks, by scipy and brute force; exact draws pass, each spoiling alarms its own figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from scipy.spatial import distance
from torch import Tensor

from sbikit import Evidence, Field, Metric, Spec, SpecError, Vector, generator
from sbikit.fields import power_spectrum
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector, gather_evidence
from sbikit_calibration.ranks.figures import Ranked
from sbikit_calibration.ranks.maps import MapStatistics
from sbikit_calibration.ranks.quantities import Quantity, quantities
from sbikit_calibration.ranks.sbc import Sbc
from sbikit_calibration.ranks.together import joint


def _stationary(field: Field, *, stationary: bool = True) -> Field:
    return replace(field, stationary=stationary, periodic=stationary)


# --- statistics of maps ---------------------------------------------------------------------


def test_statistics_of_maps_are_those_of_scipy() -> None:
    maps = np.random.default_rng(0).gamma(2.0, size=(5, 12, 12))
    of = MapStatistics(_stationary(Field("f", (12, 12))))
    found = dict(zip(of.names, of(maps).T, strict=True))
    flat = maps.reshape(5, -1)
    np.testing.assert_allclose(found["log_variance"], np.log(flat.var(1)))
    np.testing.assert_allclose(found["skewness"], stats.skew(flat, axis=1))
    np.testing.assert_allclose(found["kurtosis"], stats.kurtosis(flat, axis=1))
    np.testing.assert_allclose(found["minimum"], flat.min(1))
    np.testing.assert_allclose(found["maximum"], flat.max(1))
    neighbours = np.ones((3, 3))
    neighbours[1, 1] = 0
    highest = [ndimage.maximum_filter(one, footprint=neighbours, mode="wrap") for one in maps]
    high = flat.mean(1) + flat.std(1)
    peaks = [int(((a > b) & (a > h)).sum()) for a, b, h in zip(maps, highest, high, strict=True)]
    np.testing.assert_allclose(found["peaks"], peaks)


def test_bands_hold_all_power_but_the_mean() -> None:
    maps = np.random.default_rng(1).normal(2.0, 1.0, size=(4, 16, 16))
    of = MapStatistics(_stationary(Field("f", (16, 16), extent=(3.0, 3.0))))
    names = [name for name in of.names if name.startswith("band_power")]
    assert len(names) == 4
    found = np.exp(of(maps)[:, [of.names.index(name) for name in names]])
    spectrum = power_spectrum(maps, (3.0, 3.0))
    low = spectrum.power[:, :1].mean(1) * 16**2 / 9  # the first band is the first ring here
    np.testing.assert_allclose(found[:, 0], low, rtol=0.5)
    modes = np.abs(np.fft.fft2(maps, norm="ortho")) ** 2
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(16, 1 / 16), np.fft.fftfreq(16, 1 / 16)))
    edges = 8.0 ** (np.arange(4) / 4) * (1 - 1e-6)
    label = np.searchsorted(edges, k, side="right") - 1
    expected = np.stack([modes[:, label == i].mean(1) for i in range(4)], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_field_that_is_not_stationary_has_no_bands() -> None:
    of = MapStatistics(_stationary(Field("f", (16, 16)), stationary=False))
    assert not [name for name in of.names if name.startswith("band_power")]


@pytest.mark.parametrize("grid", [(1,), (2, 2), (7,), (5, 1, 4)])
def test_statistics_of_any_grid_are_finite(grid: tuple[int, ...]) -> None:
    of = MapStatistics(_stationary(Field("f", grid)))
    for maps in (np.random.default_rng(0).normal(size=(6, *grid)), np.ones((6, *grid))):
        found = of(maps)
        assert found.shape == (6, len(of.names))
        assert np.isfinite(found).all()


# --- quantities and ranks -------------------------------------------------------------------


def _evidence(B: int = 50, n: int = 20, D: int = 3, seed: int = 0) -> Evidence:
    """Correlated scalars and two channels of maps whose truth is one more draw."""
    source = generator(seed)
    mix = torch.eye(D) + 0.5 * torch.randn(D, D, generator=source)
    theta = torch.randn(n + 1, B, D, generator=source) @ mix
    field = torch.randn(n + 1, B, 2, 8, 8, generator=source) + 0.1 * theta[..., :1, None, None]
    labels = tuple("abcdefgh"[:D])
    latents = (Vector("theta", labels), _stationary(Field("f", (8, 8), 2)))
    spec = Spec(latents, (Vector("x", ("x",)),))
    training = {
        "theta": torch.randn(64, D, generator=source),
        "f": torch.randn(64, 2, 8, 8, generator=source),
        "x": torch.zeros(64, 1),
    }
    return Evidence(
        spec,
        {"theta": theta[0], "f": field[0]},
        {"x": torch.zeros(B, 1)},
        {"theta": theta[1:], "f": field[1:]},
        training,
    )


def _named(found: list[Quantity]) -> dict[tuple[str, str], Quantity]:
    return {(one.name, one.variable): one for one in found}


def test_distances_are_those_of_mahalanobis() -> None:
    evidence = _evidence()
    members = torch.cat([evidence.truth["theta"][None], evidence.draws["theta"]])[:, 4].double().numpy()
    precision = np.linalg.inv(np.cov(members.T, ddof=0))
    expected = [distance.mahalanobis(one, members.mean(0), precision) ** 2 for one in members]
    found = _named(quantities(evidence))["distance", "theta"].members[4]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_ranks_are_counts_of_smaller_draws() -> None:
    evidence = _evidence()
    ranked = Ranked.of(_named(quantities(evidence))["", "theta.b"], seed=0)
    below = (evidence.draws["theta"][..., 1] < evidence.truth["theta"][:, 1]).sum(0)
    np.testing.assert_array_equal(ranked.truth, below.numpy())
    product = _named(quantities(evidence))["dependence_on_c", "theta.b"]
    y = torch.cat([evidence.truth["theta"][None], evidence.draws["theta"]]).double()
    y = y - y.mean(0)
    np.testing.assert_allclose(product.members.T, (y[..., 1] * y[..., 2]).numpy(), atol=1e-12)


def test_tied_ranks_fall_evenly() -> None:
    members = np.zeros((4000, 10))
    truth = Ranked.of(Quantity("", "theta.a", "parameters", members), seed=3).truth
    assert stats.chisquare(np.bincount(truth, minlength=10)).pvalue > 0.001


def test_every_channel_and_every_dependence_is_ranked() -> None:
    named = _named(quantities(_evidence()))
    for channel in ("f.1", "f.2"):
        for name in ("log_variance", "skewness", "kurtosis", "minimum", "maximum", "peaks", "distance"):
            assert (name, channel) in named
        assert ("band_power_1", channel) in named
        assert (f"dependence_on_minimum_of_{channel}", "theta.a") in named
    assert ("dependence_on_b", "theta.a") in named
    assert ("dependence_on_a", "theta.b") not in named


def test_many_scalars_are_ranked_without_all_their_pairs() -> None:
    latents = (Vector("theta", tuple(f"t{i}" for i in range(40))),)
    draws = torch.randn(9, 6, 40, generator=generator(0))
    evidence = Evidence(
        Spec(latents, (Vector("x", ("x",)),)),
        {"theta": draws[0]},
        {"x": draws[0, :, :1]},
        {"theta": draws[1:]},
        {},
    )
    found = quantities(evidence)
    assert len(found) == 41  # with their distance
    assert all(np.isfinite(one.members).all() for one in found)


def test_joint_p_values_are_uniform_though_quantities_are_correlated() -> None:
    rng = np.random.default_rng(5)
    found = []
    for seed in range(200):
        common = rng.normal(size=(30, 17))
        members = [common + 0.3 * rng.normal(size=(30, 17)) for _ in range(6)]
        ranks = [one.argsort(1).argsort(1) for one in members]
        found.append(joint(ranks, [True] * 5 + [False], 200, seed).p)
    assert stats.kstest(found, "uniform").pvalue > 0.005


# --- the validator --------------------------------------------------------------------------

TOY = GaussianField(GaussianFieldOptions(size=8))
N = 64


@pytest.fixture(scope="module")
def exact() -> Evidence:
    return gather_evidence(TOY, TOY.exact_sampler(), observations=256, draws=N, training=64, seed=4)


def _failed(evidence: Evidence) -> set[tuple[str, str]]:
    metrics = Sbc().validate(evidence, seed=0).metrics
    return {(m.name, m.variable) for m in metrics if m.verdict == "fail"}


def _with(evidence: Evidence, **draws: Tensor) -> Evidence:
    return replace(evidence, draws={**evidence.draws, **draws})


def test_exact_draws_pass_with_errors_that_their_figures_keep(exact: Evidence) -> None:
    report = Sbc().validate(exact, seed=0)
    assert {m.verdict for m in report.metrics} == {"pass"}
    shifts = [m for m in report.metrics if m.name.startswith("rank_shift")]
    assert all(m.error == pytest.approx(1 / 16, rel=0.05) for m in shifts)
    assert all(abs(m.value) < 4 * m.error for m in shifts)
    assert len(report.sees) == 3
    assert {curve.band for curve in report.curves} == {"ideal"}


def test_figures_of_exact_draws_scatter_as_their_errors_say() -> None:
    toy = GaussianVector()
    pulls: dict[str, list[float]] = {}
    for seed in range(150):
        evidence = gather_evidence(
            toy, toy.exact_sampler(), observations=64, draws=31, training=40, seed=seed
        )
        for m in Sbc(Sbc.Options(null_draws=100)).validate(evidence, seed=seed).metrics:
            if m.variable == "theta.a" and m.ideal is not None:
                pulls.setdefault(m.name, []).append((m.value - m.ideal) / m.error)
    assert set(pulls) == {"rank_shift", "rank_spread", "rank_outliers", "rank_dependence_on_b"}
    for name, found in pulls.items():
        assert abs(np.mean(found)) < 4 / 150**0.5, name
        assert np.std(found) == pytest.approx(1.0, abs=0.25), name


def test_a_shift_of_one_parameter_is_named(exact: Evidence) -> None:
    theta = exact.draws["theta"].clone()
    theta[..., 1] += 0.5 * theta[..., 1].std(0)
    failed = _failed(_with(exact, theta=theta))
    assert ("rank_shift", "theta.slope") in failed
    assert not {(name, v) for name, v in failed if v in ("theta.log_amplitude", "field")}
    metric = next(
        m
        for m in Sbc().validate(_with(exact, theta=theta), seed=0).metrics
        if m.name == "rank_shift" and m.variable == "theta.slope"
    )
    assert metric.value == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(("scale", "above"), [(0.7, True), (1.45, False)])
def test_a_wrong_width_of_one_parameter_is_named(exact: Evidence, scale: float, above: bool) -> None:
    theta = exact.draws["theta"].clone()
    theta[..., 0] = theta[..., 0].mean(0) + scale * (theta[..., 0] - theta[..., 0].mean(0))
    found = {(m.name, m.variable): m for m in Sbc().validate(_with(exact, theta=theta), seed=0).metrics}
    spread: Metric = found["rank_spread", "theta.log_amplitude"]
    assert spread.verdict == "fail"
    assert (spread.value > 1.0) == above
    assert found["rank_spread", "theta.slope"].verdict == "pass"
    assert found["rank_shift", "theta.log_amplitude"].verdict == "pass"


def test_maps_in_another_order_are_seen_by_dependence_alone(exact: Evidence) -> None:
    field = exact.draws["field"].roll(1, 0)
    families = {
        name.split("_")[1] for name, variable in _failed(_with(exact, field=field)) if variable != "joint"
    }
    assert families == {"dependence"}


def test_maps_of_too_little_skewness_are_seen(exact: Evidence) -> None:
    skewed = replace(
        exact,
        truth={**exact.truth, "field": exact.truth["field"].exp()},
        draws={**exact.draws, "field": exact.draws["field"].exp()},
    )
    assert _failed(skewed) == set()
    g = exact.draws["field"]
    f = skewed.draws["field"]
    normal = f.mean(0) + f.std(0) * (g - g.mean(0)) / g.std(0)
    assert ("rank_shift_of_skewness", "field") in _failed(_with(skewed, field=normal))


def test_few_bad_observations_are_seen_as_outliers(exact: Evidence) -> None:
    bad = torch.arange(0, 256, 20)
    rows = torch.arange(256)
    rows[bad] = (bad + 128) % 256
    failed = _failed(replace(exact, draws={k: v[:, rows] for k, v in exact.draws.items()}))
    assert ("rank_outliers_of_distance", "field") in failed


def test_a_shift_too_small_for_one_quantity_is_seen_by_all_together() -> None:
    evidence = _evidence(B=250, n=40, D=8, seed=3)
    shifted = evidence.draws["theta"] + 0.22 * evidence.draws["theta"].std(0)
    failed = _failed(_with(evidence, theta=shifted))
    assert ("all_ranks", "joint") in failed


def test_the_smallest_evidence_is_judged_and_less_is_refused() -> None:
    toy = GaussianVector()
    evidence = gather_evidence(toy, toy.exact_sampler(), observations=2, draws=2, training=32)
    assert {m.verdict for m in Sbc().validate(evidence, seed=0).metrics} == {"pass"}
    with pytest.raises(SpecError, match="Too few"):
        Sbc().validate(replace(evidence, draws={"theta": evidence.draws["theta"][:1]}), seed=0)
