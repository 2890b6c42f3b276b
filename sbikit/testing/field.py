"""A toy problem at the size of a map whose posterior is known exactly.

A periodic Gaussian field f of spectrum P(k; theta) is seen with white noise of variance N a pixel,
data = f + noise. Everything is diagonal in Fourier space: the parameters' likelihood is

    -2 log p(d | theta) = sum_k log(P + N) + |d_k|^2 / (P + N),

and f given theta and d has mean P / (P + N) d_k and variance P N / (P + N) a mode (Wiener 1949).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Option
from torch import Tensor

from sbikit.problem.laws import Normal
from sbikit.problem.options import Options
from sbikit.problem.prior import Prior
from sbikit.problem.seeds import generator, normals
from sbikit.problem.spec import Spec, check_observation
from sbikit.problem.variables import Field, Values
from sbikit.roles.sampler import Draws, Sampler
from sbikit.roles.simulator import LogDensity, MarginalDensity, Simulator

_REFERENCE_SLOPE = 3.0  # the prior's mean: a large-scale field whose small scales noise hides
_REACH = 6.0  # half width of the grid of parameters, in standard deviations: 2e-9 of a normal law lie beyond
# Cells an axis while the grid zooms in, and of the last one, .125 sd wide: uniform inside, they widen a
# normal posterior by .07 %. Three zooms take a grid over the prior to a posterior ten times narrower.
_COARSE_NODES, _FINE_NODES, _ZOOMS = 32, 96, 3


class GaussianFieldOptions(Options):
    """Options of `GaussianField`."""

    size: int = Option(default=16, ge=4, le=512, description="pixels along each of the two axes")
    parameters: Literal[1, 2] = Option(default=2, description="1: log amplitude; 2: log amplitude and slope")
    noise: float = Option(
        default=1.0, gt=0, description="noise a pixel; the fiducial field has unit variance"
    )


class GaussianField(Simulator[GaussianFieldOptions]):
    """A periodic Gaussian field with spectrum A^2 (1 + (k/k0)^2)^(-slope/2), and white noise on it.

    k counts waves along the side, k0 = size/8. The field has unit variance at A = 1 and slope 3;
    theta holds log A and, with two parameters, the slope.
    """

    observed = ("data",)

    def __init__(self, options: GaussianFieldOptions | None = None) -> None:
        super().__init__(options)
        size = self.options.size
        laws = {"log_amplitude": Normal(0.0, 0.3), "slope": Normal(_REFERENCE_SLOPE, 0.6)}
        kept = dict(list(laws.items())[: self.options.parameters])
        self.prior = Prior(kept, latex={"log_amplitude": r"\ln A", "slope": r"\alpha"})
        field = Field("field", (size, size), stationary=True, periodic=True)
        self.outputs = (field, replace(field, name="data", latex="data"))
        self.noise_power = self.options.noise**2
        waves = torch.fft.fftfreq(size, 1.0 / size, dtype=torch.float64)
        self._k_squared = waves[:, None] ** 2 + waves[None, :] ** 2
        self._norm = 1.0 / float(self._shape(self._k_squared, torch.tensor(_REFERENCE_SLOPE)).mean())

    def power(self, theta: Tensor, k_squared: Tensor) -> Tensor:
        """P(k; theta), theta (*batch, D) and k^2 (*K) to (*batch, *K), float64; unit white noise has 1."""
        theta = theta.double()[(..., *(None,) * k_squared.ndim, slice(None))]
        slope = theta[..., 1] if self.options.parameters == 2 else torch.tensor(_REFERENCE_SLOPE)
        return self._norm * torch.exp(2.0 * theta[..., 0]) * self._shape(k_squared, slope)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """Field and data, each (B, 1, size, size)."""
        white = normals(seeds, (2, 1, self.options.size, self.options.size)).double()
        field = self._colour(white[:, 0], parameters["theta"])
        return {"field": field.float(), "data": (field + self.options.noise * white[:, 1]).float()}

    def observe(self, outputs: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """Fresh noise on `field` (B, 1, size, size)."""
        noise = normals(seeds, (1, self.options.size, self.options.size))
        return {"data": outputs["field"] + self.options.noise * noise}

    def log_density(self, observation: Values) -> LogDensity:
        """The joint density of D + size^2 white coordinates and the data (B, 1, size, size)."""
        data = observation["data"].double()
        D, size = self.options.parameters, self.options.size

        def decode(z: Tensor) -> dict[str, Tensor]:
            theta = self.prior.from_white(z[..., :D])
            white = z[..., D:].unflatten(-1, (1, size, size))
            return {"theta": theta, "field": self._colour(white, theta)}

        def log_prob(z: Tensor) -> Tensor:
            residual = (data - decode(z)["field"]) / self.options.noise
            return -0.5 * (z**2).sum(-1) - 0.5 * (residual**2).flatten(-3).sum(-1)

        return LogDensity(D + size**2, log_prob, decode, D)

    def marginal_density(self, observation: Values) -> MarginalDensity:
        """The likelihood of theta and the Wiener posterior of the field, given data (B, 1, size, size)."""
        data = observation["data"].double()
        rings, ring_of, modes = torch.unique(self._k_squared, return_inverse=True, return_counts=True)
        power = torch.zeros(len(data), len(rings), dtype=torch.float64)
        for row, one in zip(power, data, strict=True):  # one by one, so that all are rounded alike
            modes_of_one = torch.fft.fft2(one).abs().square() / one.numel()
            row.index_add_(0, ring_of.flatten(), modes_of_one.flatten())

        def log_likelihood(theta: Tensor) -> Tensor:
            total = self.power(theta, rings) + self.noise_power
            rows = [total.log() @ modes.double() + total.reciprocal() @ one for one in power]
            return -0.5 * torch.stack(rows) if rows else torch.zeros(0, len(theta), dtype=torch.float64)

        def draw(theta: Tensor, b: int, source: torch.Generator) -> dict[str, Tensor]:
            P, N = self.power(theta, self._k_squared).unsqueeze(-3), self.noise_power
            white = torch.randn(len(theta), *data[b].shape, generator=source, dtype=torch.float64)
            return {"field": filtered(data[b], P / (P + N)) + filtered(white, (P * N / (P + N)).sqrt())}

        return MarginalDensity(log_likelihood, draw)

    def exact_sampler(self) -> ExactField:
        """A sampler of the exact joint posterior of theta and field."""
        return ExactField(self)

    def _shape(self, k_squared: Tensor, slope: Tensor) -> Tensor:
        pivot_squared = (self.options.size / 8.0) ** 2
        return torch.exp(-0.5 * slope * torch.log1p(k_squared / pivot_squared))

    def _colour(self, white: Tensor, theta: Tensor) -> Tensor:
        """White noise (*batch, 1, size, size) to a field of spectrum P(theta)."""
        return filtered(white, self.power(theta, self._k_squared).sqrt().unsqueeze(-3))

    @property
    def k_squared(self) -> Tensor:
        """k^2 of every mode in the layout of `torch.fft.fft2`, (size, size)."""
        return self._k_squared


class ExactField(Sampler):
    """The exact joint posterior of a `GaussianField`.

    theta comes from its marginal posterior on a grid of cells that zooms in on the posterior (cells of
    0.13 standard deviations, uniform inside), the field from the Wiener posterior at that theta.
    """

    def __init__(self, simulator: GaussianField) -> None:
        self.spec: Spec = simulator.spec
        self._simulator = simulator

    def log_likelihood(self, theta: Tensor, observation: Values) -> Tensor:
        """log p(data | theta) without constants: theta (Q, D), data (B, 1, size, size) to (B, Q)."""
        return self._simulator.marginal_density(observation).log_likelihood(theta)

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """Exact joint draws: theta (n, B, D), field (n, B, 1, size, size)."""
        check_observation(observation, self.spec, seeds)
        thetas, fields = [], []
        for b, seed in enumerate(seeds.tolist()):
            density = self._simulator.marginal_density({"data": observation["data"][b : b + 1]})
            source = generator(seed)
            theta = self._sample_theta(density, n, source)
            thetas.append(theta.float())
            fields.append(density.draw(theta, 0, source)["field"].float())
        return Draws.unjudged({"theta": torch.stack(thetas, 1), "field": torch.stack(fields, 1)})

    def _sample_theta(self, density: MarginalDensity, n: int, source: torch.Generator) -> Tensor:
        """Draws (n, D) for one observation."""
        D = self._simulator.options.parameters
        centre, half = torch.zeros(D, dtype=torch.float64), torch.full((D,), _REACH, dtype=torch.float64)
        for _ in range(_ZOOMS):
            nodes, weight, width = self._grid(density, centre, half, _COARSE_NODES)
            centre = weight @ nodes
            half = _REACH * (weight @ (nodes - centre) ** 2 + width**2).sqrt()
        nodes, weight, width = self._grid(density, centre, half, _FINE_NODES)
        chosen = torch.multinomial(weight, n, replacement=True, generator=source)
        inside = torch.rand(n, D, generator=source, dtype=torch.float64) - 0.5
        return self._simulator.prior.from_white(nodes[chosen] + inside * width)

    def _grid(
        self, density: MarginalDensity, centre: Tensor, half: Tensor, count: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cell centres (Q, D) in white coordinates, their posterior weights (Q,), the cells' widths (D,)."""
        steps = (torch.arange(count, dtype=torch.float64) + 0.5) * (2.0 / count) - 1.0
        axes = [c + h * steps for c, h in zip(centre, half, strict=True)]
        nodes = torch.cartesian_prod(*axes).reshape(-1, len(centre))
        log_weight = density.log_likelihood(self._simulator.prior.from_white(nodes))[0]
        weight = torch.softmax(log_weight - 0.5 * (nodes**2).sum(-1), 0)
        return nodes, weight, 2.0 * half / count


def filtered(field: Tensor, transfer: Tensor) -> Tensor:
    """The field (*batch, size, size) with every Fourier mode times `transfer` (*batch, size, size)."""
    size = field.shape[-1]
    half = transfer[..., : size // 2 + 1]
    return torch.fft.irfft2(torch.fft.rfft2(field) * half, s=(size, size))
