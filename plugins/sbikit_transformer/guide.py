r"""The Gaussian guide: the exact joint denoiser of a Gaussian model with unknown parameters.

The model, fitted once to training simulations, in orthonormal Fourier modes of ring r,

    y ~ N(0, P_r(u)),    d = b_r(u) y + n,    n ~ N(0, N_r(u)),    u ~ N(m(v), C),

has y the latent field, d the data field most correlated with it, u the P latent scalars in white
coordinates and v the observed vectors; log P, log N and b are quadratic in u, m is linear in v.

Given a noisy state y + sigma e and u + sigma e', nodes u_q spread over the Gaussian
p(u | u + sigma e', v) are weighted by the tempered likelihood of (y + sigma e, d), which depends on
the field through three sums a ring. Nodes are drawn anew around what the last ones found (adaptive
importance sampling), since few nodes of the first round lie where the data allow. The weighted
nodes give mean, sd and correlation of u; the weighted Wiener filter gives the mean W of y and its
error. The network learns what is left.

What the guide leaves out (non-Gaussian fields, masks) costs accuracy of the starting point, never
correctness of what is learned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.stats import qmc
from torch import Tensor
from torch.special import ndtri

from sbikit.problem.seeds import derive_seed, generator
from sbikit_transformer.fourier import Rings
from sbikit_transformer.polynomials import fit_gamma, fit_least_squares, quadratic

_ROUNDS = (0.5, 0.75, 1.0)
_TEMPERS = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
_LOG_SIGMAS = (-3.0, -1.5, -0.5, 0.5, 1.5, 3.0)
_JUDGES = 512
_WIDEN = 1.2
_KEEP = 0.2
_REACH = 4.0
_FLOOR = 1e-6


@dataclass(frozen=True)
class Guess:
    """What the guide says of a noisy state.

    Args:
        mean: (B, P) of the scalars.
        sd: (B, P).
        correlation: (B, P (P - 1) / 2).
        field: (B, C, *grid) mean of the field, W.
        error: (B, C) rms error of W that the model expects.
    """

    mean: Tensor
    sd: Tensor
    correlation: Tensor
    field: Tensor
    error: Tensor


@dataclass(frozen=True)
class Normal:
    """Normal distributions of the scalars: mean (B, P), root (B, P, P) of the covariance."""

    mean: Tensor
    root: Tensor

    def log_density(self, at: Tensor) -> Tensor:
        """(B, Q, P) -> (B, Q), without the constant."""
        white = torch.linalg.solve(self.root, (at - self.mean[:, None]).mT)
        return -0.5 * white.square().sum(1)

    @staticmethod
    def widened(mean: Tensor, covariance: Tensor, before: Normal) -> Normal:
        """A proposal around weighted nodes, never much narrower than the nodes that found it."""
        wide = _WIDEN**2 * covariance + _KEEP**2 * before.root @ before.root.mT
        return Normal(mean, torch.linalg.cholesky(wide))


@dataclass(frozen=True)
class Model:
    """Spectra at the nodes, each (B, Q, C, rings): power, noise and slope of the model above."""

    power: Tensor
    noise: Tensor
    slope: Tensor


class Guide(torch.nn.Module):
    """A fitted guide. Build empty, then `fit`, or load its state.

    Args:
        scalars: P.
        channels: C of the latent field, 0 for none.
        grid: its grid.
        observed: length V of the observed vectors together, 0 for none.
        nodes: number of quadrature nodes.
    """

    def __init__(self, scalars: int, channels: int, grid: tuple[int, ...], observed: int, nodes: int) -> None:
        super().__init__()
        self.scalars, self.channels, self.observed = scalars, channels, observed
        self.rings = Rings(grid) if channels else None
        rings = len(self.rings) if self.rings is not None else 0
        features = 1 + scalars + scalars * (scalars + 1) // 2
        shapes = {
            "log_power": (channels, features, rings),
            "log_noise": (channels, features, rings),
            "slope": (channels, features, rings),
            "linear": (1 + observed, scalars),
            "covariance": (scalars, scalars),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("temper", torch.ones(len(_LOG_SIGMAS)))
        sobol = qmc.Sobol(scalars, scramble=True, rng=0).random(nodes)
        self.register_buffer("nodes", ndtri(torch.from_numpy(sobol).clamp(1e-9, 1 - 1e-9)).float())

    log_power: Tensor
    log_noise: Tensor
    slope: Tensor
    linear: Tensor
    covariance: Tensor
    temper: Tensor
    nodes: Tensor

    def fit(self, u: Tensor, field: Tensor, data: Tensor, vectors: Tensor) -> None:
        """Fit to M simulations.

        Args:
            u: (M, P) white scalars.
            field: (M, C, *grid) latent field.
            data: (M, C, *grid) its data field, one a channel.
            vectors: (M, V) standardised observed vectors.
        """
        constant = torch.cat([torch.ones(len(u), 1), vectors], dim=1).double()
        if self.observed:
            self.linear.copy_(fit_least_squares(constant, u.double()))
        residual = u.double() - constant @ self.linear.double()
        self.covariance.copy_(torch.atleast_2d(torch.cov(residual.T)))
        if self.rings is None:
            return
        features = quadratic(u).double()
        for channel in range(self.channels):
            y = self.rings.transform(field[:, channel])
            d = self.rings.transform(data[:, channel])
            p_y = self.rings.power(y, y).double() / self.rings.count
            p_c = self.rings.power(y, d).double() / self.rings.count
            floor = _FLOOR * self.rings.power(d, d).sum(-1).mean() / self.rings.count.sum() + 1e-12
            log_power = fit_gamma(features, p_y + _FLOOR * p_y.mean())
            weighted = p_y.sqrt().mean(0)
            slope = _fit_slope(features, p_y / weighted**2, p_c / weighted**2)
            b = features @ slope
            b_modes = b[:, self.rings.index].to(y.dtype)
            left = d - b_modes * y
            p_n = self.rings.power(left, left).double() / self.rings.count
            self.log_power[channel] = log_power
            self.slope[channel] = slope
            self.log_noise[channel] = fit_gamma(features, p_n + floor)

        self._fit_temper(*(part[:_JUDGES] for part in (u, field, self.rings.transform(data), vectors)))

    def _fit_temper(self, u: Tensor, field: Tensor, data_modes: Tensor, vectors: Tensor) -> None:
        """At each noise level the temper whose mean is nearest to the true scalars.

        A field that is not Gaussian tells less of the parameters than a Gaussian one of its
        spectrum would; a temper below one says so.
        """
        noise = generator(derive_seed(0, "guide", "temper"))
        noisy = [torch.randn(part.shape, generator=noise) for part in (u, field)]
        scores = torch.empty(len(_TEMPERS), len(_LOG_SIGMAS))
        for i, temper in enumerate(_TEMPERS):
            self.temper.fill_(temper)
            for j, log_sigma in enumerate(_LOG_SIGMAS):
                sigma = torch.full((len(u),), math.exp(log_sigma))
                state = (u + sigma[0] * noisy[0], field + sigma[0] * noisy[1])
                guess = self(*state, data_modes, vectors, sigma)
                scores[i, j] = (u - guess.mean).square().mean(0).log().mean()
        self.temper.copy_(torch.tensor(_TEMPERS)[scores.argmin(0)])

    def prior(self, vectors: Tensor) -> Tensor:
        """Mean of the scalars given the observed vectors alone, (B, V) -> (B, P)."""
        return self.linear[0] + vectors @ self.linear[1:]

    def forward(self, u: Tensor, field: Tensor, data_modes: Tensor, vectors: Tensor, sigma: Tensor) -> Guess:
        """Denoise a state whose noise has level `sigma` in every scalar and pixel.

        Args:
            u: (B, P) noisy scalars.
            field: (B, C, *grid) noisy field.
            data_modes: (B, C, modes), `rings.transform` of the data field.
            vectors: (B, V) standardised observed vectors.
            sigma: (B,).
        """
        prior = self._given_noisy(u, self.prior(vectors), sigma)
        rings = self.rings
        if rings is None:
            sd = prior.root.square().sum(-1).sqrt()
            covariance = prior.root @ prior.root.mT
            return Guess(prior.mean, sd, _correlation(covariance, sd), field, field.new_zeros(len(u), 0))
        y = rings.transform(field)
        sums = (
            rings.power(y, y)[:, None],
            rings.power(y, data_modes)[:, None],
            rings.power(data_modes, data_modes)[:, None],
        )
        noise = sigma.square()[:, None, None, None]
        proposal = prior
        temper = interpolate(sigma.log(), self.temper)[:, None]
        for share in _ROUNDS:
            at = proposal.mean[:, None, :] + torch.einsum("qp,bip->bqi", self.nodes, proposal.root)
            model = self._model(at)
            weight = torch.softmax(
                share * temper * _log_likelihood(model, sums, noise, rings.count)
                + prior.log_density(at)
                + 0.5 * self.nodes.square().sum(-1),
                dim=1,
            )
            mean = torch.einsum("bq,bqp->bp", weight, at)
            offset = at - mean[:, None]
            covariance = torch.einsum("bq,bqi,bqj->bij", weight, offset, offset)
            proposal = Normal.widened(mean, covariance, proposal)
        sd = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(1e-10).sqrt()
        w, error = _wiener(model, weight, (y, data_modes), noise, rings)
        return Guess(mean, sd, _correlation(covariance, sd), w, error)

    def _model(self, at: Tensor) -> Model:
        """Spectra at nodes (B, Q, P)."""
        coefficients = torch.stack([self.log_power, self.log_noise, self.slope]).permute(2, 0, 1, 3)
        values = quadratic(at.clamp(-_REACH, _REACH)) @ coefficients.flatten(1)
        power, noise, slope = values.unflatten(-1, coefficients.shape[1:]).unbind(2)
        return Model(torch.exp(power), torch.exp(noise), slope)

    def _given_noisy(self, u: Tensor, prior: Tensor, sigma: Tensor) -> Normal:
        """p(u | u + sigma e, v)."""
        values, basis = torch.linalg.eigh(self.covariance)
        values = values.clamp_min(1e-8)
        noise = sigma.square()[:, None]
        gain = values / (values + noise)
        mean = prior + ((u - prior) @ basis * gain) @ basis.T
        return Normal(mean, basis * (gain * noise).sqrt()[:, None, :])


def interpolate(log_sigma: Tensor, values: Tensor) -> Tensor:
    """Linear interpolation in ln sigma of values given at the levels of the temper, constant beyond."""
    knots = torch.tensor(_LOG_SIGMAS, device=values.device)
    right = torch.searchsorted(knots, log_sigma).clamp(1, len(knots) - 1)
    share = (log_sigma - knots[right - 1]) / (knots[right] - knots[right - 1])
    return torch.lerp(values[right - 1], values[right], share.clamp(0.0, 1.0))


def _log_likelihood(
    model: Model, sums: tuple[Tensor, Tensor, Tensor], noise: Tensor, count: Tensor
) -> Tensor:
    """Log likelihood of noisy field and data at each node, (B, Q).

    Args:
        model: spectra at the nodes.
        sums: powers of noisy field, cross, data summed over rings, each (B, 1, C, rings).
        noise: variance of the noise on the field, (B, 1, 1, 1).
        count: modes a ring.
    """
    p_y, p_n, b = model.power, model.noise, model.slope
    s_yy, s_yd, s_dd = sums
    v_y = p_y + noise
    v_d = b.square() * p_y + p_n
    determinant = v_y * p_n + b.square() * p_y * noise
    quadratic_form = (v_d * s_yy - 2.0 * b * p_y * s_yd + v_y * s_dd) / determinant
    return -0.5 * (count * torch.log(determinant) + quadratic_form).sum((-1, -2))


def _wiener(
    model: Model, weight: Tensor, modes: tuple[Tensor, Tensor], noise: Tensor, rings: Rings
) -> tuple[Tensor, Tensor]:
    """Mean (B, C, *grid) of the clean field over the nodes, and its rms error (B, C).

    Args:
        model: spectra at the nodes.
        weight: (B, Q) of the nodes.
        modes: of noisy field and data, each (B, C, modes).
        noise: variance of the noise on the field, (B, 1, 1, 1).
        rings: of the grid.
    """
    p_y, p_n, b = model.power, model.noise, model.slope
    share = weight[:, :, None, None] / ((p_y + noise) * p_n + b.square() * p_y * noise)
    gain_y = (share * p_y * p_n).sum(1)
    gain_d = (share * b * p_y * noise).sum(1)
    mean = gain_y[..., rings.index] * modes[0] + gain_d[..., rings.index] * modes[1]
    variance = gain_y * noise[:, 0]
    return rings.inverse(mean), ((variance * rings.count).sum(-1) / rings.count.sum()).sqrt()


def _fit_slope(features: Tensor, p_y: Tensor, p_c: Tensor) -> Tensor:
    """b(u) of d = b y + n, quadratic in u, from ring powers: minimises sum p_y (b - p_c / p_y)^2."""
    columns = []
    for ring in range(p_y.shape[1]):
        weighted = features * p_y[:, ring : ring + 1].clamp_min(0.0)
        ridge = 1e-4 * len(features) * torch.eye(features.shape[1], dtype=features.dtype)
        columns.append(torch.linalg.solve(features.T @ weighted + ridge, features.T @ p_c[:, ring]))
    return torch.stack(columns, dim=1)


def _correlation(covariance: Tensor, sd: Tensor) -> Tensor:
    """Correlations above the diagonal, (B, P, P), (B, P) -> (B, P (P - 1) / 2)."""
    size = sd.shape[-1]
    row, column = torch.triu_indices(size, size, offset=1)
    scale = (sd[:, row] * sd[:, column]).clamp_min(math.ulp(1.0))
    return (covariance[:, row, column] / scale).clamp(-1.0, 1.0)
