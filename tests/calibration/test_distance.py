"""Distances against direct sums, the regression against explicit refits, contraction against algebra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sbikit import Evidence, Field, Spec, SpecError, Vector, generator
from sbikit.testing import GaussianField, GaussianFieldOptions, GaussianVector, gather_evidence
from sbikit_calibration.coverage.centres import data_centres, prior_centres
from sbikit_calibration.coverage.contraction import contraction
from sbikit_calibration.coverage.distance import check_evidence, excess, excesses, ranks, scale


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    toy = GaussianField(GaussianFieldOptions(size=6))
    return gather_evidence(toy, toy.exact_sampler(), observations=12, draws=10, training=60)


def test_scales_pool_the_pixels_of_a_channel_and_nothing_else() -> None:
    training = torch.randn(500, 2, 8, 8, generator=generator(0)) * torch.tensor([1.0, 30.0])[:, None, None]
    got = scale(Field("f", (8, 8), channels=2), training)
    np.testing.assert_allclose(got.flatten(), training.numpy().std((0, 2, 3), ddof=1), rtol=1e-3)
    vector = torch.randn(500, 2, generator=generator(1)) * torch.tensor([0.1, 7.0])
    got = scale(Vector("v", ("a", "b")), vector)
    np.testing.assert_allclose(got, vector.numpy().std(0, ddof=1), rtol=1e-5)


def test_a_constant_scalar_is_left_unscaled() -> None:
    assert scale(Vector("v", ("a",)), torch.full((40, 1), 3.0)).item() == 1.0


def test_excess_is_the_difference_of_squared_distances() -> None:
    source = generator(0)
    truth, draws, centres = (torch.randn(*s, generator=source).double() for s in ((7,), (5, 7), (3, 7)))
    expected = torch.cdist(centres, draws) ** 2 - torch.cdist(centres, truth[None]) ** 2
    torch.testing.assert_close(excess(truth, draws, centres), expected)


def test_excess_keeps_the_order_of_float32_draws_that_nearly_coincide_with_the_truth() -> None:
    truth = torch.full((1000,), 100.0)
    steps = torch.tensor([[-2e-5], [2e-5]]) * 100
    got = excess(truth, truth + steps, torch.full((1, 1000), 200.0))
    assert got[0, 0] > 0 > got[0, 1]


def test_joint_weighs_every_latent_by_one_over_its_size(evidence: Evidence) -> None:
    centres = prior_centres(evidence, 3, 0)
    found = excesses(evidence, [centres])[0]["joint"]
    b, i, k = 4, 7, 2
    total = 0.0
    for variable in evidence.spec.latents:
        s = scale(variable, evidence.training[variable.name])
        c = centres(variable.name, b)[k]
        near, far = evidence.draws[variable.name][i, b], evidence.truth[variable.name][b]
        total += float((((near - c) / s) ** 2).mean() - (((far - c) / s) ** 2).mean())
    assert float(found[b, k, i + 1]) == pytest.approx(total, rel=1e-5)
    assert float(found[..., 0].abs().max()) == 0.0


def test_one_truth_changes_nothing_for_the_others(evidence: Evidence) -> None:
    """Scales and centres come from training and data alone: an outlying truth moves only its own ranks."""
    truth = {name: value.clone() for name, value in evidence.truth.items()}
    for value in truth.values():
        value[0] *= 1e4
    altered = replace(evidence, truth=truth)
    for make in (prior_centres, data_centres):
        before, after = (excesses(e, [make(e, 4, 0)])[0] for e in (evidence, altered))
        for name in before:
            assert torch.equal(before[name][1:], after[name][1:])
            assert not torch.equal(before[name][0], after[name][0])


def test_ranks_are_those_of_scipy_and_ties_fall_evenly() -> None:
    values = torch.tensor([[[0.3, -1.0, 2.0, 0.5]]])
    assert ranks(values, 0).tolist() == [[[1, 0, 3, 2]]]
    tied = ranks(torch.zeros(4000, 1, 5), 0)[..., 0].flatten()
    share = torch.bincount(tied, minlength=5) / 4000
    assert float((share - 0.2).abs().max()) < 5 * (0.2 * 0.8 / 4000) ** 0.5


def test_data_centres_are_predictions_plus_leave_one_out_residuals() -> None:
    """Against refits without the simulation at hand, for every ridge that the search may have chosen."""
    toy = GaussianVector()
    evidence = gather_evidence(toy, toy.exact_sampler(), observations=5, draws=4, training=40)
    x, y = evidence.training["x"].double().numpy(), evidence.training["theta"].double().numpy()
    s = x.std(0, ddof=1)
    size = ((x - x.mean(0)) / s) ** 2
    features = (x - x.mean(0)) / s / np.sqrt(size.mean() * 3)
    new = (evidence.observation["x"].double().numpy() - x.mean(0)) / s / np.sqrt(size.mean() * 3)

    def fit(rows: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
        mean_x, mean_y = features[rows].mean(0), y[rows].mean(0)
        centred = features[rows] - mean_x
        slope = np.linalg.solve(centred.T @ centred + ridge * np.eye(3), centred.T @ (y[rows] - mean_y))
        return slope, mean_y - mean_x @ slope

    everyone = np.arange(40)
    mean_eigenvalue = np.trace(features @ features.T) / 40
    centres = torch.stack([data_centres(evidence, 6, 0)("theta", b) for b in range(5)]).double().numpy()
    distances = []
    for power in (-4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0):
        ridge = mean_eigenvalue * 10**power
        slope, intercept = fit(everyone, ridge)
        residual = np.empty_like(y)
        for i in everyone:
            out_slope, out_intercept = fit(np.delete(everyone, i), ridge)
            residual[i] = y[i] - features[i] @ out_slope - out_intercept
        offset = centres - (new @ slope + intercept)[:, None]
        apart = np.abs(offset[:, :, None] - residual).max(-1).min(-1)
        distances.append(apart.max())
    assert min(distances) < 1e-4
    assert max(distances) > 1e-2


def test_data_centres_depend_on_the_data_alone(evidence: Evidence) -> None:
    other = replace(
        evidence,
        truth={k: v + 1.0 for k, v in evidence.truth.items()},
        draws={k: 2.0 * v for k, v in evidence.draws.items()},
    )
    for name in ("theta", "field"):
        assert torch.equal(data_centres(evidence, 3, 0)(name, 2), data_centres(other, 3, 0)(name, 2))


def test_data_centres_are_nearer_to_the_truth_than_prior_centres() -> None:
    toy = GaussianField(GaussianFieldOptions(size=8))
    evidence = gather_evidence(toy, toy.exact_sampler(), observations=60, draws=4, training=500)
    for name in ("theta", "field"):
        error = []
        for make in (prior_centres, data_centres):
            centres = make(evidence, 8, 0)
            apart = [centres(name, b) - evidence.truth[name][b] for b in range(60)]
            error.append(float(torch.stack(apart).square().mean()))
        assert error[1] < 0.75 * error[0]


def test_contraction_of_a_linear_problem_is_that_of_algebra() -> None:
    toy = GaussianVector()
    evidence = gather_evidence(toy, toy.exact_sampler(), observations=300, draws=200, training=2000)
    metrics = {m.variable: m for m in contraction(evidence)}
    assert {m.name for m in metrics.values()} == {"contraction"}
    exact = 1.0 - toy.exact_sampler().covariance.diagonal().numpy() / np.array([0.5, 1.5]) ** 2
    for label, value in zip("ab", exact, strict=True):
        metric = metrics[f"theta.{label}"]
        assert abs(metric.value - value) < 4 * metric.error
        assert metric.error < 0.05
    assert metrics["theta"].value == pytest.approx((metrics["theta.a"].value + metrics["theta.b"].value) / 2)
    assert all(m.verdict == "none" for m in metrics.values())


def test_contraction_errors_are_the_scatter_of_repetitions() -> None:
    toy = GaussianVector()
    exact = toy.exact_sampler()
    found = [
        contraction(gather_evidence(toy, exact, observations=50, draws=8, training=50, seed=seed))
        for seed in range(150)
    ]
    values = np.array([metrics[0].value for metrics in found])
    errors = np.array([metrics[0].error for metrics in found])
    assert values.std() / errors.mean() == pytest.approx(1.0, abs=5 / (2 * 150) ** 0.5)


@pytest.mark.parametrize(
    ("part", "variable", "message"),
    [
        ("draws", "theta", "Too few draws"),
        ("training", "theta", "Too few training"),
        ("truth", "field", "'field' has the wrong shape.*evidence.truth"),
        ("observation", "data", "'data' has the wrong shape.*evidence.observation"),
    ],
)
def test_evidence_that_cannot_be_judged_is_refused(
    evidence: Evidence, part: str, variable: str, message: str
) -> None:
    values = getattr(evidence, part)
    short = {**values, variable: values[variable][:1]}
    with pytest.raises(SpecError, match=f"(?s){message}"):
        check_evidence(replace(evidence, **{part: short}))


def test_evidence_with_a_missing_or_infinite_latent_is_refused(evidence: Evidence) -> None:
    with pytest.raises(SpecError, match="missing"):
        check_evidence(replace(evidence, truth={"theta": evidence.truth["theta"]}))
    with pytest.raises(SpecError, match="not finite"):
        check_evidence(replace(evidence, draws={**evidence.draws, "field": evidence.draws["field"] / 0.0}))


def test_a_single_latent_has_no_joint(evidence: Evidence) -> None:
    marginal = replace(evidence, spec=Spec(evidence.spec.latents[:1], evidence.spec.observables))
    assert set(excesses(marginal, [prior_centres(marginal, 2, 0)])[0]) == {"theta"}
