"""What of a conditioned density depends on the parameters alone, fitted once by polynomials in these.

The root R = S^1/2 of the power of G, the power P of kappa (conditioning.py), the shift lambda and the
variance v of G are fitted by Chebyshev polynomials (white_polynomials.py), R and P by few principal
components of theirs over the prior, each relative to its mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sbikit import Prior, one_thread
from sbikit_lognormal.chebyshev import regression
from sbikit_lognormal.field import Pixels, RandomField, multiplicity
from sbikit_lognormal.posterior.white_polynomials import WhitePolynomials, product
from sbikit_lognormal.spectra import Spectra

_POINTS = 2  # for each term; one would leave the fit free to swing between points, more cost time alone
_CHECKS = 64  # enough for an rms error that is right to a tenth
# Share of the factors' variance over the prior that is left out. 1e-8 keeps 12 components and has the
# gradient wrong by 3e-3, 1e-10 17 and 4e-4, 1e-12 28 and 4e-4.
_LEFT_OUT = 1e-10
_TOLERANCE = 1e-3  # rms error, in units of what varies over the prior; the gradient's is then some 2e-3
_BATCH = 64  # parameter vectors that are worked on at once, for the memory's sake


class FittedFactors:
    """Polynomials in the parameters for what of a conditioned density depends on these alone.

    Args:
        prior: of the parameters.
        spectra: spectra and shifts of parameter vectors.
        field: the law of the convergence, of one bin.
        device: where to compute.

    Attributes:
        polynomials: in the parameters.
        error: rms error where nothing was fitted, of the worst polynomial, in units of its rms variation over
            the prior, or of that of all factors together; not a number where the density is not defined.
    """

    def __init__(self, prior: Prior, spectra: Spectra, field: RandomField, device: torch.device) -> None:
        self.size = field.size
        self.polynomials = WhitePolynomials(prior, device)
        white = self.polynomials.scattered(_POINTS * self.polynomials.terms.shape[1] + _CHECKS)
        with one_thread(), torch.no_grad():
            parts = [self._made(prior, spectra, field, some) for some in white.split(_BATCH)]
            factors, scalars = (torch.cat(column) for column in zip(*parts, strict=True))
            self.error = math.nan
            if bool(torch.isfinite(factors).all() and torch.isfinite(scalars).all()):
                self._fit(white, factors, scalars)

    def _made(
        self, prior: Prior, spectra: Spectra, field: RandomField, white: Tensor
    ) -> tuple[Tensor, Tensor]:
        """R and P (Q, 2, lags), and lambda and v (Q, 2), at coordinates (Q, D)."""
        found = field.described(*spectra(prior.from_white(white)))
        first, second = (torch.from_numpy(axis).to(white.device) for axis in Pixels(self.size, 1.0).lags)
        factors = torch.cat([found.gaussian.root, found.power], -3)[..., first, second]
        return factors, torch.cat([found.gain, found.gaussian.variance], -1)

    def _fit(self, white: Tensor, factors: Tensor, scalars: Tensor) -> None:
        """Fit to all but the last points, and keep how well these are met."""
        lags = factors.shape[-1]
        first, second = Pixels(self.size, 1.0).lags
        times = multiplicity(self.size)[first, second] * np.where(first == second, 1.0, 2.0)
        centre = factors[:-_CHECKS].mean(0)
        # Relative to what they are: power spans decades, and every mode counts.
        weight = torch.from_numpy(times).to(white).sqrt() / centre
        varied = ((factors - centre) * weight).flatten(1)
        sizes, vectors = torch.linalg.eigh(varied[:-_CHECKS] @ varied[:-_CHECKS].T)
        rank = int((sizes.cumsum(0) > _LEFT_OUT * sizes.sum()).sum())
        basis = (vectors[:, -rank:] / sizes[-rank:].sqrt()).T @ varied[:-_CHECKS]
        targets = torch.cat([varied @ basis.T, scalars], -1)
        solution, fitted = regression(self.polynomials.features(white), targets, _CHECKS)
        missed = (fitted - targets[-_CHECKS:]).square().mean(0).sqrt()
        spread = targets.std(0)
        spread[:rank] = spread[:rank].square().sum().sqrt()
        self.error = float((missed / (spread + _TOLERANCE * targets.mean(0).abs())).max())
        self.rank, self.solution = rank, solution.float()
        self.centre = self._on_quadrant(centre)
        self.basis = self._on_quadrant((basis.unflatten(-1, (2, lags)) / weight).transpose(0, 1))

    def _on_quadrant(self, values: Tensor) -> Tensor:
        """Values at the distinct lags (..., lags) on the quadrant, (..., H^2), float32."""
        half = self.size // 2 + 1
        index = torch.from_numpy(Pixels(self.size, 1.0).lag_index[:half, :half].copy()).to(values.device)
        return values[..., index].flatten(-2).float().contiguous()


class Point:
    """The fit at some parameters, and the way back.

    Args:
        fitted: the fit.
        white: t (..., D), float64.

    Attributes:
        modes: R and P, each (..., H^2).
        scalars: lambda and v, (..., 2).
    """

    def __init__(self, fitted: FittedFactors, white: Tensor) -> None:
        self._fitted = fitted
        orders = fitted.polynomials.orders
        angles, self._slopes = fitted.polynomials.angles(white)
        waves = angles.unsqueeze(-1) * orders
        self._cosines = fitted.polynomials.pick(waves.cos().float())
        self._sines = fitted.polynomials.pick((-orders * waves.sin()).float())
        values = product(self._cosines) @ fitted.solution
        scores, self.scalars = values.split([fitted.rank, 2], -1)
        flat, shape = scores.flatten(0, -2), scores.shape[:-1]
        both = zip(fitted.centre, fitted.basis, strict=True)
        self.modes = [torch.addmm(centre, flat, basis).unflatten(0, shape) for centre, basis in both]

    def pull_back(self, by_modes: Sequence[Tensor], by_scalars: Tensor) -> Tensor:
        """The derivative by t (..., D), of those by `modes` and `scalars`; float64."""
        both = zip(by_modes, self._fitted.basis, strict=True)
        by_scores = torch.stack([by @ basis.T for by, basis in both]).sum(0)
        by_terms = torch.cat([by_scores, by_scalars], -1) @ self._fitted.solution.T
        parts = []
        for d, sine in enumerate(self._sines):
            others = [sine if e == d else cosine for e, cosine in enumerate(self._cosines)]
            parts.append((by_terms * product(others)).sum(-1))
        return torch.stack(parts, -1) * self._slopes


def fitted_factors(
    prior: Prior, spectra: Spectra, field: RandomField, device: torch.device
) -> FittedFactors | None:
    """A fit good enough to steer by, if there is one; arguments as of `FittedFactors`."""
    found = FittedFactors(prior, spectra, field, device)
    return found if found.error < _TOLERANCE else None
