r"""The law of the mean of each channel of a field, given the P scalars and what is told of data.

Modes of a stationary field are independent of each other, so the guide has data tell of its mean, the mode
k = 0, by their own mean alone, and shear has none. Where the field is not Gaussian its power goes with its
mean: data that have more power than the scalars let expect tell of a higher one. With C channels, m_i the
amplitude of mode zero of each, and x what follows,

    m_i = b_i . x + sum_(j<i) a_ij m_j + e_i,    e_i ~ N(0, v_i),

a least-squares law whose log v_i are quadratic in the scalars. x are the quadratic features of the scalars,
the components of what is told (see `fitted_components`), the data's own means, and the products of both with
the scalars: what is to be expected of them depends on these.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sbikit_transformer.data_posterior import better
from sbikit_transformer.guide import REACH
from sbikit_transformer.linear_model import OfMean
from sbikit_transformer.normal import pairs
from sbikit_transformer.polynomials import Quadratic, fit_gamma, least_squares

# Least variance of a mean, in units of the field's own: of a channel whose mean is the same everywhere.
_LEAST_VARIANCE = 1e-10
_AT_ONCE = 8192


class MeanLaw(nn.Module):
    """The law of C means. Build empty, then `fit`, or load its state.

    Args:
        quadratic: features of the scalars.
        channels: C.
        components: how many components of what is told there are, R.
    """

    linear: Tensor
    slope: Tensor
    log_variance: Tensor
    learned: Tensor

    def __init__(self, quadratic: Quadratic, channels: int, components: int) -> None:
        super().__init__()
        self.quadratic, self.channels = quadratic, channels
        features = quadratic.count + (components + channels) * (1 + quadratic.scalars)
        self.register_buffer("linear", torch.zeros(features, channels))
        self.register_buffer("slope", torch.zeros(pairs(channels)))
        self.register_buffer("log_variance", torch.zeros(quadratic.count, channels))
        self.register_buffer("learned", torch.zeros((), dtype=torch.bool))

    def fit(self, u: Tensor, components: Tensor, data: Tensor, mean: Tensor, expected: OfMean) -> None:
        """Fit to simulations, the first of which judge whether this is better than what the guide expects.

        Args:
            u: (M, P) white scalars.
            components: (M, R), standardised.
            data: amplitudes of the data's mode zero, (M, C).
            mean: the field's, (M, C).
            expected: by the guide of the first of them, which judge and do not teach.
        """
        judges = len(expected.mean)
        taught = slice(judges, None)
        features, targets = self._features(u, components, data)[taught], mean[taught].double()
        squares = []
        first = 0
        for i in range(self.channels):
            x = torch.cat([features, targets[:, :i]], 1)
            found = least_squares()
            for rows, target in zip(x.split(_AT_ONCE), targets[:, i : i + 1].split(_AT_ONCE), strict=True):
                found.add(rows, target)
            solution = found.solution()
            squares.append((targets[:, i : i + 1] - x @ solution).square())
            self.linear[:, i] = solution[: features.shape[1], 0]
            self.slope[first : first + i] = solution[features.shape[1] :, 0]
            first += i
        of_scalars = self.quadratic(u[taught].clamp(-REACH, REACH)).double()
        self.log_variance.copy_(fit_gamma(of_scalars, torch.cat(squares, 1) + _LEAST_VARIANCE))
        some = slice(0, judges)
        own = self.of(u[some], components[some], data[some])
        self.learned.fill_(better(own.log_density(mean[some]) - expected.log_density(mean[some])))

    def forward(self, u: Tensor, components: Tensor, data: Tensor) -> OfMean | None:
        """The law given scalars (B, P), components (B, R) and the data's means (B, C), if one is learned."""
        return self.of(u, components, data) if bool(self.learned) else None

    def of(self, u: Tensor, components: Tensor, data: Tensor) -> OfMean:
        """The same, learned or not."""
        size = self.channels
        row, column = torch.tril_indices(size, size, offset=-1)
        told = torch.eye(size, dtype=torch.float64, device=u.device)
        told[row, column] = -self.slope.double()
        left = self._features(u, components, data) @ self.linear.double()
        mean = torch.linalg.solve_triangular(told, left.T, upper=False).T
        variance = (self.quadratic(u.clamp(-REACH, REACH)) @ self.log_variance).double().exp()
        return OfMean(mean, told.T @ (told / variance[..., None]))

    def _features(self, u: Tensor, components: Tensor, data: Tensor) -> Tensor:
        """x, (B, F), float64."""
        u = u.clamp(-REACH, REACH)
        natural = self.quadratic.natural(u)
        seen = torch.cat([components, data], 1)
        products = (seen[:, :, None] * natural[:, None]).flatten(1)
        return torch.cat([self.quadratic(u), seen, products], 1).double()
