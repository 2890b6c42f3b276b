"""Coverage: nominal values of the beta distribution, p-values and errors of scipy, spoiled widths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from sbikit import Evidence, Field, Metric, Spec, Vector, generator
from sbikit.testing import GaussianVector, gather_evidence
from sbikit_calibration.ranks.intervals import LEVELS, Coverage, edge, nominal, truth_ranks


@pytest.mark.parametrize("draws", [2, 3, 8, 64, 1000])
@pytest.mark.parametrize("level", LEVELS)
def test_nominal_values_are_means_of_the_beta_distribution(draws: int, level: float) -> None:
    """The share between the j-th smallest and largest of n uniform draws is Beta(n + 1 - 2j, 2j)."""
    j = edge(level, draws)
    assert nominal(level, draws) == pytest.approx(stats.beta(draws + 1 - 2 * j, 2 * j).mean())
    if draws >= 64:
        assert nominal(level, draws) == pytest.approx(level, abs=1 / draws)


def test_ranks_count_draws_below_and_ties_fall_evenly() -> None:
    source = generator(0)
    truth, draws = torch.randn(30, 2, generator=source), torch.randn(17, 30, 2, generator=source)
    np.testing.assert_array_equal(truth_ranks(truth, draws, generator(0)), (draws < truth).sum(0).numpy())
    tied = truth_ranks(torch.zeros(5000), torch.zeros(9, 5000), generator(1))
    assert stats.chisquare(np.bincount(tied, minlength=10)).pvalue > 0.001


def _evidence(scale: float = 1.0, B: int = 200, n: int = 50) -> Evidence:
    """A scalar, and maps whose pixels are all but equal; the truth is one more draw, of another width."""
    source = generator(7)
    theta = torch.randn(n + 1, B, 1, generator=source)
    shared = torch.randn(n + 1, B, 1, 1, 1, generator=source)
    field = shared + 0.2 * torch.randn(n + 1, B, 1, 6, 6, generator=source)
    spec = Spec((Vector("theta", ("a",)), Field("f", (6, 6))), (Vector("x", ("x",)),))
    x = torch.zeros(B, 1)
    training = {"theta": theta[0, :64], "f": field[0, :64], "x": x[:64]}
    draws = {"theta": scale * theta[1:], "f": scale * field[1:]}
    return Evidence(spec, {"theta": theta[0], "f": field[0]}, {"x": x}, draws, training)


def _metrics(evidence: Evidence) -> dict[tuple[str, str], Metric]:
    return {(m.name, m.variable): m for m in Coverage().validate(evidence, seed=0).metrics}


def test_exact_draws_pass_and_figures_are_those_of_scipy() -> None:
    evidence = _evidence()
    found = _metrics(evidence)
    assert {m.verdict for m in found.values()} == {"pass"}
    scalar = found["coverage_68", "theta.a"]
    j = edge(0.68, 50)
    ordered = evidence.draws["theta"][..., 0].sort(0).values
    inside = (evidence.truth["theta"][:, 0] > ordered[j - 1]) & (
        evidence.truth["theta"][:, 0] < ordered[50 - j]
    )
    ideal = (51 - 2 * j) / 51
    law = stats.binom(200, ideal)
    count = int(inside.sum())
    assert scalar.value == pytest.approx(count / 200)
    assert scalar.error == pytest.approx(law.std() / 200)
    assert scalar.p == pytest.approx(min(1.0, 2 * min(law.cdf(count), law.sf(count - 1))))


def test_errors_of_pixels_are_the_jackknife_over_observations() -> None:
    evidence = _evidence(B=40)
    metric = _metrics(evidence)["coverage_68", "f"]
    ranks = (evidence.draws["f"] < evidence.truth["f"]).sum(0).flatten(1).numpy()
    j = edge(0.68, 50)
    shares = ((ranks >= j) & (ranks <= 50 - j)).mean(1)
    left_out = np.array([np.delete(shares, b).mean() for b in range(40)])
    jackknife = (39 / 40 * ((left_out - left_out.mean()) ** 2).sum()) ** 0.5
    assert metric.error == pytest.approx(jackknife)
    independent = (0.68 * 0.32 / (40 * 36)) ** 0.5
    assert metric.error > 3 * independent  # pixels of a map go together


@pytest.mark.parametrize(("scale", "above"), [(0.7, False), (1.5, True)])
def test_wrong_widths_are_refused(scale: float, above: bool) -> None:
    found = _metrics(_evidence(scale))
    for variable in ("theta.a", "f"):
        metric = found["coverage_68", variable]
        assert metric.verdict == "fail"
        assert metric.ideal is not None
        assert (metric.value > metric.ideal) == above


def test_coverage_of_a_vector_alone() -> None:
    toy = GaussianVector()
    evidence = gather_evidence(toy, toy.exact_sampler(), observations=100, draws=30, training=40)
    found = _metrics(evidence)
    assert set(found) == {(f"coverage_{p}", f"theta.{label}") for p in (68, 95) for label in ("a", "b")}
