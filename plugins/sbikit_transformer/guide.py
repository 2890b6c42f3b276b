r"""The Gaussian guide: exact posteriors of a Gaussian model with unknown parameters.

The model, fitted once to training simulations, is a normal law of all latent fields y and of the data field d
most correlated with each, jointly, in every ring of Fourier modes: see `linear_model`. Its log variances and
slopes are quadratic in the P latent scalars, see `Quadratic`; u are their white coordinates.

Of the scalars it tells p(u | d), as a normal law: nodes u_q spread over a normal law of u that is known
before are weighted by the tempered likelihood of d, which depends on the data through their cross-power a
ring. Nodes are drawn anew around what the last ones found (adaptive importance sampling), since few nodes of
the first round lie where the data allow. Of the field it tells, given u and a noisy state y + sigma e, the
mean W (the Wiener filter) and its error. Networks learn what is left of both.

Where data are missing it is mended, see `missing`. What it leaves out (non-Gaussian fields) costs accuracy of
the starting point, never correctness of what is learned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from scipy.stats import qmc
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.special import ndtri

from sbikit import Monitor, Values, derive_seed, generator
from sbikit.fields import Rings
from sbikit.learning import Parts
from sbikit_transformer.data_posterior import LinearLaw
from sbikit_transformer.guided_flow import Expected
from sbikit_transformer.linear_model import (
    LinearModel,
    cross_power,
    fit_model,
    model_at,
    rotated,
    rotated_back,
)
from sbikit_transformer.missing import Guessed, Missing
from sbikit_transformer.normal import Normal, pairs
from sbikit_transformer.polynomials import Quadratic

# Share of the likelihood in each round of nodes. The first rounds see part of it, so that their few nodes
# near the data do not take all the weight; the last must be 1. A further round costs as much as each of
# these.
_ROUNDS = (0.5, 0.75, 1.0)
# Tempers tried. A finer grid changes little of what is then learned.
_TEMPERS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
# Simulations that choose the temper: of one field so many, of C a C-th of them, since each takes more time,
# and no fewer than the last. All tempers see the same ones, so few tell them apart.
_JUDGES, _LEAST_JUDGES = 512, 64
# Nodes are drawn from a normal this much wider than the weighted nodes, and never narrower than this share
# of what found them: wider ones waste nodes, narrower ones miss tails, and one node of all the weight would
# make a point of them.
_WIDEN = 1.2
_KEEP = 0.2
# Prior standard deviations within which the quadratics are trusted; one prior draw in 16,000 lies beyond. A
# larger value extrapolates them, a smaller one flattens what simulations still tell.
REACH = 4.0
# Of nodes and rings, for some observations: more fall out of processors' caches.
_AT_ONCE = 2**16
# Simulations that tell what the guide lacks where data are missing, and how many are held at once: each has
# many pixels, which tell a few numbers.
_SHOWN, _SHOWN_AT_ONCE = 512, 64
_TINY = 1e-30  # keeps a share finite of a mean that is always zero
_EDGE = 1e-9  # keeps a node of the Sobol sequence that is exactly 0 or 1 finite


@dataclass(frozen=True)
class Guess:
    """What the guide says of a noisy field.

    Args:
        field: (B, C, *grid) mean of the field, W.
        error: (B, C) rms error of W that the model expects.
    """

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
        quadratic: features of the P scalars.
        channels: C of the latent field, at least 1.
        grid: its grid.
        nodes: number of quadrature nodes.
        share: of what is observed, that misses a pixel, (*grid), where data are missing.
    """

    def __init__(
        self,
        quadratic: Quadratic,
        channels: int,
        grid: tuple[int, ...],
        nodes: int,
        share: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.quadratic, self.channels = quadratic, channels
        self.rings = Rings.shells(grid)
        self.missing = None if share is None else Missing(share, channels, self.rings)
        size = 2 * channels
        self.register_buffer("log_variance", torch.zeros(size, quadratic.count, len(self.rings)))
        self.register_buffer("slope", torch.zeros(pairs(size), quadratic.count, len(self.rings)))
        self.register_buffer("temper", torch.ones(()))
        sobol = qmc.Sobol(quadratic.scalars, scramble=True, rng=0).random(nodes)
        self.register_buffer("nodes", ndtri(torch.from_numpy(sobol).clamp(_EDGE, 1 - _EDGE)).float())

    log_variance: Tensor
    slope: Tensor
    temper: Tensor
    nodes: Tensor

    def fit(self, parts: Parts, law: LinearLaw) -> None:
        """Fit to simulations.

        Args:
            parts: "u" (m, P), white scalars; "field" (m, C, *grid), the latent field; "data" (m, C, *grid),
                its data field, one a channel; "vectors" (m, V), standardised observed vectors.
            law: of the scalars given vectors.
        """
        log_variance, slope = fit_model(parts.through(self._in_modes), self.rings, self.quadratic)
        self.log_variance.copy_(log_variance)
        self.slope.copy_(slope)

        def judged(part: Values) -> dict[str, Tensor]:
            return {name: part[name] for name in ("u", "vectors")} | {"d": self.told(part["data"])}

        some = parts.up_to(max(_LEAST_JUDGES, _JUDGES // self.channels)).through(judged).joined()
        self._fit_temper(some["u"], law(some["vectors"]), some["d"])

    def fit_missing(self, parts: Parts, monitor: Monitor) -> None:
        """Fit what is lacking where data are missing, to some of the same simulations.

        Args:
            parts: as those of `fit`, which comes before.
            monitor: is told how far it is.
        """
        if self.missing is None:
            return
        shown = parts.up_to(_SHOWN).through(self._in_modes).joined()
        mean = shown["y"][..., 0].real
        left = mean - self._model(shown["u"]).mean(shown["d"], self.rings)[..., 0].real
        told = 1.0 - left.square().mean(0) / mean.square().mean(0).clamp_min(_TINY)
        self.missing.fit(told, partial(self._guessed, shown), monitor)

    def _in_modes(self, part: Values) -> dict[str, Tensor]:
        """Scalars, and modes of fields and data."""
        y, d = (self.rings.transform(part[name]) for name in ("field", "data"))
        return {"u": part["u"], "y": y, "d": d}

    def _guessed(self, shown: Values, log_sigma: float) -> Iterator[Guessed]:
        """What is expected of simulations in modes at a noise level, without `missing`."""
        source = generator(derive_seed(0, "guide", "missing"))
        for u, y, d in zip(*(shown[name].split(_SHOWN_AT_ONCE) for name in "uyd"), strict=True):
            noise = torch.randn(*y.shape[:2], *self.rings.grid, generator=source)
            noisy = y + math.exp(log_sigma) * self.rings.transform(noise)
            model = self._model(u)
            variance = torch.full((len(u),), math.exp(2.0 * log_sigma))
            found = model.wiener((noisy, d), variance, self.rings)
            moved = found.mean - model.mean(d, self.rings)
            yield Guessed(moved, found.covariance, found.error, y - found.mean)

    def _fit_temper(self, u: Tensor, prior: Normal, data_modes: Tensor) -> None:
        """The temper whose posterior makes the true scalars most likely.

        A field that is not Gaussian tells less of the parameters than a Gaussian one of its
        spectrum would; a temper below one says so.
        """
        scores = []
        for temper in _TEMPERS:
            self.temper.fill_(temper)
            scores.append(self.posterior(prior, data_modes).log_density(u).mean())
        self.temper.fill_(_TEMPERS[int(torch.stack(scores).argmax())])

    def told(self, data: Tensor) -> Tensor:
        """What the guide is told of data fields (B, C, *grid): their modes, (B, C, modes)."""
        return self.rings.transform(data)

    def posterior(self, prior: Normal, data_modes: Tensor) -> Normal:
        """The scalars given data.

        Args:
            prior: B laws of the scalars, before.
            data_modes: (B, C, modes), see `told`.
        """
        numbers = len(self.nodes) * len(self.rings)
        parts = zip(
            *(part.split(max(1, _AT_ONCE // numbers)) for part in (*prior.parts(), data_modes)), strict=True
        )
        found = [self._posterior(Normal(*part[:3]), part[3]).parts() for part in parts]
        return Normal(*(torch.cat(part) for part in zip(*found, strict=True)))

    def _posterior(self, prior: Normal, data_modes: Tensor) -> Normal:
        """The same of few, all of whose nodes fit in a processor's cache."""
        power = cross_power(data_modes, self.rings)[:, None]
        before = Proposal(prior.mean, prior.basis * prior.variance.sqrt()[:, None])
        proposal = before
        for share in _ROUNDS:
            at = proposal.mean[:, None, :] + torch.einsum("qp,bip->bqi", self.nodes, proposal.root)
            likelihood = self._model(at).log_likelihood(power, self.rings.count)
            weight = torch.softmax(
                share * self.temper * likelihood + before.log_density(at) + 0.5 * self.nodes.square().sum(-1),
                dim=1,
            )
            mean = torch.einsum("bq,bqp->bp", weight.to(at.dtype), at)
            offset = (at - mean[:, None]).double()
            covariance = torch.einsum("bq,bqi,bqj->bij", weight, offset, offset)
            proposal = Proposal.widened(mean, covariance, proposal)
        return Normal.of(mean, covariance)

    def forward(
        self,
        field: Tensor,
        u: Tensor,
        data_modes: Tensor,
        vectors: Tensor,
        sigma: Tensor,
        *,
        of_mean: MultivariateNormal | None = None,
    ) -> Guess:
        """Denoise a field, given the scalars.

        Args:
            field: (B, C, *grid), with noise of level `sigma` in every pixel.
            u: (B, P) scalars.
            data_modes: (B, C, modes), see `told`.
            vectors: (B, V) standardised observed vectors, which tell nothing beyond u and the data.
            sigma: (B,).
            of_mean: the law of the field's mean, where more is known of it than the data's own mean tells.
        """
        del vectors
        modes = self.rings.transform(field), data_modes
        model = self._model(u)
        found = model.wiener(modes, sigma.square(), self.rings, of_mean)
        mean = found.mean
        if self.missing is not None:
            moved = mean - model.mean(data_modes, self.rings, of_mean)
            mean = mean + self.missing(moved, found.covariance, found.error, sigma.log())
        return Guess(self.rings.inverse(mean), found.error)

    def expected(
        self, u: Tensor, data_modes: Tensor, vectors: Tensor, *, of_mean: MultivariateNormal | None = None
    ) -> Expected:
        """The normal law of a field, given scalars (B, P) and data; see `forward`."""
        del vectors
        rings = self.rings
        mean, variance, axes = self._model(u).given(data_modes, rings, of_mean)
        return Expected(
            rings.inverse(mean),
            variance.sqrt().to(u.dtype)[..., rings.index],
            lambda field: rotated(axes, rings.transform(field), rings),
            lambda along: rings.inverse(rotated_back(axes, along, rings)),
        )

    def of_mean(self, u: Tensor, data: Tensor) -> MultivariateNormal:
        """What the model expects of the field's mean.

        Args:
            u: (B, P) scalars.
            data: amplitudes of the data's mode zero, (B, C).
        """
        return self._model(u).of_mean(data)

    def _model(self, at: Tensor) -> LinearModel:
        """The model at scalars (*, P)."""
        return model_at(self.quadratic(at.clamp(-REACH, REACH)), self.log_variance, self.slope)
