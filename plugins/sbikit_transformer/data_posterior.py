r"""What data tell of the scalars, as a mixture of normal laws for each observation, learned.

With w what is told of an observation (vectors v and statistics of maps) and u the P latent scalars, K normal
laws of weights p_k(w) make up the law of u,

    u = m + R (mu_k(w) + K_k(w)^-1 e),    e ~ N(0, 1),

where N(m, R R^T) is a first law, exact for a model that is not the simulator's, and a small network learns
p, mu and the lower triangular K by maximum likelihood: an amortised posterior, as that of Papamakarios and
Murray 2016 (arXiv:1605.06376). It starts as what has the moments of the first law, and where training does
not help, the first law stays. That is linear in v, by least squares, or what the Gaussian guide makes of it
with the data.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sbikit import Monitor, derive_seed, generator
from sbikit_transformer.conditions import FARTHEST
from sbikit_transformer.normal import Mixture, Normal, pairs
from sbikit_transformer.polynomials import fit_least_squares
from sbikit_transformer.small_networks import fit_small, small_network

# Least variance of a scalar in units of its prior's, where vectors tell all of it; far below what a network
# of float32 resolves.
_LEAST_PRIOR = 1e-8
# Of log diagonals of K: a posterior e^8 times narrower or wider than the first law is as far as it goes.
_MOST_LOG = 8.0
# More scalars have the first law alone: their triangles are too large to learn so.
_MOST_SCALARS = 32
# Normal laws in a mixture. Of the quick preset's posteriors, learned from 131,000 simulations, 1 has the
# negative log likelihood -.226, 4 have -.329 and 8 -.352; 16, of 190,000, -.373.
_LAWS = 16
# Standard errors by which the mixture must be better than the first law, which is smoother and may be exact.
_CERTAIN = 3.0
# Spread of their means at the start, in standard deviations of the first law: together they have its moments.
_SPREAD = 0.5


class LinearLaw(nn.Module):
    """A normal law of P scalars whose mean is linear in V vectors; its covariance is the same for all."""

    linear: Tensor
    covariance: Tensor

    def __init__(self, scalars: int, vectors: int) -> None:
        super().__init__()
        self.register_buffer("linear", torch.zeros(1 + vectors, scalars))
        self.register_buffer("covariance", torch.eye(scalars, dtype=torch.float64))

    def fit(self, u: Tensor, vectors: Tensor) -> None:
        """Fit to scalars (M, P) and vectors (M, V) of simulations."""
        if vectors.shape[1]:
            constant = torch.cat([torch.ones(len(u), 1), vectors], 1)
            self.linear.copy_(fit_least_squares(constant.double(), u.double()))
        else:
            self.linear.copy_(u.mean(0, keepdim=True))
        left = u.double() - (self.linear[0] + vectors @ self.linear[1:]).double()
        values, basis = torch.linalg.eigh(torch.atleast_2d(torch.cov(left.T)))
        self.covariance.copy_((basis * values.clamp_min(_LEAST_PRIOR)) @ basis.T)

    def forward(self, vectors: Tensor) -> Normal:
        """The law given vectors (B, V)."""
        mean = self.linear[0] + vectors @ self.linear[1:]
        law = Normal.of(mean, self.covariance)
        return Normal(mean, law.variance.expand_as(mean), law.basis.expand(len(mean), -1, -1))


class DataPosterior(nn.Module):
    """Corrects a first law by what is told of the data, where simulations that judge find it better so.

    Args:
        scalars: P.
        told: length of what is told, W.
    """

    learned: Tensor

    def __init__(self, scalars: int, told: int) -> None:
        super().__init__()
        self.scalars = scalars
        self.network: nn.Sequential | None = None
        self.register_buffer("learned", torch.zeros((), dtype=torch.bool))
        if told and scalars <= _MOST_SCALARS:
            self._each = 1 + 2 * scalars + pairs(scalars)
            self.network = small_network(told + 2 * scalars + pairs(scalars), _LAWS * self._each)

    def fit(self, u: Tensor, first: Normal, told: Tensor, judges: int, monitor: Monitor) -> None:
        """Fit to simulations, the first of which judge and do not train.

        Args:
            u: (M, P) white scalars.
            first: the first law of each.
            told: (M, W), standardised.
            judges: how many judge.
            monitor: is told how far training is.
        """
        network = self.network
        if network is None:
            return
        left = (u.double() - first.mean.double())[..., None]
        white = torch.linalg.solve_triangular(_root(first), left, upper=False)[..., 0].float()
        inputs = self._inputs(first, told)
        fit_small(
            network,
            lambda rows: self._losses(network(inputs[rows]), white[rows]).mean(),
            len(u),
            judges=judges,
            start=self._start(),
            monitor=monitor,
        )
        with torch.no_grad():
            gain = 0.5 * white[:judges].square().sum(1) - self._losses(
                network(inputs[:judges]), white[:judges]
            )
        error = gain.std(correction=0) / math.sqrt(judges)
        self.learned.fill_(bool(gain.mean() > _CERTAIN * error))

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
        """ln p (B, K), mu (B, K, P) and K (B, K, P, P)."""
        by_law = out.unflatten(1, (_LAWS, self._each))
        mean, numbers = by_law[..., 1 : 1 + self.scalars], by_law[..., 1 + self.scalars :]
        row, column = torch.tril_indices(self.scalars, self.scalars)
        lower = numbers.new_zeros(*numbers.shape[:2], self.scalars, self.scalars)
        lower[..., row, column] = numbers
        diagonal = lower.diagonal(dim1=-2, dim2=-1).clamp(-_MOST_LOG, _MOST_LOG).exp()
        return by_law[..., 0].log_softmax(1), mean, lower.tril(-1) + torch.diag_embed(diagonal)

    @torch.no_grad()
    def forward(self, first: Normal, told: Tensor) -> Mixture:
        """The law given first laws and what is told, (B, W)."""
        if self.network is None or not self.learned:
            return first.alone()
        log_weight, shift, factor = self._split(self.network(self._inputs(first, told)))
        root = _root(first)[:, None]
        mean = first.mean[:, None] + (root.to(shift.dtype) @ shift[..., None])[..., 0]
        root = torch.linalg.solve_triangular(factor.double(), root, upper=False, left=False)
        each = Normal.of(mean, root @ root.mT)
        return Mixture(log_weight, *each.parts())

    def _inputs(self, first: Normal, told: Tensor) -> Tensor:
        return torch.cat([told.clamp(-FARTHEST, FARTHEST), first.moments()], 1)


def _root(law: Normal) -> Tensor:
    """Lower triangular, float64 (B, P, P): unlike axes it does not jump from one observation to the next."""
    return torch.linalg.cholesky(law.covariance)
