"""MIRA against its definition, a Gaussian in closed form, the authors' package, and spoiled posteriors."""

from __future__ import annotations

import math
from dataclasses import replace

import mira_score
import numpy as np
import pytest
import torch
from torch import Tensor

from sbikit import Draws, Evidence, Metric, Simulations, draw_seeds, generator
from sbikit.testing import GaussianField, GaussianFieldOptions, Spoiled, gather_evidence
from sbikit_calibration.coverage.distance import excess, ranks
from sbikit_calibration.coverage.mira import Mira, mean_score, score


@pytest.mark.parametrize("S", [2, 3, 4, 10, 64, 500])
def test_null_mean_is_two_thirds_for_every_number_of_draws(S: int) -> None:
    scores = score(torch.arange(S + 1), S)
    assert float(scores.mean()) == pytest.approx(2 / 3, rel=1e-12)


def test_null_variance_is_one_in_180_for_many_draws() -> None:
    assert float(score(torch.arange(100_001), 100_000).var()) == pytest.approx(1 / 180, rel=1e-4)


@pytest.mark.parametrize("S", [2, 5, 12])
def test_closed_form_is_the_mean_over_all_balls(S: int) -> None:
    """P = (n + 1)/(N + 2) or (N - n + 1)/(N + 2) ball by ball; S - 1 in the place of S + 1 afterwards."""
    rng = np.random.default_rng(S)
    for _ in range(20):
        draws, truth = rng.random(S), rng.random()
        N = S - 1
        P = []
        for r in range(S):
            n = int((np.delete(draws, r) <= draws[r]).sum())
            P.append((n + 1) / (N + 2) if truth <= draws[r] else (N - n + 1) / (N + 2))
        m = int((draws < truth).sum())
        expected = 0.5 + (np.mean(P) - 0.5) * (S + 1) / (S - 1)
        assert float(score(torch.tensor(m), S)) == pytest.approx(expected)


def _closer(truth: Tensor, draws: Tensor, centres: Tensor) -> Tensor:
    """Draws (B, S, q) closer to centres (B, K, q) than truth (B, q): (B, K)."""
    rows = [excess(t, y, c) for t, y, c in zip(truth, draws, centres, strict=True)]
    return ranks(torch.nn.functional.pad(torch.stack(rows), (1, 0)), 0)[..., 0]


@pytest.mark.parametrize("S", [2, 3, 64])
def test_exact_draws_score_two_thirds_within_the_null_error(S: int) -> None:
    source, B = generator(S), 3000
    truth, draws, centres = (torch.randn(B, k, 3, generator=source) for k in (1, S, 1))
    value, error = mean_score(score(_closer(truth[:, 0], draws, centres), S))
    null = math.sqrt(float(score(torch.arange(S + 1), S).var(correction=0)) / B)
    assert abs(value - 2 / 3) < 4 * null
    assert error == pytest.approx(null, rel=0.1)


@pytest.mark.parametrize("r", [0.5, 0.8, 1.0, 1.2, 2.0])
def test_gaussian_in_one_dimension_scores_its_closed_form(r: float) -> None:
    """Truth N(0, r^2), draws N(0, 1), centre far away: MIRA = 3/4 - asin(r^2/(1 + r^2))/(2 pi)."""
    source, B, S = generator(7), 6000, 8
    truth = r * torch.randn(B, 1, generator=source)
    draws = torch.randn(B, S, 1, generator=source)
    value, error = mean_score(score(_closer(truth, draws, torch.full((B, 1, 1), 1e4)), S))
    assert abs(value - (0.75 - math.asin(r**2 / (1 + r**2)) / (2 * math.pi))) < 4 * error
    assert error < 0.003


def test_parity_with_the_package() -> None:
    source, B, S, runs = generator(0), 150, 12, 600
    truth = 1.5 * torch.randn(B, 4, generator=source)
    draws = torch.randn(B, S, 4, generator=source)
    centres = torch.randn(B, 4, generator=source)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the package draws from the global state
        theirs, scatter = mira_score.mira(
            truth, draws[None], runs, False, centres, disable_tqdm=True, device=torch.device("cpu")
        )
    # they multiply by (N + 2)/(N + 1) = (S + 1)/S and keep S + 1 where we have S - 1
    factor = S / (S + 1)
    ours = float(score(_closer(truth, draws, centres[:, None]), S).mean())
    converted = 0.5 + (float(theirs) * factor - 0.5) * (S + 1) / (S - 1)
    error = float(scatter) * factor * (S + 1) / (S - 1) / runs**0.5
    assert abs(ours - converted) < 4 * error
    assert error < 0.002


def test_errors_are_the_scatter_of_repetitions_though_centres_are_correlated() -> None:
    source, B, S, K, repetitions = generator(1), 60, 16, 8, 300
    values, errors, naive = [], [], []
    for _ in range(repetitions):
        truth, draws = (torch.randn(B, k, 1, generator=source) for k in (1, S))
        centres = 3.0 + torch.randn(B, K, 1, generator=source)  # on one side: nearly one and the same
        scores = score(_closer(truth[:, 0], draws, centres), S)
        value, error = mean_score(scores)
        values.append(value)
        errors.append(error)
        naive.append(float(scores.std()) / (B * K) ** 0.5)
    scatter = float(np.std(values))
    tolerance = 5 / (2 * repetitions) ** 0.5
    assert scatter / np.mean(errors) == pytest.approx(1.0, abs=tolerance)
    assert scatter / np.mean(naive) > 1.5


# --- the validator --------------------------------------------------------------------------

TOY = GaussianField(GaussianFieldOptions(size=16))
CALIBRATION = ("mira", "mira_data_centres")


@pytest.fixture(scope="module")
def exact() -> Evidence:
    return gather_evidence(TOY, TOY.exact_sampler(), observations=200, draws=48, training=500, seed=11)


def spoiled(evidence: Evidence, shift: float, scale: float, variables: tuple[str, ...] = ()) -> Evidence:
    """The evidence with its draws spoiled as `Spoiled` does it."""

    class Stored(type(TOY.exact_sampler())):  # type: ignore[misc]
        def sample(self, observation: object, n: int, *, seeds: object) -> Draws:
            return Draws.unjudged(evidence.draws)

    wrong = Spoiled(Stored(TOY), shift, scale, variables)
    draws = wrong.sample(evidence.observation, 48, seeds=draw_seeds(0, "draws", 0, 200)).values
    return replace(evidence, draws=draws)


def verdicts(evidence: Evidence, block: str) -> dict[str, Metric]:
    report = Mira().validate(evidence, seed=0)
    return {m.name: m for m in report.metrics if m.variable == block and m.name in CALIBRATION}


def test_exact_draws_pass_everywhere(exact: Evidence) -> None:
    for metric in Mira().validate(exact, seed=0).metrics:
        assert metric.verdict == ("pass" if metric.name in CALIBRATION else "none")
        if metric.name in CALIBRATION:
            assert metric.ideal == pytest.approx(2 / 3)
            assert 0.5 < metric.error * (180 * 200) ** 0.5 < 1.2


@pytest.mark.parametrize("block", ["theta", "field", "joint"])
@pytest.mark.parametrize(
    ("shift", "scale"), [(1.0, 1.0), (0.0, 0.6), (0.0, 1.7)], ids=["moved", "narrow", "wide"]
)
def test_wrong_draws_are_refused(exact: Evidence, block: str, shift: float, scale: float) -> None:
    found = verdicts(spoiled(exact, shift, scale), block)
    assert "fail" in {m.verdict for m in found.values()}


def test_the_joint_sees_parameters_that_are_wrong_beside_a_right_map(exact: Evidence) -> None:
    evidence = spoiled(exact, 0.0, 0.4, ("theta",))
    assert {m.verdict for m in verdicts(evidence, "field").values()} == {"pass"}
    assert "fail" in {m.verdict for m in verdicts(evidence, "joint").values()}


def test_the_prior_in_the_place_of_the_posterior_is_seen_by_data_centres_and_contraction(
    exact: Evidence,
) -> None:
    prior = Simulations(TOY, 99).training(0, 48 * 200)
    draws = {name: prior[name].unflatten(0, (48, 200)) for name in ("theta", "field")}
    report = Mira().validate(replace(exact, draws=draws), seed=0)
    for block in ("theta", "field", "joint"):
        found = {m.name: m for m in report.metrics if m.variable == block}
        assert found["mira"].verdict == "pass"
        assert found["mira_data_centres"].verdict == "fail"
        assert abs(found["contraction"].value) < 4 * found["contraction"].error


def test_scaling_by_truths_would_break_the_null_where_scaling_by_training_keeps_it() -> None:
    """One observation with an extreme truth sets the scale of its own test: the alarm must not ring."""
    B, S = 1500, 20
    source = generator(3)
    y = torch.randn(B, 5, S + 1, 2, generator=source)  # 5 observations a test
    truth, draws = y[:, :, 0], y[:, :, 1:]
    centres = torch.randn(B, 5, 1, 2, generator=source)

    def value(scale: Tensor) -> tuple[float, float]:
        closer = _closer(
            (truth / scale).flatten(0, 1),
            (draws / scale[:, :, None]).flatten(0, 1),
            (centres / scale[:, :, None]).flatten(0, 1),
        )
        return mean_score(score(closer, S).reshape(B, -1))

    spread = truth.amax(1, keepdim=True) - truth.amin(1, keepdim=True)
    wrong, wrong_error = value(spread)
    right, error = value(torch.ones(1, 1, 2))
    assert abs(right - 2 / 3) < 4 * error
    assert wrong_error < 0.01
    assert abs(wrong - 2 / 3) > 4 * wrong_error


def test_more_centres_make_the_error_smaller(exact: Evidence) -> None:
    errors = []
    for count in (1, 16):
        options = Mira.Options(centres=count)
        report = Mira(options).validate(exact, seed=0)
        errors.append(next(m.error for m in report.metrics if (m.name, m.variable) == ("mira", "joint")))
    assert errors[1] < 0.9 * errors[0]
