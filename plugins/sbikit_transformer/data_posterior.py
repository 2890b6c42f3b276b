r"""What data tell of the scalars, as a mixture of normal laws for each observation, learned.

With w what is told of an observation (vectors v and statistics of maps) and u the P latent scalars, K normal
laws of weights p_k(w) make up the law of u,

    u = m(w) + R (mu_k(w) + K_k(w)^-1 e),    e ~ N(0, 1),

where N(m(w), R R^T) is the best law that is linear in w, and a small network learns p, mu and the lower
triangular K by maximum likelihood: an amortised posterior, as that of Papamakarios and Murray 2016
(arXiv:1605.06376). Two networks are trained. Both are told the few combinations of w that tell of u, see
`fitted_components`, one of them w itself, too; simulations that judge choose one of them or both, mixed in
equal parts. They start as what has the moments of the linear law, and where training does not help, that law
stays. How wide the laws are is chosen last, by simulations that did not train them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sbikit import Alone, Monitor, Team, derive_seed, generator
from sbikit_transformer.fitted_components import FittedComponents, mean_of_rows
from sbikit_transformer.normal import Mixture, Normal, pairs, triangular
from sbikit_transformer.small_networks import FEW_TIMES, Pace, fit_small, small_network

# Least variance of a scalar in units of its prior's, where vectors tell all of it; far below what a network
# of float32 resolves.
_LEAST_PRIOR = 1e-8
# Ridges tried, in units of the numbers' variances: from none to one that leaves next to nothing.
_RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_JUDGED = 8192  # simulations that choose among them, and rows at once
# Of log diagonals of K: a posterior e^8 times narrower or wider than the first law is as far as it goes.
_MOST_LOG = 8.0
# More scalars have the first law alone: their triangles are too large to learn so.
_MOST_SCALARS = 32
# Normal laws in a mixture. Of the quick preset's posteriors, learned from 131,000 simulations, 1 has the
# negative log likelihood -.226, 4 have -.329 and 8 -.352; 16, of 190,000, -.373. Each network has so many.
_LAWS = 16
# Standard errors by which what is learned must be better than a law that is smoother and may be exact.
_CERTAIN = 3.0
# Nats that one simulation may count for what is learned. A law that misses now and then by many standard
# deviations is beaten by so much there that gains scatter more than they are on average; and a law that is
# exact is never beaten on average, however little gains may count (Jensen).
_MOST_GAIN = 3.0
# Deviation of logarithms of widths from 0 that is expected before judges are asked, a few of whom say little.
WIDTHS_KNOWN = 0.1
# Spread of their means at the start, in standard deviations of the first law: together they have its moments.
_SPREAD = 0.5

Inputs: TypeAlias = Callable[[Tensor], Tensor]
"""What a network is told, given which rows."""


class LinearLaw(nn.Module):
    """A normal law of P scalars whose mean is linear in V numbers; its covariance is the same for all."""

    linear: Tensor
    covariance: Tensor

    def __init__(self, scalars: int, numbers: int) -> None:
        super().__init__()
        self.register_buffer("linear", torch.zeros(1 + numbers, scalars))
        self.register_buffer("covariance", torch.eye(scalars, dtype=torch.float64))

    def fit(self, u: Tensor, numbers: Tensor) -> None:
        """Fit to scalars (M, P) and numbers (M, V) of simulations, by ridge regression.

        Ridge and covariance are those of what each simulation leaves where it does not fit (Allen 1974,
        Technometrics 16, 125).
        """
        centre, mean = mean_of_rows(numbers), u.double().mean(0)
        y = u.double() - mean
        squares, products = _products(numbers, centre, y)
        some = slice(0, _JUDGED)
        rows = _about(numbers[some], centre)
        best, least = torch.zeros_like(products), y[some] / (1.0 - 1.0 / len(u))
        for ridge in _RIDGES if numbers.shape[1] else ():
            inverse = torch.linalg.inv(squares + ridge * len(u) * torch.eye(len(squares)).double())
            found = inverse @ products
            own = ((rows @ inverse) * rows).sum(1, keepdim=True) + 1.0 / len(u)
            left = (y[some] - rows @ found) / (1.0 - own).clamp_min(_LEAST_PRIOR)
            if float(left.square().mean()) < float(least.square().mean()):
                best, least = found, left
        self.linear.copy_(torch.cat([(mean - centre @ best)[None], best]))
        values, basis = torch.linalg.eigh(torch.atleast_2d(least.T @ least / len(least)))
        self.covariance.copy_((basis * values.clamp_min(_LEAST_PRIOR)) @ basis.T)

    def forward(self, numbers: Tensor) -> Normal:
        """The law given numbers (B, V)."""
        mean = self.linear[0] + numbers @ self.linear[1:]
        law = Normal.of(mean, self.covariance)
        return Normal(mean, law.variance.expand_as(mean), law.basis.expand(len(mean), -1, -1))


def _products(numbers: Tensor, centre: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x^T x and x^T y of many rows x = numbers - centre, in float64, part by part: less memory."""
    squares = torch.zeros(numbers.shape[1], numbers.shape[1], dtype=torch.float64)
    products = torch.zeros(numbers.shape[1], y.shape[1], dtype=torch.float64)
    for part, target in zip(numbers.split(_JUDGED), y.split(_JUDGED), strict=True):
        x = _about(part, centre)
        squares += x.T @ x
        products += x.T @ target
    return squares, products


def _about(numbers: Tensor, centre: Tensor) -> Tensor:
    """Differences that float32 holds, in float64."""
    return (numbers.float() - centre.float()).double()


class DataPosterior(nn.Module):
    """The law of P scalars given what is told of data.

    Args:
        scalars: P.
        told: length of what is told, W.
        mixed: whether a mixture is learned; else the linear law is all.
    """

    learned: Tensor
    used: Tensor

    def __init__(self, scalars: int, told: int, *, mixed: bool = True) -> None:
        super().__init__()
        self.scalars, self.told = scalars, told
        self.first = LinearLaw(scalars, told)
        self.components: FittedComponents | None = None
        self.networks = nn.ModuleList()
        self.register_buffer("learned", torch.zeros((), dtype=torch.bool))
        # Which networks: the one that is told combinations alone, the one that is told all numbers, too.
        self.register_buffer("used", torch.ones(2, dtype=torch.bool))
        if mixed and told and scalars <= _MOST_SCALARS:
            self._each = 1 + scalars + pairs(scalars + 1)
            self.components = FittedComponents(scalars, told)
            few = scalars + self.components.count
            self.networks.extend(small_network(n, _LAWS * self._each) for n in (few, few + told))

    def fit(
        self,
        u: Tensor,
        told: Tensor,
        judges: int,
        monitor: Monitor,
        team: Team | None = None,
        *,
        pace: Pace = FEW_TIMES,
    ) -> None:
        """Fit to simulations, the first of which judge and do not train.

        Args:
            u: (M, P) white scalars.
            told: (M, W), standardised, at most `FARTHEST` from 0; of half precision, where memory is short.
            judges: how many judge.
            monitor: is told how far training is.
            team: processes that do this together, each with all of the rows.
            pace: of the training.
        """
        self.first.fit(u[judges:], told[judges:])
        if self.components is None:
            return
        expected = torch.cat([self.first(rows.float()).mean for rows in told.split(_JUDGED)])
        root = torch.linalg.cholesky(self.first.covariance)
        left = (u.double() - expected.double()).T
        white = torch.linalg.solve_triangular(root, left, upper=False).T.float()
        self.components.fit(u, told, judges)
        few = torch.cat([expected, self.components(told)], 1)

        def all_numbers(rows: Tensor) -> Tensor:
            return torch.cat([few[rows], told[rows].float()], 1)

        inputs = few.__getitem__, all_numbers
        fit = partial(fit_small, judges=judges, start=self._start(), monitor=monitor, pace=pace)
        self._fit_networks(inputs, white, fit, team or Alone())
        with torch.no_grad():
            rows = torch.arange(judges)
            out = torch.stack([net(of(rows)) for net, of in zip(self.networks, inputs, strict=True)], 1)
        judged = white[:judges]
        choices = torch.tensor([[True, False], [False, True], [True, True]])
        losses = torch.stack([self._losses(out[:, which], judged).mean() for which in choices])
        self.used.copy_(choices[int(losses.argmin())])
        out = self._widen(out[:, self.used], judged)
        with torch.no_grad():
            before = 0.5 * judged.square().sum(1)
            self.learned.fill_(better(before - self._losses(out, judged)))

    @property
    def combinations(self) -> int:
        """How many combinations of what is told there are, R."""
        return 0 if self.components is None else self.components.count

    def combined(self, told: Tensor) -> Tensor:
        """Of what is told (B, W) the combinations that tell most of the scalars, (B, R), standardised."""
        if self.components is None:
            return told[:, :0]
        found: Tensor = self.components(told)
        return found

    def _fit_networks(
        self, inputs: Sequence[Inputs], white: Tensor, fit: Callable[..., None], team: Team
    ) -> None:
        """Train each network on what its `inputs` give of rows; of several processes each trains some.

        Args:
            inputs: one a network.
            white: (M, P).
            fit: trains a network, given it, the mean loss of rows and how many rows there are.
            team: the processes.
        """
        for i, (network, of) in enumerate(zip(self.networks, inputs, strict=True)):
            if i % team.size == team.rank:
                fit(network, partial(self._loss_of_rows, network, of, white), len(white))
        for i, network in enumerate(self.networks):
            weights = parameters_to_vector(network.parameters()).detach()
            vector_to_parameters(team.join(weights[None])[i % team.size], network.parameters())

    def _loss_of_rows(self, network: nn.Module, inputs: Inputs, white: Tensor, rows: Tensor) -> Tensor:
        return self._losses(network(inputs(rows))[:, None], white[rows]).mean()

    def _out(self, told: Tensor, expected: Tensor) -> Tensor:
        """What networks that are used give of what is told, and the first law expects, (B, N, numbers)."""
        few = torch.cat([expected, self.combined(told)], 1)
        inputs = few, torch.cat([few, told], 1)
        ways = zip(self.networks, inputs, self.used.tolist(), strict=True)
        return torch.stack([network(given) for network, given, used in ways if used], 1)

    def _widen(self, out: Tensor, white: Tensor) -> Tensor:
        """Set how wide the laws are, one factor a scalar for all, by what judges: what a network has learned
        by heart makes them too narrow for others (Guo et al. 2017, arXiv:1706.04599, section 4.2).

        Args:
            out: what networks that are used give for those that judge, (J, N, numbers).
            white: their scalars, (J, P).

        Returns:
            What they give then.
        """
        log_width = torch.zeros(self.scalars, requires_grad=True)
        optimiser = torch.optim.LBFGS([log_width], line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            scale, shift = self._wider(log_width)
            unlikely = 0.5 * (log_width / WIDTHS_KNOWN).square().sum() / len(out)
            found = self._losses(scale * out + shift, white).mean() + unlikely
            found.backward()
            return found

        with torch.enable_grad():
            optimiser.step(loss)
        with torch.no_grad():
            scale, shift = self._wider(log_width)
            for network in self.networks:
                last = network[-1]  # type: ignore[index]
                last.weight *= scale[:, None]
                last.bias.mul_(scale).add_(shift)
            return scale * out + shift

    def _wider(self, log_width: Tensor) -> tuple[Tensor, Tensor]:
        """Of log widths (P,) scale and shift of what the network gives, each of its length, that make
        K diag(1 / width) of every K.
        """
        row, column = torch.tril_indices(self.scalars, self.scalars)
        diagonal, of_column = row == column, log_width[column]
        kept = log_width.new_zeros(1 + self.scalars)
        scale = torch.cat([kept, of_column.masked_fill(diagonal, 0.0)]).neg().exp()
        return scale.repeat(_LAWS), torch.cat([kept, -of_column * diagonal]).repeat(_LAWS)

    def _start(self) -> Tensor:
        """Numbers of laws apart that have together, of each scalar, mean zero and variance one."""
        means = torch.randn(_LAWS, self.scalars, generator=generator(derive_seed(0, "laws apart")))
        means = _SPREAD * (means - means.mean(0)) / means.std(0, correction=0)
        start = torch.zeros(_LAWS, self._each)
        start[:, 1 : 1 + self.scalars] = means
        row, column = torch.tril_indices(self.scalars, self.scalars)
        start[:, 1 + self.scalars :][:, row == column] = -0.5 * math.log1p(-(_SPREAD**2))
        return start.flatten()

    def _losses(self, out: Tensor, white: Tensor) -> Tensor:
        """Minus the log densities of white scalars (B, P), without their constant, (B,)."""
        log_weight, mean, factor = self._split(out)
        inside = (factor @ (white[:, None] - mean)[..., None])[..., 0]
        log_diagonal = factor.diagonal(dim1=-2, dim2=-1).log()
        each = log_weight - 0.5 * inside.square().sum(-1) + log_diagonal.sum(-1)
        return -torch.logsumexp(each, 1)

    def _split(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ln p (B, K), mu (B, K, P) and K (B, K, P, P) of what N networks give, (B, N, numbers)."""
        by_law = out.unflatten(2, (_LAWS, self._each))
        log_weight = by_law[..., 0].log_softmax(2) - math.log(out.shape[1])
        by_law = by_law.flatten(1, 2)
        mean, numbers = by_law[..., 1 : 1 + self.scalars], by_law[..., 1 + self.scalars :]
        return log_weight.flatten(1), mean, triangular(numbers, self.scalars, _MOST_LOG)

    @torch.no_grad()
    def forward(self, told: Tensor) -> Mixture:
        """The law given what is told, (B, W)."""
        first = self.first(told)
        if self.components is None or not self.learned:
            return first.alone()
        log_weight, shift, factor = self._split(self._out(told, first.mean))
        root = torch.linalg.cholesky(self.first.covariance)
        mean = first.mean[:, None] + shift @ root.T.to(shift.dtype)
        root = torch.linalg.solve_triangular(factor.double(), root, upper=False, left=False)
        each = Normal.of(mean, root @ root.mT)
        return Mixture(log_weight, *each.parts())


def better(gain: Tensor) -> bool:
    """Whether gains in log likelihood (M,), of at most `_MOST_GAIN` each, are above zero for certain."""
    gain = gain.clamp(max=_MOST_GAIN)
    return bool(gain.mean() > _CERTAIN * gain.std(correction=0) / math.sqrt(len(gain)))
