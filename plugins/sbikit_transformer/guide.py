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

from sbikit import Values, derive_seed, generator
from sbikit.fields import Rings
from sbikit.learning import Parts
from sbikit_transformer.linear_model import LinearModel, fit_model
from sbikit_transformer.polynomials import fit_least_squares, quadratic

# Share of the likelihood in each round of nodes. The first rounds see part of it, so that their few nodes
# near the data do not take all the weight; the last must be 1. A further round costs as much as each of
# these.
_ROUNDS = (0.5, 0.75, 1.0)
# Tempers tried, at noise levels over which draws are decided: finer grids cost more of the fit, and tempers
# between levels are interpolated.
_TEMPERS = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
_LOG_SIGMAS = (-3.0, -1.5, -0.5, 0.5, 1.5, 3.0)
# Simulations that choose the tempers: all tempers see the same ones, so few tell them apart.
_JUDGES = 512
# Nodes are drawn from a normal this much wider than the weighted nodes, and never narrower than this share
# of what found them: wider ones waste nodes, narrower ones miss tails, and one node of all the weight would
# make a point of them.
_WIDEN = 1.2
_KEEP = 0.2
# Prior standard deviations within which the quadratics are trusted; one prior draw in 16,000 lies beyond. A
# larger value extrapolates them, a smaller one flattens what simulations still tell.
_REACH = 4.0
# Least variances of a scalar in units of its prior's: before the data speak, where vectors tell all of it,
# and after, where all weight is on one node. Both are far below what a network of float32 resolves.
_LEAST_PRIOR = 1e-8
_LEAST_POSTERIOR = 1e-10
_AT_ONCE = 2**22  # numbers of fields in a piece of the fit; the guide takes ten times their memory
_EDGE = 1e-9  # keeps a node of the Sobol sequence that is exactly 0 or 1 finite


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
class Proposal:
    """What nodes are drawn from: normals with mean (B, P) and root (B, P, P) of the covariance."""

    mean: Tensor
    root: Tensor

    def log_density(self, at: Tensor) -> Tensor:
        """(B, Q, P) -> (B, Q), without the constant."""
        white = torch.linalg.solve(self.root, (at - self.mean[:, None]).mT)
        return -0.5 * white.square().sum(1)

    @staticmethod
    def widened(mean: Tensor, covariance: Tensor, before: Proposal) -> Proposal:
        """A proposal around weighted nodes with float64 `covariance`, never much narrower than the nodes that
        found it. Scalars that the data tie to each other leave directions that float32 does not resolve.
        """
        root = before.root.double()
        wide = _WIDEN**2 * covariance + _KEEP**2 * root @ root.mT
        return Proposal(mean, torch.linalg.cholesky(wide).to(mean.dtype))


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
        self.rings = Rings.shells(grid) if channels else None
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
        self.register_buffer("nodes", ndtri(torch.from_numpy(sobol).clamp(_EDGE, 1 - _EDGE)).float())

    log_power: Tensor
    log_noise: Tensor
    slope: Tensor
    linear: Tensor
    covariance: Tensor
    temper: Tensor
    nodes: Tensor

    def fit(self, parts: Parts) -> None:
        """Fit to simulations.

        Args:
            parts: "u" (m, P), white scalars; "field" (m, C, *grid), the latent field; "data" (m, C, *grid),
                its data field, one a channel; "vectors" (m, V), standardised observed vectors.
        """
        told = parts.through(lambda part: {name: part[name] for name in ("u", "vectors")}).joined()
        u, vectors = told["u"], told["vectors"]
        constant = torch.cat([torch.ones(len(u), 1), vectors], dim=1).double()
        if self.observed:
            self.linear.copy_(fit_least_squares(constant, u.double()))
        residual = u.double() - constant @ self.linear.double()
        self.covariance.copy_(torch.atleast_2d(torch.cov(residual.T)))
        rings = self.rings
        if rings is None:
            return

        def modes(part: Values) -> dict[str, Tensor]:
            y, d = rings.transform(part["field"]), rings.transform(part["data"])
            return {"u": part["u"], "y": y, "d": d}

        fitted = fit_model(parts.through(modes), rings)
        for found, kept in zip(fitted, (self.log_power, self.log_noise, self.slope), strict=True):
            kept.copy_(found)

        def judged(part: Values) -> dict[str, Tensor]:
            d = rings.transform(part["data"])
            return {"u": part["u"], "field": part["field"], "d": d, "vectors": part["vectors"]}

        some = parts.up_to(_JUDGES).through(judged).joined()
        self._fit_temper(some["u"], some["field"], some["d"], some["vectors"])

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
                level = torch.tensor(math.exp(log_sigma))
                means = [
                    self(
                        u[rows] + level * noisy[0][rows],
                        field[rows] + level * noisy[1][rows],
                        data_modes[rows],
                        vectors[rows],
                        level.expand(len(u[rows])),
                    ).mean
                    for rows in pieces(len(u), field[0].numel())
                ]
                scores[i, j] = (u - torch.cat(means)).square().mean(0).clamp_min(_LEAST_PRIOR).log().mean()
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
            return Guess(prior.mean, sd, correlations(covariance, sd), field, field.new_zeros(len(u), 0))
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
                share * temper * model.log_likelihood(sums, noise, rings.count)
                + prior.log_density(at)
                + 0.5 * self.nodes.square().sum(-1),
                dim=1,
            )
            mean = torch.einsum("bq,bqp->bp", weight, at)
            offset = (at - mean[:, None]).double()
            covariance = torch.einsum("bq,bqi,bqj->bij", weight.double(), offset, offset)
            proposal = Proposal.widened(mean, covariance, proposal)
        covariance = covariance.to(u.dtype)
        sd = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(_LEAST_POSTERIOR).sqrt()
        w, error = model.wiener(weight, (y, data_modes), noise, rings)
        return Guess(mean, sd, correlations(covariance, sd), w, error)

    def _model(self, at: Tensor) -> LinearModel:
        """Spectra at nodes (B, Q, P)."""
        coefficients = torch.stack([self.log_power, self.log_noise, self.slope]).permute(2, 0, 1, 3)
        values = quadratic(at.clamp(-_REACH, _REACH)) @ coefficients.flatten(1)
        power, noise, slope = values.unflatten(-1, coefficients.shape[1:]).unbind(2)
        return LinearModel(torch.exp(power), torch.exp(noise), slope)

    def _given_noisy(self, u: Tensor, prior: Tensor, sigma: Tensor) -> Proposal:
        """p(u | u + sigma e, v)."""
        values, basis = torch.linalg.eigh(self.covariance)
        values = values.clamp_min(_LEAST_PRIOR)
        noise = sigma.square()[:, None]
        gain = values / (values + noise)
        mean = prior + ((u - prior) @ basis * gain) @ basis.T
        return Proposal(mean, basis * (gain * noise).sqrt()[:, None, :])


def pieces(rows: int, numbers: int) -> list[slice]:
    """So many rows of so many numbers each, in pieces for which the guide takes little memory."""
    size = max(1, _AT_ONCE // max(1, numbers))
    return [slice(first, first + size) for first in range(0, rows, size)]


def interpolate(log_sigma: Tensor, values: Tensor) -> Tensor:
    """Linear interpolation in ln sigma of values given at the levels of the temper, constant beyond."""
    knots = torch.tensor(_LOG_SIGMAS, device=values.device)
    right = torch.searchsorted(knots, log_sigma).clamp(1, len(knots) - 1)
    share = (log_sigma - knots[right - 1]) / (knots[right] - knots[right - 1])
    return torch.lerp(values[right - 1], values[right], share.clamp(0.0, 1.0))


def correlations(covariance: Tensor, sd: Tensor) -> Tensor:
    """Correlations above the diagonal, (B, P, P), (B, P) -> (B, P (P - 1) / 2)."""
    size = sd.shape[-1]
    row, column = torch.triu_indices(size, size, offset=1)
    scale = (sd[:, row] * sd[:, column]).clamp_min(math.ulp(1.0))
    return (covariance[:, row, column] / scale).clamp(-1.0, 1.0)
