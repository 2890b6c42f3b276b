"""What of a conditioned density depends on the parameters alone, fitted once by polynomials in these.

The root R = S^1/2 of the power of G, the power P of kappa (conditioning.py), the shift lambda and the
variance v of G are fitted by Chebyshev polynomials in x(t), R and P by few principal components of theirs
over the prior, each relative to its mean. x is 2 Phi(t) - 1 where the law is uniform, so that polynomials in
the parameter are polynomials in x, and t / 4 elsewhere, constant beyond 4 sd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor
from torch.special import ndtri

from sbikit import Prior, Uniform
from sbikit_lognormal.blocks import one_thread
from sbikit_lognormal.conditioning import Conditioning
from sbikit_lognormal.field import Pixels, multiplicity
from sbikit_lognormal.theory import Spectra

_MOST_TERMS = 500
_MOST_DEGREE = 10
_WIDEST = 4.0
_CHECKS = 64
_LEFT_OUT = 1e-10  # share of the factors' variance over the prior
_TOLERANCE = 1e-3  # rms error, in units of what varies over the prior
_BATCH = 64


class FittedFactors:
    """Polynomials in the parameters for what of a conditioned density depends on these alone.

    Args:
        prior: of the parameters.
        spectra: spectra and shifts of parameter vectors.
        conditioning: the modes.

    Attributes:
        error: rms error where nothing was fitted, of the worst polynomial, in units of its rms variation over
            the prior, or of that of all factors together; not a number where the density is not defined.
    """

    def __init__(
        self, prior: Prior, spectra: Spectra, conditioning: Conditioning, device: torch.device
    ) -> None:
        laws = prior.laws.values()
        self.size = conditioning.field.size
        self.uniform = torch.tensor([isinstance(law, Uniform) for law in laws], device=device)
        powers = _powers(len(laws))
        self.powers = torch.tensor(powers, device=device).T.contiguous()
        self.orders = torch.arange(int(self.powers.max()) + 1, dtype=torch.float64, device=device)
        white = _scattered(2 * len(powers) + _CHECKS, self.uniform)
        with one_thread(), torch.no_grad():
            parts = [self._made(prior, spectra, conditioning, some) for some in white.split(_BATCH)]
            factors, scalars = (torch.cat(column) for column in zip(*parts, strict=True))
            self.error = math.nan
            if bool(torch.isfinite(factors).all() and torch.isfinite(scalars).all()):
                self._fit(white, factors, scalars)

    def _made(
        self, prior: Prior, spectra: Spectra, conditioning: Conditioning, white: Tensor
    ) -> tuple[Tensor, Tensor]:
        """R and P (Q, 2, lags), and lambda and v (Q, 2), at coordinates (Q, D)."""
        found = conditioning.modes(*spectra(prior.from_white(white)))
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
        features = self.features(white)
        solution = torch.linalg.lstsq(features[:-_CHECKS], targets[:-_CHECKS]).solution
        missed = (features @ solution - targets)[-_CHECKS:].square().mean(0).sqrt()
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

    def angles(self, white: Tensor) -> tuple[Tensor, Tensor]:
        """arccos x and its derivative by t, of t (..., D), float64."""
        # ndtr is 0 below -8.3, too early for a ratio with the density.
        below, above = 0.5 * torch.erfc(white / math.sqrt(2.0)), 0.5 * torch.erfc(-white / math.sqrt(2.0))
        density = torch.exp(-0.5 * white.square()) / math.sqrt(2.0 * math.pi)
        tiny = torch.finfo(torch.float64).tiny
        uniform = 2.0 * torch.atan2(below.sqrt(), above.sqrt())
        uniform_slope = -density / (above * below).clamp_min(tiny).sqrt()
        x = (white / _WIDEST).clamp(-1.0, 1.0)
        inside = x.abs() < 1.0
        slope = torch.where(inside, -1.0 / (_WIDEST * (1.0 - x.square()).clamp_min(tiny).sqrt()), 0.0)
        return torch.where(self.uniform, uniform, x.acos()), torch.where(self.uniform, uniform_slope, slope)

    def features(self, white: Tensor) -> Tensor:
        """Products of Chebyshev polynomials (..., terms), of t (..., D)."""
        angles, _ = self.angles(white)
        return _product(self.pick((angles.unsqueeze(-1) * self.orders).cos()))

    def pick(self, values: Tensor) -> list[Tensor]:
        """Of each parameter, its values (..., D, orders) in every term, (..., terms)."""
        return [values[..., d, :].index_select(-1, power) for d, power in enumerate(self.powers)]


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
        angles, self._slopes = fitted.angles(white)
        waves = angles.unsqueeze(-1) * fitted.orders
        self._cosines = fitted.pick(waves.cos().float())
        self._sines = fitted.pick((-fitted.orders * waves.sin()).float())
        values = _product(self._cosines) @ fitted.solution
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
            parts.append((by_terms * _product(others)).sum(-1))
        return torch.stack(parts, -1) * self._slopes


def fitted_factors(
    prior: Prior, spectra: Spectra, conditioning: Conditioning, device: torch.device
) -> FittedFactors | None:
    """A fit good enough to steer by, if there is one."""
    found = FittedFactors(prior, spectra, conditioning, device)
    return found if found.error < _TOLERANCE else None


def _degree(count: int) -> int:
    """The highest total degree of so many parameters that has not too many terms."""
    return max(d for d in range(_MOST_DEGREE + 1) if math.comb(d + count, count) <= _MOST_TERMS)


def _powers(count: int) -> list[tuple[int, ...]]:
    """Exponents of the terms of that degree."""
    factors = combinations_with_replacement(range(count + 1), _degree(count))  # the last one is 1
    return [tuple(some.count(d) for d in range(count)) for some in factors]


def _product(values: Sequence[Tensor]) -> Tensor:
    """The product of tensors, at least one."""
    total = values[0]
    for value in values[1:]:
        total = total * value
    return total


def _scattered(count: int, uniform: Tensor) -> Tensor:
    """Points (count, D) in the coordinates t, of a Sobol sequence, denser at the ends of the region."""
    sobol = qmc.Sobol(len(uniform), scramble=True, rng=np.random.default_rng(0))
    u = sobol.random_base2(math.ceil(math.log2(count)))[:count]
    x = torch.from_numpy(-np.cos(np.pi * u)).to(uniform.device).clamp(1e-9 - 1.0, 1.0 - 1e-9)
    return torch.where(uniform, ndtri(0.5 * (1.0 + x)), _WIDEST * x)


__all__ = ["FittedFactors", "Point", "fitted_factors"]
