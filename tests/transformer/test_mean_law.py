"""The law of a field's mean against the law that made it, and what the guide makes of it against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from sbikit import QuietMonitor
from sbikit.fields import Rings
from sbikit.learning import Parts
from sbikit_transformer.guide import Guide
from sbikit_transformer.linear_model import fit_model
from sbikit_transformer.mean_law import MeanLaw
from sbikit_transformer.polynomials import Quadratic

WHITE = Quadratic(torch.zeros(2, dtype=torch.bool))
MANY, JUDGES = 30_000, 1_000


def seen(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two scalars, three components, the data's two means, and eight numbers: three are components."""
    source = torch.Generator().manual_seed(seed)
    u, data, told = (torch.randn(count, size, generator=source) for size in (2, 2, 8))
    return u, told[:, :3], data, told


def exact(u: Tensor, components: Tensor, data: Tensor, told: Tensor) -> MultivariateNormal:
    """A law with all that it may depend on: of the second mean given the first, too."""
    one = 0.5 + u[:, 0] - 0.3 * components[:, 1] + 0.4 * data[:, 0] + 0.6 * components[:, 0] * u[:, 1]
    two = -0.2 * u[:, 0] * u[:, 1] + 0.5 * components[:, 2] + 0.3 * data[:, 1] * u[:, 0] - 0.7 * told[:, 5]
    first, second = (0.4 + 0.3 * u[:, 0]).exp().double(), (-1.0 - 0.2 * u[:, 1]).exp().double()
    covariance = torch.stack([first, 0.7 * first, 0.7 * first, 0.49 * first + second], -1).unflatten(
        1, (2, 2)
    )
    return MultivariateNormal(torch.stack([one, two + 0.7 * one], 1).double(), covariance)


def drawn(law: MultivariateNormal, seed: int) -> Tensor:
    """From it."""
    white = torch.randn(law.mean.shape, generator=torch.Generator().manual_seed(seed)).double()
    return (law.mean + (law.scale_tril @ white[..., None])[..., 0]).float()


def test_the_law_is_the_one_that_made_the_means() -> None:
    """Of 71 numbers fitted to N = 29,000 simulations each is worth 1 / 2 N nats of divergence on average."""
    told = seen(MANY, 0)
    mean = drawn(exact(*told), 1)
    some = MultivariateNormal(torch.zeros(JUDGES, 2).double(), torch.eye(2).double())
    law = MeanLaw(WHITE, 2, 3, 8)
    law.fit(*told, mean=mean, expected=some, monitor=QuietMonitor())
    others = seen(4_000, 2)
    found, true = law(*others), exact(*others)
    assert found is not None
    numbers = 2 * (len(law.linear) + len(law.of_told)) + 1 + 2 * WHITE.count
    assert float(kl_divergence(true, found).mean()) < 2.0 * numbers / (2 * (MANY - JUDGES))


def bent(u: Tensor, components: Tensor, data: Tensor, told: Tensor) -> MultivariateNormal:
    """A law no mean of which is linear, and whose widths depend on what is told."""
    del told
    one = (0.6 * components[:, 0] + 0.4 * u[:, 0]).exp() + 0.5 * data[:, 0]
    two = 2.0 * torch.tanh(components[:, 1] - u[:, 1]) + 0.3 * components[:, 0].square()
    root = torch.zeros(len(u), 2, 2, dtype=torch.float64)
    root[:, 0, 0] = (0.3 * components[:, 0] - 0.5).exp()
    root[:, 1, 0], root[:, 1, 1] = 0.5 * torch.sin(u[:, 0]), 0.7
    return MultivariateNormal(torch.stack([one, two], 1).double(), scale_tril=root)


def test_a_law_that_bends_is_learned() -> None:
    """Of the divergence of the best law whose means are linear, .59 nats, a thirtieth is left at most."""
    told = seen(MANY, 20)
    mean = drawn(bent(*told), 21)
    law = MeanLaw(WHITE, 2, 3, 8)
    some = MultivariateNormal(torch.zeros(JUDGES, 2).double(), torch.eye(2).double())
    law.fit(*told, mean=mean, expected=some, monitor=QuietMonitor())
    others = seen(4_000, 22)
    true = bent(*others)
    off = {}
    for used in (False, True):
        law.bend.used.fill_(used)
        off[used] = float(kl_divergence(true, law.of(*others)).mean())
    assert off[True] < off[False] / 30


def test_numbers_that_tell_nothing_cost_less_than_they_would_unshrunk() -> None:
    """Of few simulations: 300 numbers without a word, and errors of the mean beside those of numpy's least
    squares with and without them.
    """
    source = torch.Generator().manual_seed(10)
    (*told, _), (*others, _), some = seen(1_500, 11), seen(4_000, 12), 500
    noise, more = (torch.randn(len(known[0]), 300, generator=source) for known in (told, others))

    def true(u: Tensor, components: Tensor, data: Tensor) -> MultivariateNormal:
        return exact(u, components, data, torch.zeros(len(u), 8))

    mean = drawn(true(*told), 13)
    law = MeanLaw(WHITE, 2, 3, 300)
    guess = MultivariateNormal(torch.zeros(some, 2).double(), torch.eye(2).double())
    law.fit(*told, noise, mean=mean, expected=guess, monitor=QuietMonitor())
    features = law._features(*told).numpy()

    def errors(found: np.ndarray) -> np.ndarray:
        return np.square(found - true(*others).mean.numpy()).mean(0)

    def by_numpy(columns: np.ndarray, given: np.ndarray) -> np.ndarray:
        return given @ np.linalg.lstsq(columns[some:], mean[some:].double().numpy(), rcond=None)[0]

    of_others = law._features(*others).numpy()
    unshrunk = errors(by_numpy(np.hstack([features, noise.numpy()]), np.hstack([of_others, more.numpy()])))
    alone = errors(by_numpy(features, of_others))
    found = errors(law.of(*others, more).mean.numpy())
    assert (found < 0.5 * unshrunk).all(), (found, unshrunk)
    assert (found < 1.3 * alone).all(), (found, alone)


def test_variances_are_those_of_others() -> None:
    """With a fifth f as many coefficients as simulations, all telling, those that taught leave 1 - f of the
    noise and others 1 / (1 - f): the law's variances are theirs within 6 %, thrice the error.
    """
    source = torch.Generator().manual_seed(14)
    (*told, _), (*others, _) = seen(2_500, 15), seen(4_000, 16)
    slopes = torch.randn(380, 2, generator=source)

    def drawn_of(known: list[Tensor], seed: int) -> tuple[Tensor, Tensor]:
        numbers = torch.randn(len(known[0]), 380, generator=source)
        white = torch.randn(len(known[0]), 2, generator=torch.Generator().manual_seed(seed))
        return numbers, numbers @ slopes + white

    (numbers, mean), (more, target) = drawn_of(told, 17), drawn_of(others, 18)
    law = MeanLaw(WHITE, 2, 3, 380)
    guess = MultivariateNormal(torch.zeros(500, 2).double(), torch.eye(2).double())
    law.fit(*told, numbers, mean=mean, expected=guess, monitor=QuietMonitor())
    found = law.of(*others, more)
    squares = (target - found.mean).square().mean(0) / found.variance.mean(0)
    np.testing.assert_allclose(squares.numpy(), 1.0, atol=0.06)


def test_nothing_is_learned_where_the_guide_is_right() -> None:
    """Judges find nothing better than the truth."""
    told = seen(MANY, 3)
    true = exact(*told)
    law = MeanLaw(WHITE, 2, 3, 8)
    expected = MultivariateNormal(true.mean[:JUDGES], true.covariance_matrix[:JUDGES])
    law.fit(*told, mean=drawn(true, 4), expected=expected, monitor=QuietMonitor())
    assert law(*told) is None


@pytest.fixture(scope="module")
def guide() -> Guide:
    """Of two white fields of 6 x 6 pixels and their noisy sums."""
    source = torch.Generator().manual_seed(5)
    y, noise = torch.randn(2, 5_000, 2, 6, 6, generator=source)
    rings = Rings.shells((6, 6))
    made = Guide(WHITE, 2, (6, 6), nodes=16)
    u = torch.randn(len(y), 2, generator=source)
    modes = {"u": u, "y": rings.transform(y), "d": rings.transform(y.cumsum(1) + noise)}
    log_variance, slope = fit_model(Parts.held(modes), rings, WHITE)
    made.log_variance.copy_(log_variance)
    made.slope.copy_(slope)
    return made


@pytest.mark.parametrize("sigma", [0.3, 5.0])
def test_the_guide_conditions_the_mean_on_its_law(guide: Guide, sigma: float) -> None:
    """E[m | m + sigma e] of the law, in numpy; all but the mean as before."""
    source = torch.Generator().manual_seed(6)
    noisy, data = torch.randn(2, 4, 2, 6, 6, generator=source)
    u, told = torch.randn(4, 2, generator=source), guide.told(data)
    law = exact(u, *seen(4, 7)[1:])
    noise = torch.full((4,), sigma)
    found = guide(noisy, u, told, u, noise, of_mean=law)
    plain = guide(noisy, u, told, u, noise)
    precision, mean = law.precision_matrix.numpy(), law.mean.numpy()
    amplitude = 6.0 * noisy.double().mean((-2, -1)).numpy()
    whole = precision + np.eye(2) / sigma**2
    right = np.einsum("bij,bj->bi", precision, mean) + amplitude / sigma**2
    expected = np.linalg.solve(whole, right[..., None])[..., 0]
    np.testing.assert_allclose(6.0 * found.field.mean((-2, -1)).numpy(), expected, rtol=1e-5, atol=1e-5)

    def without_mean(field: Tensor) -> Tensor:
        return field - field.mean((-2, -1), keepdim=True)

    torch.testing.assert_close(without_mean(found.field), without_mean(plain.field), rtol=0.0, atol=1e-5)
    own = guide.of_mean(u, told[..., 0].real).precision_matrix.numpy()
    for guess, of_zero in ((found, precision), (plain, own)):
        share = np.linalg.inv(of_zero + np.eye(2) / sigma**2).diagonal(axis1=1, axis2=2) / 36.0
        rest = (guess.error.square().double().numpy() - share) * 36.0 / 35.0
        if guess is found:
            others = rest
    np.testing.assert_allclose(others, rest, rtol=1e-5)


def test_draws_of_the_mean_have_its_law(guide: Guide) -> None:
    """What draws start from: the law's mean, and its covariance along the axes."""
    source = torch.Generator().manual_seed(8)
    u, told = torch.randn(3, 2, generator=source), guide.told(torch.randn(3, 2, 6, 6, generator=source))
    law = exact(u, *seen(3, 9)[1:])
    found = guide.expected(u, told, u, of_mean=law)
    torch.testing.assert_close(6.0 * found.mean.mean((-2, -1)).double(), law.mean, rtol=1e-5, atol=1e-5)
    white = torch.randn(20_000, 2, 6, 6, generator=source)
    for b in range(3):
        one = guide.expected(
            u[b : b + 1].expand(20_000, -1),
            told[b : b + 1].expand(20_000, -1, -1),
            u[:1].expand(20_000, -1),
            of_mean=MultivariateNormal(law.mean[b].expand(20_000, -1), law.covariance_matrix[b]),
        )
        means = 6.0 * (one.mean + one.together(one.sd * one.apart(white))).mean((-2, -1)).double()
        covariance = torch.cov(means.T)
        np.testing.assert_allclose(covariance @ law.precision_matrix[b], np.eye(2), atol=0.06)
