r"""The law of the mean of each channel of a field, given the P scalars and what is told of data.

Modes of a stationary field are independent of each other, so the guide has data tell of its mean, the mode
k = 0, by their own mean alone, and shear has none. Where the field is not Gaussian its power goes with its
mean: data that have more power than the scalars let expect tell of a higher one. With C channels and m the
amplitudes of mode zero, a first law is

    m = B^T x + A^T w + e,    T e ~ N(0, diag(v)),

A and B by least squares, T unit lower triangular, and log v quadratic in the scalars. w is all that is told
of data, x are the quadratic features of the scalars, the components of what is told (see
`fitted_components`), the data's own means, and the products of both with the scalars: what is to be expected
of them depends on these. Components were chosen to tell of the scalars, and given these the rest tells of
the mean. How far A shrinks, to nothing if need be, is chosen by generalised cross-validation, which tells the
variances of other simulations, too.

How much more power a higher mean makes grows with it, so that law bends: of diag(v)^(-1/2) T e, standard
normal by the first law, a small network learns mean and covariance (`LearnedNormal`), told scalars,
components, the data's means and what the first law expects.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from sbikit import Monitor
from sbikit_transformer.data_posterior import better
from sbikit_transformer.guide import REACH
from sbikit_transformer.learned_normal import LearnedNormal
from sbikit_transformer.polynomials import RIDGE, Quadratic, fit_gamma, least_squares

# Least variance of an amplitude, in units of a pixel's: of a channel whose mean is the same everywhere.
_LEAST_VARIANCE = 1e-10
_AT_ONCE = 8192  # rows: less memory
# Ridges of A that are tried, in units of the numbers' variances; the first leaves it out.
_RIDGES = (1e4, 1.0, 1e-1, 1e-2, 1e-3)


class MeanLaw(nn.Module):
    """The law of C means. Build empty, then `fit`, or load its state.

    Args:
        quadratic: features of the scalars.
        channels: C.
        components: how many components of what is told there are, R.
        told: length of what is told, W.
    """

    linear: Tensor
    of_told: Tensor
    apart: Tensor
    log_variance: Tensor
    learned: Tensor

    def __init__(self, quadratic: Quadratic, channels: int, components: int, told: int) -> None:
        super().__init__()
        self.quadratic = quadratic
        features = quadratic.count + (components + channels) * (1 + quadratic.scalars)
        self.register_buffer("linear", torch.zeros(features, channels))  # B
        self.register_buffer("of_told", torch.zeros(told, channels))  # A
        self.register_buffer("apart", torch.eye(channels))  # T
        self.register_buffer("log_variance", torch.zeros(quadratic.count, channels))
        self.register_buffer("learned", torch.zeros((), dtype=torch.bool))
        self.bend = LearnedNormal(quadratic.scalars + components + 2 * channels, channels)

    def fit(
        self,
        u: Tensor,
        components: Tensor,
        data: Tensor,
        told: Tensor,
        *,
        mean: Tensor,
        expected: MultivariateNormal,
        monitor: Monitor,
    ) -> None:
        """Fit to simulations, the first of which judge whether this is better than what the guide expects.

        Args:
            u: (M, P) white scalars.
            components: (M, R), standardised.
            data: amplitudes of the data's mode zero, (M, C).
            told: all that is told of data, (M, W), standardised; of half precision, where memory is short.
            mean: the field's, (M, C).
            expected: by the guide of the first of them, which judge and do not teach, (judges, C).
            monitor: is told how far training is.
        """
        judges = len(expected.mean)
        known = (u, components, data, told)
        every = list(zip(*(part.split(_AT_ONCE) for part in (*known, mean)), strict=True))
        parts = list(zip(*(part[judges:].split(_AT_ONCE) for part in (*known, mean)), strict=True))
        sums = least_squares()
        for *rows, target in parts:
            sums.add(self._numbers(*rows), target.double())
        sizes = torch.tensor([len(self.linear), len(self.of_told)])
        found, taught = sums.cross_validated(
            torch.tensor([RIDGE, ridge]).repeat_interleave(sizes) for ridge in _RIDGES
        )
        self.linear.copy_(found[: sizes[0]])
        self.of_told.copy_(found[sizes[0] :])
        left = torch.cat([target - self._mean(*rows) for *rows, target in parts])
        tied = left.T @ left / len(left) + _LEAST_VARIANCE * torch.eye(left.shape[1], dtype=left.dtype)
        root = torch.linalg.cholesky(tied)
        self.apart.copy_(torch.linalg.inv(root / root.diagonal()))
        squares = (left @ self.apart.double().T).square() / taught + _LEAST_VARIANCE
        self.log_variance.copy_(fit_gamma(self._of_scalars(u[judges:]).double(), squares))
        few, white = [], []
        for some_u, some, some_data, some_told, target in every:
            first = self._mean(some_u, some, some_data, some_told)
            few.append(self._few(some_u, some, some_data, first))
            white.append((self._root(some_u) @ (target - first)[..., None])[..., 0].to(u.dtype))
        self.bend.fit(torch.cat(few), torch.cat(white), judges, monitor)
        of_judges, target = self.of(*(part[:judges] for part in known)), mean[:judges].double()
        self.learned.fill_(better(of_judges.log_prob(target) - expected.log_prob(target)))

    def forward(self, u: Tensor, components: Tensor, data: Tensor, told: Tensor) -> MultivariateNormal | None:
        """The law, if one is learned, given scalars (B, P), components (B, R), the data's means (B, C), and
        what is told, (B, W).
        """
        return self.of(u, components, data, told) if bool(self.learned) else None

    def of(self, u: Tensor, components: Tensor, data: Tensor, told: Tensor) -> MultivariateNormal:
        """The same, learned or not: of B amplitudes (C,), in float64."""
        mean, root = self._mean(u, components, data, told), self._root(u)
        if bool(self.bend.used):
            shift, factor = self.bend(self._few(u, components, data, mean))
            shifted = torch.linalg.solve_triangular(root, shift.double()[..., None], upper=False)
            mean, root = mean + shifted[..., 0], factor.double() @ root
        return MultivariateNormal(mean, precision_matrix=root.mT @ root, validate_args=False)

    def _root(self, u: Tensor) -> Tensor:
        """diag(v)^(-1/2) T, (B, C, C), float64."""
        log_variance = (self._of_scalars(u) @ self.log_variance).double()
        return (-0.5 * log_variance).exp()[..., None] * self.apart.double()

    def _few(self, u: Tensor, components: Tensor, data: Tensor, mean: Tensor) -> Tensor:
        """What the network is told, before it is standardised, (B, P + R + 2 C), with what the first law
        expects.
        """
        natural = self.quadratic.natural(u.clamp(-REACH, REACH))
        return torch.cat([natural, components, data, mean.to(u.dtype)], 1)

    def _mean(self, u: Tensor, components: Tensor, data: Tensor, told: Tensor) -> Tensor:
        """B^T x + A^T w, (B, C), float64."""
        of_told = told.to(self.of_told.dtype) @ self.of_told
        return self._features(u, components, data) @ self.linear.double() + of_told.double()

    def _numbers(self, u: Tensor, components: Tensor, data: Tensor, told: Tensor) -> Tensor:
        """x and w, (B, F + W), float64."""
        return torch.cat([self._features(u, components, data), told.double()], 1)

    def _of_scalars(self, u: Tensor) -> Tensor:
        features: Tensor = self.quadratic(u.clamp(-REACH, REACH))
        return features

    def _features(self, u: Tensor, components: Tensor, data: Tensor) -> Tensor:
        """x, (B, F), float64."""
        natural = self.quadratic.natural(u.clamp(-REACH, REACH))
        seen = torch.cat([components, data], 1)
        products = (seen[:, :, None] * natural[:, None]).flatten(1)
        return torch.cat([self._of_scalars(u), seen, products], 1).double()
