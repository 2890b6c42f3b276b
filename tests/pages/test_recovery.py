import numpy as np
import pytest
from scipy import stats

from sbikit.pages.marginal import marginal
from sbikit.pages.recovery import ErrorTally, RecoveryTally


def recovery(truth, draws, block=None):
    """Judged, taken in as a whole or in blocks of so many observations."""
    tally = RecoveryTally(len(draws), draws.size)
    for first in range(0, len(truth), block or len(truth)):
        rows = slice(first, first + (block or len(truth)))
        tally.take(truth[rows], draws[:, rows])
    return tally.found()


def error_by_width(truth, draws, block=None):
    tally = ErrorTally()
    for first in range(0, len(truth), block or len(truth)):
        rows = slice(first, first + (block or len(truth)))
        tally.take(truth[rows], draws[:, rows])
    return tally.found()


def calibrated(observations=400, pixels=1, draws=40, seed=0):
    """Gaussian posteriors whose width differs from pixel to pixel; truth is one more draw."""
    rng = np.random.default_rng(seed)
    width = rng.uniform(0.5, 2.0, size=(observations, pixels))
    centre = 5 * rng.normal(size=(observations, pixels))
    truth = centre + width * rng.normal(size=(observations, pixels))
    return truth, centre + width * rng.normal(size=(draws, observations, pixels))


def offsets(found):
    return {name: getattr(found, name).offset for name in ("bias", "scatter", "coverage")}


@pytest.mark.parametrize("pixels", [1, 50])
def test_exact_posteriors_lie_within_their_errors(pixels):
    found = recovery(*calibrated(pixels=pixels))
    assert all(abs(offset) < 3.5 for offset in offsets(found).values())
    assert 0 < found.width.value < 1


def test_errors_are_those_of_repeated_experiments():
    many = [recovery(*calibrated(observations=60, pixels=5, seed=seed)) for seed in range(120)]
    for name in ("bias", "scatter", "coverage"):
        pulls = np.array([getattr(one, name).offset for one in many])
        assert abs(pulls.mean()) < 4 / np.sqrt(120)
        assert pulls.std() == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize(
    ("spoil", "wrong", "sign"),
    [
        (lambda draws, centre: draws + 0.5, "bias", 1),
        (lambda draws, centre: centre + 0.6 * (draws - centre), "scatter", 1),
        (lambda draws, centre: centre + 0.6 * (draws - centre), "coverage", -1),
        (lambda draws, centre: centre + 1.7 * (draws - centre), "scatter", -1),
        (lambda draws, centre: centre + 1.7 * (draws - centre), "coverage", 1),
    ],
)
def test_spoiled_draws_are_far_from_the_ideal(spoil, wrong, sign):
    truth, draws = calibrated()
    spoiled = spoil(draws, draws.mean(0))
    assert sign * offsets(recovery(truth, spoiled))[wrong] > 4


def test_claimed_and_actual_errors_agree_where_posteriors_are_exact():
    found = error_by_width(*calibrated(pixels=200))
    pull = (found.actual - found.claimed) / found.error
    assert len(found.claimed) == 8
    assert np.abs(pull).max() < 4
    assert found.claimed[-1] > 2 * found.claimed[0]


def test_equal_widths_show_no_slope_from_the_noise_of_their_estimate():
    rng = np.random.default_rng(3)
    truth, draws = rng.normal(size=(300, 100)), rng.normal(size=(16, 300, 100))
    found = error_by_width(truth, draws)
    assert np.abs((found.actual - found.claimed) / found.error).max() < 4
    assert np.ptp(found.claimed) < 0.05


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_spoiled_widths_leave_the_diagonal(factor):
    truth, draws = calibrated(pixels=200)
    centre = draws.mean(0)
    found = error_by_width(truth, centre + factor * (draws - centre))
    pull = (found.actual - found.claimed) / found.error
    assert (np.sign(1 - factor) * pull > 4).all()


def test_a_marginal_agrees_with_numpy():
    draws = np.random.default_rng(5).normal(3.0, 2.0, size=5000)
    found = marginal(draws)
    assert found.mean == pytest.approx(3.0, abs=4 * found.mean_error)
    assert found.sd == pytest.approx(2.0, abs=4 * found.sd_error)
    assert (found.low, found.high) == pytest.approx((1.011, 4.989), abs=0.2)
    assert found.mean_error == pytest.approx(draws.std(ddof=1) / np.sqrt(5000))


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_the_error_of_the_bias_is_that_of_an_exact_posterior_however_wide_the_draws_are(scale):
    """Student's t of n - 1 degrees of freedom, times sqrt(1 + 1/n), of B observations."""
    observations, n = 400, 40
    truth, draws = calibrated(observations, draws=n)
    found = recovery(truth, draws.mean(0) + scale * (draws - draws.mean(0)))
    exact = stats.t(n - 1).std() * np.sqrt((1 + 1 / n) / observations)
    assert found.bias.error == pytest.approx(exact, rel=0.05)
    fourth = stats.t(n - 1).moment(4) - stats.t(n - 1).moment(2) ** 2
    square = (1 + 1 / n) * np.sqrt(fourth / observations)
    assert found.scatter.error == pytest.approx(square / (2 * found.scatter.ideal), rel=0.1)


def test_draws_that_are_too_wide_do_not_make_a_small_bias_look_certain():
    truth, draws = calibrated(observations=256, draws=64)
    centre = draws.mean(0)
    wide = centre + 5 * (draws - centre) + 0.5 * draws.std(0, ddof=1)
    found = recovery(truth, wide)
    assert found.bias.value == pytest.approx(0.1, abs=0.02)
    assert found.bias.offset == pytest.approx(0.1 * 16, abs=0.5)


@pytest.mark.parametrize("block", [1, 7])
def test_blocks_of_any_size_give_one_judgement(block):
    data = calibrated(observations=40, pixels=5)
    assert recovery(*data, block) == recovery(*data)
    whole, found = error_by_width(*data), error_by_width(*data, block)
    for part in ("claimed", "actual", "error"):
        np.testing.assert_array_equal(getattr(found, part), getattr(whole, part))


def test_figures_of_blocks_are_those_of_all_observations_at_once():
    truth, draws = calibrated(observations=40, pixels=5)
    found = recovery(truth, draws, 7)
    z = (draws.mean(0) - truth) / draws.std(0, ddof=1)
    assert found.bias.value == pytest.approx(z.mean(), rel=1e-12)
    assert found.scatter.value == pytest.approx(np.sqrt((z**2).mean()), rel=1e-12)
    width = np.sqrt((draws.var(0, ddof=1)).mean(1)).mean() / truth.std()
    assert found.width.value == pytest.approx(width, rel=1e-12)
