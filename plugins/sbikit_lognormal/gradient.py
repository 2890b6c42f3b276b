"""The gradient of `density.ConditionedDensity`, fast enough to steer by: written out by hand, in float32.

What depends on the parameters t alone - the root R = S^1/2 of the power of G, the power P of kappa
(conditioning.py), the shift lambda and the variance v of G - is fitted once by Chebyshev polynomials in x(t),
R and P by few principal components of theirs over the prior. x is 2 Phi(t) - 1 where the law is uniform, so
that polynomials in the parameter are polynomials in x, and t / 4 elsewhere, constant beyond 4 sd.

With w = K d + U u, K = a and U = c^1/2, the orthonormal T from the numbers of the modes to the map,
G = T (R w) - v/2, kappa = lambda (e^G - 1), and the difference D = kappa - data, without its mean where that is
not seen,

    log f = -(|t|^2 + |w|^2 + |D|^2 / sigma^2) / 2 + sum_modes log U,
    g = T^T [-D (kappa + lambda) / sigma^2],   h = R g - w,   d log f / du = U h,

and by the chain rule what R, K and U change changes log f by w g, d h and u h + 1 / U. A sampler that accepts
by log f itself draws from f whatever it steers by (Neal 2011, arXiv:1206.1901, section 5.5); an error of the
gradient costs acceptance alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor
from torch.special import ndtr, ndtri

from sbikit import Prior, Uniform
from sbikit_lognormal.blocks import one_thread
from sbikit_lognormal.conditioning import Conditioning, on_numbers, on_quadrant
from sbikit_lognormal.field import Pixels, multiplicity, white_modes, white_numbers
from sbikit_lognormal.theory import Spectra

_MOST_TERMS = 500
_MOST_DEGREE = 10
_WIDEST = 4.0
_CHECKS = 64
_LEFT_OUT = 1e-8  # share of the factors' variance over the prior
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
        above, below = ndtr(white), ndtr(-white)
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


class Regression:
    """How data and noise make white modes, w = K d + U u, and the way back; see conditioning.py.

    Args:
        conditioning: whose formulas these are.
        modes: R and P, (..., H^2).
        gain: b, (...).
        mean: the numbers of the mode 0, d_0 and u_0, each (...).

    Attributes:
        known: K on the quadrant, (..., H, H), 0 in the mode 0.
        unknown: U, 1 there.
        mean: w_0, (...).
        by_mean_number: dw_0 / du_0, (...).
    """

    def __init__(
        self, conditioning: Conditioning, modes: Sequence[Tensor], gain: Tensor, mean: tuple[Tensor, Tensor]
    ) -> None:
        self._conditioning, self._gain = conditioning, gain
        size = conditioning.field.size
        self._square = (size // 2 + 1, size // 2 + 1)
        self._root, self._power = modes
        self._data_mean, self._number_mean = mean
        self._sd = self._root[..., 0] / size
        self.mean, self.by_mean_number = self._number_mean, torch.ones_like(self._number_mean)
        if conditioning.mean_seen:
            self._mean_response = gain * self._root[..., 0]
            self._mean_noise = self._power[..., 0] + conditioning.variance
            self._mean_known = self._mean_response / self._mean_noise
            self.by_mean_number = (1.0 - self._mean_response * self._mean_known).sqrt()
            self.mean = self._mean_known * self._data_mean + self.by_mean_number * self._number_mean
        amplitude, less = conditioning.field.given_mean(self._sd * self.mean, self._sd)
        self._amplitude, self._less = amplitude, less
        self._scale = amplitude.square() * less
        self._response = (amplitude * gain).unsqueeze(-1) * self._root
        self._noise = (self._scale.unsqueeze(-1) * self._power).add_(conditioning.variance)
        self._known = self._response / self._noise
        self._unknown = (self._response * self._known).neg_().add_(1.0).sqrt_()
        self._known[..., 0], self._unknown[..., 0] = 0.0, 1.0
        self.known = self._known.unflatten(-1, self._square)
        self.unknown = self._unknown.unflatten(-1, self._square)

    def pull_back(
        self, by_known: Tensor, by_unknown: Tensor, by_mean: Tensor, times: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Derivatives by R, P (..., H^2), b and the number of the mode 0 (...).

        Args:
            by_known: by K, (..., H, H).
            by_unknown: by U but for what sum log U adds, (..., H, H).
            by_mean: by w_0, (...), but for what it changes in the other modes.
            times: how many numbers a mode has, 0 for the mode 0, (H^2,).
        """
        by_known, by_unknown = by_known.flatten(-2), by_unknown.flatten(-2)
        by_known[..., 0] = by_unknown[..., 0] = 0.0
        by_product = (by_unknown + times / self._unknown).div_(self._unknown).mul_(-0.5)
        by_known = by_known + by_product * self._response
        by_response = (by_known / self._noise).add_(by_product * self._known)
        by_noise = -by_known * self._known / self._noise
        by_scaled = (by_response * self._root).sum(-1)
        by_scale = (by_noise * self._power).sum(-1)
        by_root = by_response * (self._amplitude * self._gain).unsqueeze(-1)
        by_power = by_noise * self._scale.unsqueeze(-1)
        by_gain = by_scaled * self._amplitude
        if self._conditioning.field.law == "log-normal":
            # A = exp(s w_0 - s^2 / 2) and A^2 B = exp(2 s w_0 - 2 s^2), with s the sd of the mean of G.
            one, two = by_scaled * self._amplitude * self._gain, by_scale * self._scale
            by_mean = by_mean + (one + 2.0 * two) * self._sd
            by_sd = one * (self.mean - self._sd) + two * (2.0 * self.mean - 4.0 * self._sd)
            by_root[..., 0] += by_sd / self._conditioning.field.size
        by_number = by_mean * self.by_mean_number
        if self._conditioning.mean_seen:
            by_left = 0.5 * (by_mean * self._number_mean + 1.0 / self.by_mean_number) / self.by_mean_number
            by_mean_known = by_mean * self._data_mean - by_left * self._mean_response
            by_mean_response = by_mean_known / self._mean_noise - by_left * self._mean_known
            by_root[..., 0] += by_mean_response * self._gain
            by_gain = by_gain + by_mean_response * self._root[..., 0]
            by_power[..., 0] -= by_mean_known * self._mean_known / self._mean_noise
        return by_root, by_power, by_gain, by_number


class QuickGradient:
    """The gradient at given data.

    Args:
        fitted: what depends on the parameters alone.
        conditioning: the modes that it was fitted to.
        numbers: d, those of the data's modes, (B, 1, N, N).
        data: convergence with noise, (B, 1, N, N).
    """

    def __init__(
        self, fitted: FittedFactors, conditioning: Conditioning, numbers: Tensor, data: Tensor
    ) -> None:
        self._fitted, self._conditioning, self._size = fitted, conditioning, data.shape[-1]
        self._numbers, self._data = numbers[:, 0].float(), data[:, 0].float()
        times = torch.from_numpy(multiplicity(self._size)).flatten().to(data.device, torch.float32)
        times[0] = 0.0
        self._times = times
        self._log_normal = conditioning.field.law == "log-normal"

    def __call__(self, z: Tensor) -> Tensor:
        """At coordinates (*n, B, size), of the same shape and precision."""
        count, square = len(self._fitted.powers), (self._size, self._size)
        parameters, numbers = z[..., :count].double(), z[..., count:].float().unflatten(-1, square)
        point = Point(self._fitted, parameters)
        shift, variance = point.scalars.unbind(-1)
        means = (self._numbers[..., 0, 0], numbers[..., 0, 0])
        regression = Regression(self._conditioning, point.modes, shift, means)
        half = self._size // 2 + 1
        quadrants = torch.stack([regression.known, regression.unknown, point.modes[0].unflatten(-1, (half, half))])
        known, unknown, root = on_numbers(quadrants).unbind()
        white = (known * self._numbers).addcmul_(unknown, numbers)
        white[..., 0, 0] = regression.mean
        field = torch.fft.irfft2(white_modes(root * white), s=square)
        by_map, by_shift, by_variance = self._by_map(field, shift, variance)
        by_modes = white_numbers(torch.fft.rfft2(by_map))
        by_white = (root * by_modes).sub_(white)
        products = torch.stack([white * by_modes, self._numbers * by_white, numbers * by_white])
        by_root, by_known, by_unknown = on_quadrant(products).unbind()
        more, by_power, by_gain, by_number = regression.pull_back(
            by_known, by_unknown, by_white[..., 0, 0], self._times
        )
        by_numbers = unknown.mul_(by_white)
        by_numbers[..., 0, 0] = by_number
        by_scalars = torch.stack([by_shift + by_gain, by_variance], -1)
        by_parameters = point.pull_back((more.add_(by_root.flatten(-2)), by_power), by_scalars) - parameters
        return torch.cat([by_parameters.to(z.dtype), by_numbers.flatten(-2).to(z.dtype)], -1)

    def _by_map(self, field: Tensor, shift: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives by the maps G + v/2 (..., N, N), which are overwritten, and by lambda and v (...)."""
        if not self._log_normal:
            return self._by_convergence(field.sub_(self._data)), torch.zeros_like(shift), torch.zeros_like(shift)
        lowest = shift[..., None, None]
        above = field.sub_((0.5 * variance)[..., None, None]).exp_().mul_(lowest)
        by_kappa = self._by_convergence(above - (self._data + lowest))
        total = by_kappa.sum((-2, -1))
        by_map = above.mul_(by_kappa)
        by_mean = by_map.sum((-2, -1))
        return by_map, by_mean / shift - total, -0.5 * by_mean

    def _by_convergence(self, difference: Tensor) -> Tensor:
        if not self._conditioning.mean_seen:
            difference = difference.sub_(difference.mean((-2, -1), keepdim=True))
        return difference.mul_(-1.0 / self._conditioning.variance)


def fitted_factors(
    prior: Prior, spectra: Spectra, conditioning: Conditioning, device: torch.device
) -> FittedFactors | None:
    """A fit good enough to steer by, if there is one."""
    if len(_powers(len(prior.laws))) > _MOST_TERMS:
        return None
    found = FittedFactors(prior, spectra, conditioning, device)
    return found if found.error < _TOLERANCE else None


def _powers(count: int) -> list[tuple[int, ...]]:
    """Exponents of the terms of the highest total degree that has not too many."""
    for degree in range(_MOST_DEGREE, 1, -1):
        if math.comb(degree + count, count) <= _MOST_TERMS:
            break
    return [p for p in product(range(degree + 1), repeat=count) if sum(p) <= degree]


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


__all__ = ["FittedFactors", "QuickGradient", "fitted_factors"]
