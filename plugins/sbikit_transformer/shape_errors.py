r"""What the guide's field errs along its shapes, given what is known besides.

The guide's field W is linear in data and in the noisy field. Where fields are not Gaussian the mean of the
clean field y given both bends with W, the more the larger the parameters make it, and most of that lies along
a few directions phi of W, see `shapes`. With e the rms error that the guide expects, the field is taken to be

    W + e sum_i a_i phi_i,    a = A^T f,

of features f: the quadratics of the parameters, the moments of W, their squares and the variance, the
innovations along each direction, and what of the parameters data did not let expect. The directions of one
field are not orthogonal to each other; A is found by least squares of

    G^-1 phi^T (y - W) / e,    G = phi^T phi,

whose mean given all that is known is the best a, at several noise levels, and taken linearly in ln sigma
between them. Its ridge is chosen by generalised cross-validation; and of what lowers the squares by g times
three standard errors, 1 - 1 / g^2 is taken, nothing where g < 1, the positive part of a shrinkage.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sbikit import Monitor
from sbikit.learning import LeastSquares
from sbikit_transformer.conditions import FARTHEST
from sbikit_transformer.guide import REACH
from sbikit_transformer.levels import between
from sbikit_transformer.polynomials import Quadratic
from sbikit_transformer.shapes import COUNT, Shapes

# Noise levels, ln sigma, at which A is found.
_FIRST, _LAST, _LEVELS = -3.0, 5.0, 9
# Ridges tried, in units of the features' squares; the first leaves nothing of a.
_RIDGES = (1e4, 1.0, 1e-1, 1e-2, 1e-3, 1e-4)
_RIDGE = 1e-3  # of G, whose diagonal is 1: directions of a field that is nearly one wave are the same
# By how many standard errors squares must fall: f coefficients of nothing take f +- sqrt(2 f) of N squares.
_CERTAIN = 3.0
_TINY = 1e-12
# Features are of size one. One whose square is smaller than this is rounding errors, which are no unit of it.
_SMALL = 1e-6


class ShapeErrors(nn.Module):
    """The errors of a guide along shapes. Build empty, then `fit`, or load its state.

    Args:
        quadratic: features of the P parameters.
        channels: C of the field.
    """

    coefficients: Tensor
    most: Tensor
    levels: Tensor

    def __init__(self, quadratic: Quadratic, channels: int) -> None:
        super().__init__()
        self.quadratic, self.channels = quadratic, channels
        features = quadratic.count + (3 + 3 + 1 + COUNT) * channels + quadratic.scalars
        found = COUNT * channels
        self.register_buffer("coefficients", torch.zeros(_LEVELS, features, found))  # A
        # The largest |a| of the simulations that found A, beyond which it is not trusted.
        self.register_buffer("most", torch.zeros(_LEVELS, found))
        self.register_buffer("levels", torch.linspace(_FIRST, _LAST, _LEVELS), persistent=False)

    def forward(self, u: Tensor, surprise: Tensor, shapes: Shapes, log_sigma: Tensor) -> Tensor:
        """a, (B, C, COUNT).

        Args:
            u: (B, P), clean parameters.
            surprise: (B, P), what of them data did not let expect, in standard deviations.
            shapes: of the guide's field.
            log_sigma: (B,), of the noise.
        """
        features = self.features(u, surprise, shapes)
        below, share = between(log_sigma, self.levels)
        every = torch.einsum("bf,lfr->blr", features, self.coefficients).clamp(-self.most, self.most)
        rows = torch.arange(len(u), device=u.device)
        found = torch.lerp(every[rows, below], every[rows, below + 1], share[:, None])
        return found.unflatten(1, (self.channels, COUNT))

    def added(self, u: Tensor, surprise: Tensor, shapes: Shapes, log_sigma: Tensor) -> Tensor:
        """What is to be added to the guide's field, in units of its error, (B, C, *grid); see `forward`."""
        found = self(u, surprise, shapes, log_sigma)
        along: Tensor = (found[..., None, :] @ shapes.phi.flatten(3))[..., 0, :]
        return along.unflatten(-1, shapes.phi.shape[3:])

    def features(self, u: Tensor, surprise: Tensor, shapes: Shapes) -> Tensor:
        """f, (B, F); see `forward`."""
        moments = shapes.moments.clamp(-FARTHEST, FARTHEST)
        variance = moments[:, : self.channels].exp()
        of_parameters = self.quadratic(u.clamp(-REACH, REACH))
        innovations = shapes.innovations.flatten(1)
        return torch.cat([of_parameters, moments, moments.square(), variance, innovations, surprise], 1)

    @staticmethod
    def along(shapes: Shapes, left: Tensor) -> Tensor:
        """Of errors of a guide's field, (B, C, *grid), in units of those that it expects, the a that leaves
        least of them, (B, C, COUNT).
        """
        phi = shapes.phi.flatten(3).double()
        gram = phi @ phi.mT + _RIDGE * torch.eye(COUNT, dtype=phi.dtype, device=phi.device)
        projected = phi @ left.flatten(2)[..., None].double()
        return torch.linalg.solve(gram, projected)[..., 0].to(left.dtype)

    def fit(self, rows: Iterator[tuple[Tensor, Tensor]], monitor: Monitor) -> None:
        """Find A.

        Args:
            rows: of each of `levels` in turn features (m, F) and the a that are best, (m, C COUNT).
            monitor: is told how far it is.
        """
        with monitor.progress("fitting what the guide errs along shapes", _LEVELS) as advance:
            for level, (features, target) in enumerate(rows):
                # In units of each feature's own size, which a ridge then is of, too.
                unit = features.double().square().mean(0).clamp_min(_SMALL).sqrt()
                sums = LeastSquares(_TINY)
                sums.add(features.double() / unit, target.double())
                found, share = sums.cross_validated(torch.full_like(unit, ridge) for ridge in _RIDGES)
                found = found / unit[:, None]
                squares = (target - features @ found.to(features.dtype)).double().square().sum(0) / share
                gain = 1.0 - squares / target.double().square().sum(0).clamp_min(_TINY)
                free = len(features) * (1.0 - share.sqrt())  # coefficients found
                doubt = _CERTAIN * (2.0 * free).sqrt() / len(features) / gain.clamp_min(_TINY)
                self.coefficients[level] = found * (1.0 - doubt.square()).clamp_min(0.0)
                self.most[level] = (features @ self.coefficients[level]).abs().amax(0)
                advance(1)
