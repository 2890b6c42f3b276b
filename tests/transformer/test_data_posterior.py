"""The law of the scalars given the data: against exact posteriors, and as a density."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import ClassVar

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn import linear_model
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, kl_divergence

from sbikit import Alone, QuietMonitor, generator
from sbikit_transformer.data_posterior import DataPosterior, LinearLaw, better
from sbikit_transformer.normal import Mixture, Normal
from sbikit_transformer.small_networks import FEW_TIMES, OFTEN, Pace

COUNT, JUDGES = 24_576, 4096


def fitted(u: Tensor, told: Tensor, judges: int = JUDGES) -> DataPosterior:
    found = DataPosterior(u.shape[1], told.shape[1])
    found.fit(u, told, judges, QuietMonitor())
    return found


def torchs(law: Mixture) -> MixtureSameFamily:
    """The same mixture as torch.distributions have it, in float64."""
    basis = law.basis.double()
    covariance = (basis * law.variance.double()[..., None, :]) @ basis.mT
    laws = MultivariateNormal(law.mean.double(), covariance_matrix=covariance)
    return MixtureSameFamily(Categorical(logits=law.log_weight.double()), laws)


def test_a_linear_problem_has_its_exact_posterior() -> None:
    """u ~ N(0, 1)^3, v = A u + noise: the textbook posterior, at new data, by the linear law alone."""
    source = generator(1)
    a, spread = torch.randn(4, 3, generator=source), torch.tensor([0.3, 0.5, 1.0, 2.0])
    u = torch.randn(COUNT, 3, generator=source)
    v = u @ a.T + spread * torch.randn(COUNT, 4, generator=source)
    scale = v.std(0)
    found = fitted(u, v / scale)
    assert not found.learned  # the first law is exact, and stays
    new = torch.randn(500, 3, generator=source) @ a.T + spread * torch.randn(500, 4, generator=source)
    law = found(new / scale).whole()
    exact = torch.linalg.inv(torch.eye(3) + a.T @ torch.diag(spread**-2) @ a)
    mean = new / spread**2 @ a @ exact
    sd = exact.diagonal().sqrt()
    assert float((((law.mean - mean) / sd).square().mean(0)).sqrt().max()) < 0.05
    torch.testing.assert_close(law.sd, sd.expand(500, 3), rtol=0.05, atol=0)
    torch.testing.assert_close(law.covariance.mean(0).float(), exact, rtol=0, atol=0.02)


def test_few_simulations_seen_often_show_two_sharp_modes() -> None:
    """x = u^2 + .05 e, u ~ N(0, 1), beside the posterior on a grid: 500 steps leave half a nat."""
    source = generator(4)

    def data(u: Tensor) -> Tensor:
        return u.square() + 0.05 * torch.randn(u.shape, generator=source)

    u, new = torch.randn(2000, 1, generator=source), torch.randn(200, 1, generator=source)
    x, seen = data(u), data(new)
    grid = torch.linspace(-5.0, 5.0, 10_001, dtype=torch.float64)
    exact = (-0.5 * grid.square() - 0.5 * ((seen.double() - grid.square()) / 0.05).square()).log_softmax(1)
    missed = []
    for pace in (FEW_TIMES, Pace(2000, OFTEN.decay)):
        found = DataPosterior(1, 1)
        found.fit(u, (x - x.mean()) / x.std(), 200, QuietMonitor(), pace=pace)
        law = torchs(found((seen - x.mean()) / x.std()))
        learned = law.log_prob(grid[:, None, None].expand(-1, 200, 1)).T + math.log(10.0 / 10_000)
        missed.append(float((exact.exp() * (exact - learned)).sum(1).mean()))
    assert missed[0] > 0.3
    assert 0.0 < missed[1] < 0.06, missed


def test_widths_and_correlations_that_depend_on_the_data_are_learned() -> None:
    """u = m(s) + L(s) e with m and L known, s standard normal."""
    source = generator(2)

    def truth(s: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.stack([s[:, 0].sin(), s[:, 0] * s[:, 1] / 2], 1)
        lower = torch.zeros(len(s), 2, 2)
        lower[:, 0, 0], lower[:, 1, 1] = (0.4 * s[:, 0]).exp(), 0.5
        lower[:, 1, 0] = 0.6 * s[:, 1].tanh()
        return mean, lower

    s = torch.randn(COUNT, 2, generator=source)
    mean, lower = truth(s)
    u = mean + (lower @ torch.randn(COUNT, 2, 1, generator=source))[..., 0]
    found = fitted(u, s)
    assert found.learned
    new = torch.randn(1000, 2, generator=source)
    law = found(new).whole()
    mean, lower = truth(new)
    exact = MultivariateNormal(mean.double(), scale_tril=lower.double())
    judged = MultivariateNormal(law.mean.double(), covariance_matrix=law.covariance)
    assert float(kl_divergence(exact, judged).mean()) < 0.03


def test_a_number_that_tells_of_widths_alone_is_told_beside_components() -> None:
    """u ~ N(0, e^s): no mean of s depends on u, and the exact law has its log likelihood."""
    source = generator(8)
    s, e = torch.randn(2, COUNT, 1, generator=source)
    found = fitted((0.8 * s).exp() * e, s)
    assert found.used[1]
    new, e = torch.randn(2, 4000, 1, generator=source)
    exact = torch.distributions.Normal(0.0, (0.8 * new.double()).exp())
    u = (0.8 * new).exp() * e
    gap = exact.log_prob(u)[:, 0] - torchs(found(new)).log_prob(u.double())
    assert float(gap.mean()) < 0.02


def test_of_many_numbers_that_tell_little_those_that_judge_choose_components() -> None:
    """u and a hundred numbers of noise, of which five tell of it: a network of all learns noise by heart,
    and what is chosen is better for others.
    """
    source = generator(9)

    def drawn() -> tuple[Tensor, Tensor]:
        u = torch.randn(COUNT, 1, generator=source)
        told = torch.randn(COUNT, 100, generator=source)
        told[:, :5] += (2.0 * u - torch.linspace(-2.0, 2.0, 5)).tanh()
        return u, told

    (u, told), (others, new) = drawn(), drawn()
    found = fitted(u, told / told.std(0))
    assert found.used[0]
    chosen = found(new / told.std(0)).log_density(others)
    found.used.copy_(torch.tensor([False, True]))
    gain = chosen - found(new / told.std(0)).log_density(others)
    assert float(gain.mean()) > 3.0 * float(gain.std()) / COUNT**0.5


def test_two_networks_are_mixed_in_equal_parts() -> None:
    found, source = DataPosterior(2, 4), generator(10)
    with torch.no_grad():
        for weight in found.parameters():
            weight.normal_(0.0, 0.1, generator=source)
        assert found.components is not None
        found.components.directions.normal_(0.0, 1.0, generator=source)
    found.learned.fill_(True)
    told, u = torch.randn(50, 4, generator=source), torch.randn(50, 2, generator=source).double()
    density = {}
    for used in ((True, False), (False, True), (True, True)):
        found.used.copy_(torch.tensor(used))
        density[used] = torchs(found(told)).log_prob(u).exp()
    one, other, both = density.values()
    assert float((one / other).log().abs().mean()) > 0.1
    torch.testing.assert_close(both, 0.5 * (one + other), rtol=1e-4, atol=1e-12)


class Pair(Alone):
    """One of two processes, here threads, that join what they have."""

    size: ClassVar[int] = 2

    def __init__(self, rank: int, meeting: threading.Barrier, given: dict[int, Tensor]) -> None:
        self.rank, self._meeting, self._given = rank, meeting, given  # type: ignore[misc]

    def join(self, part: Tensor) -> Tensor:
        self._meeting.wait()
        self._given[self.rank] = part
        self._meeting.wait()
        return torch.cat([self._given[0], self._given[1]])


def test_two_processes_train_a_network_each_and_find_what_one_does() -> None:
    source = generator(11)
    u = torch.randn(2048, 1, generator=source)
    told = torch.cat([u.sin(), u.square(), torch.zeros_like(u)], 1) + torch.randn(2048, 3, generator=source)
    trained: list[str] = []

    class Counting(QuietMonitor):
        def progress(
            self, what: str, total: int, done: int = 0
        ) -> AbstractContextManager[Callable[[int], None]]:
            trained.append(what)
            return super().progress(what, total, done)

    meeting, given = threading.Barrier(2, timeout=120), dict[int, Tensor]()

    def process(rank: int) -> DataPosterior:
        found = DataPosterior(1, 3)
        found.fit(u, told, 512, Counting(), Pair(rank, meeting, given))
        return found

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(process, range(2)))
    assert len(trained) == 2
    whole = fitted(u, told, 512).state_dict()
    for one in found:
        for name, value in one.state_dict().items():
            torch.testing.assert_close(value, whole[name], rtol=1e-5, atol=1e-6)


def test_half_precision_teaches_the_same() -> None:
    """Six numbers of one scalar that errs by a fifth of a standard deviation in each, together."""
    source = generator(12)
    u = torch.randn(COUNT, 1, generator=source)
    told = u + 0.2 * torch.randn(COUNT, 6, generator=source)
    whole, half = fitted(u, told), fitted(u, told.half())
    new = torch.randn(1000, 1, generator=source)
    seen = new + 0.2 * torch.randn(1000, 6, generator=source)
    exact = Normal.of(seen.sum(1, keepdim=True) / (6 + 0.04), torch.tensor([[0.04 / (6 + 0.04)]]))
    one, other = whole(seen).whole(), half(seen).whole()
    assert float(((one.mean - other.mean) / exact.sd).square().mean().sqrt()) < 0.01
    torch.testing.assert_close(other.sd, exact.sd.expand_as(other.sd), rtol=0.03, atol=0.0)


def test_two_modes_are_found() -> None:
    """u = +-1.5 + .3 e, each sign as often, shifted by s: its entropy, and its share between the modes."""
    source = generator(6)
    s, e = torch.randn(2, COUNT, 1, generator=source)
    sign = torch.where(torch.rand(COUNT, 1, generator=source) < 0.5, -1.0, 1.0)
    found = fitted(0.5 * s + 1.5 * sign + 0.3 * e, s)
    law = torchs(found(torch.zeros(1, 1)))
    at = torch.linspace(-4, 4, 4001, dtype=torch.float64)
    density = law.log_prob(at[:, None, None]).exp()[:, 0]
    exact = sum(torch.distributions.Normal(m, 0.3).log_prob(at).exp() / 2 for m in (-1.5, 1.5))
    assert float(torch.trapezoid((density - exact).abs(), at)) < 0.25
    between = at.abs() < 0.5
    assert float(torch.trapezoid(density[between], at[between])) < 0.01


def test_the_law_is_the_density_that_training_makes_large() -> None:
    source = generator(3)
    found = DataPosterior(3, 6)
    with torch.no_grad():
        for weight in found.parameters():
            weight.normal_(0.0, 0.1, generator=source)
        found.learned.fill_(True)
        told, white = (torch.randn(50, n, generator=source) for n in (6, 3))
        root = torch.randn(3, 3, generator=source).double() + 2.0 * torch.eye(3)
        triangle = torch.linalg.cholesky(root @ root.T)
        found.first.linear.normal_(0.0, 1.0, generator=source)
        found.first.covariance.copy_(triangle @ triangle.T)
        found.components.directions.normal_(0.0, 1.0, generator=source)
        components = (told @ found.components.directions).clamp(-6.0, 6.0)
        few = torch.cat([found.first(told).mean, components], 1)
        alone, beside = found.networks
        out = torch.stack([alone(few), beside(torch.cat([few, told], 1))], 1)
        losses = found._losses(out, white)
        law = found(told)
    u = found.first(told).mean + white.double() @ triangle.T
    inside = torchs(law).log_prob(u) + torch.linalg.slogdet(triangle)[1]
    constant = 1.5 * math.log(2.0 * math.pi)
    torch.testing.assert_close(
        torchs(law).log_prob(u) + constant, law.log_density(u.float()).double(), rtol=1e-5, atol=1e-4
    )
    torch.testing.assert_close(-inside, losses.double() + constant, rtol=1e-3, atol=1e-3)


def test_a_mixture_is_denoised_as_a_brute_force_sum_says() -> None:
    """E[u | u + sigma e] and its sd, and mean and covariance, on a fine grid of two scalars."""
    source = generator(7)
    mean = torch.randn(4, 3, 2, generator=source)
    root = torch.tril(0.3 * torch.randn(4, 3, 2, 2, generator=source)).double() + 0.3 * torch.eye(2)
    law = Mixture(
        torch.randn(4, 3, generator=source).log_softmax(1), *Normal.of(mean, root @ root.mT).parts()
    )
    line = torch.linspace(-6, 6, 401, dtype=torch.float64)
    at = torch.cartesian_prod(line, line)
    log = torchs(law).log_prob(at[:, None]).T

    def moments(log_density: Tensor) -> tuple[Tensor, Tensor]:
        weight = log_density.softmax(1)
        first = weight @ at
        return first, torch.einsum("bi,ij,ik->bjk", weight, at, at) - first[:, :, None] * first[:, None]

    whole = law.whole()
    exact, covariance = moments(log)
    torch.testing.assert_close(whole.mean.double(), exact, rtol=0, atol=1e-4)
    torch.testing.assert_close(whole.covariance, covariance, rtol=0, atol=1e-4)
    x = torch.randn(4, 2, generator=source)
    for sigma in (0.2, 1.0, 30.0):
        noisy = -0.5 * ((x[:, None] - at) / sigma).square().sum(-1)
        exact, covariance = moments(log + noisy)
        found, sd = law.given_noisy(x, torch.full((4,), sigma))
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-3)
        sds = covariance.diagonal(dim1=1, dim2=2).sqrt()
        torch.testing.assert_close(sd.double(), sds, rtol=1e-3, atol=1e-4)


def test_statistics_that_tell_nothing_leave_the_first_law() -> None:
    """Few simulations and many numbers: what judges keeps the network from learning noise."""
    source = generator(4)
    u, s = torch.randn(300, 2, generator=source), torch.randn(300, 200, generator=source)
    found = fitted(u, s, 100)
    assert not found.learned
    law = found(s[:5])
    assert law.mean.shape == (5, 1, 2)
    assert float(law.mean.abs().max()) < 0.2


@pytest.mark.parametrize("rows", [60, 400])
def test_the_covariance_is_that_of_new_simulations(rows: int) -> None:
    """40 numbers, 5 of which tell: as few simulations as that fit too well what they are fitted to."""
    source = generator(8)
    a = torch.zeros(40, 2)
    a[:5] = torch.randn(5, 2, generator=source)
    s = torch.randn(20_000, 40, generator=source)
    u = s @ a + torch.randn(20_000, 2, generator=source)
    law = LinearLaw(2, 40)
    law.fit(u[:rows], s[:rows])
    left = (u - law(s).mean)[rows:].double()
    sd = law.covariance.diagonal().sqrt()
    torch.testing.assert_close(sd, left.square().mean(0).sqrt(), rtol=3.0 / (2 * rows) ** 0.5, atol=0)
    simple = linear_model.RidgeCV((1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0) * np.array(rows)).fit(
        s[:rows], u[:rows]
    )
    theirs = np.square(u[rows:].numpy() - simple.predict(s[rows:].numpy())).mean()
    assert float(left.square().mean()) < 1.05 * theirs


def test_the_same_simulations_make_the_same_law() -> None:
    source = generator(5)
    u, s = torch.randn(6000, 1, generator=source), torch.randn(6000, 3, generator=source)
    made = [fitted(u, s, 1000).state_dict() for _ in range(2)]
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def gains(x: Tensor, to: torch.distributions.Distribution, of: torch.distributions.Distribution) -> Tensor:
    return to.log_prob(x) - of.log_prob(x)


def test_a_law_that_misses_by_many_deviations_now_and_then_is_not_kept() -> None:
    """Data of Student's t with two degrees of freedom: gains over a normal law have no finite variance."""
    exact = torch.distributions.StudentT(torch.tensor(2.0).double())
    x = torch.from_numpy(scipy.stats.t(2).rvs(1024, random_state=1))
    gain = gains(x, exact, torch.distributions.Normal(0.0, 0.4))
    assert gain.mean() > 1.0
    assert gain.mean() < 3.0 * gain.std() / len(gain) ** 0.5  # by which it would be kept
    assert better(gain)


@pytest.mark.parametrize("scale", [0.9, 1.1, 1.5])
def test_an_exact_law_is_kept(scale: float) -> None:
    exact, other = (torch.distributions.Normal(0.0, one) for one in (1.0, scale))
    x = torch.randn(300, 1024, generator=generator(5))
    assert not any(better(gain) for gain in gains(x, other, exact))


def test_laws_are_as_wide_as_others_need_where_much_is_told_of_nothing() -> None:
    """Of 300 numbers 298 are noise, which a network learns by heart: errors over widths that it expects."""
    source = generator(7)

    def simulated(count: int) -> tuple[Tensor, Tensor]:
        s, e = torch.randn(2, count, 2, generator=source)
        spread = torch.stack([0.3 + 0.2 * s[:, 1].square(), torch.full((count,), 0.5)], 1)
        u = torch.stack([s[:, 0].sin(), 0.5 * s[:, 0] * s[:, 1]], 1) + spread * e
        return u, torch.cat([s, torch.randn(count, 298, generator=source)], 1)

    found = fitted(*simulated(12_000), judges=1200)
    assert found.learned
    u, told = simulated(8192)
    law = found(told).whole()
    np.testing.assert_allclose(((u - law.mean) / law.sd).var(0).numpy(), 1.0, rtol=0, atol=0.08)
