r"""The guide of fields that are not stationary: the exact denoiser of one normal law.

With w the latent scalars in natural coordinates (`Quadratic`), y the latent fields in working coordinates
and v the observed vectors, among them the leading principal components of the data, the model fitted to
training simulations is

    y = A (1, v, w) + r,    r ~ N(0, C),    C = B S B^T + s (1 - B B^T).

B holds the leading directions of the residuals, S is their variance along each, and s the mean variance of a
pixel across them. Nothing in it assumes that one place is like another. Given a noisy state x = y + sigma e
the mean is A (1, v, w) + C (C + sigma^2)^-1 (x - A (1, v, w)).

What it leaves out, all that is not linear, costs accuracy of the starting point, never correctness of what is
learned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sbikit import Field, Values
from sbikit.learning import Leading, Parts
from sbikit_transformer.data_posterior import LinearLaw
from sbikit_transformer.guide import Guess, Guide
from sbikit_transformer.guided_flow import Expected
from sbikit_transformer.map_kinds import by_modes
from sbikit_transformer.normal import Normal
from sbikit_transformer.polynomials import Quadratic, least_squares

# Directions of the fields' residuals: more follow finer structure, and cost memory and time a step.
_DIRECTIONS = 64
# Rows that find them. More take more memory.
_ROWS = 1024
# Least variances, in units of a pixel's own: of what never varies, and after the noise is known. Both are far
# below what a network of float32 resolves.
_LEAST_PRIOR = 1e-8
_LEAST_POSTERIOR = 1e-10


class LinearGuide(torch.nn.Module):
    """A fitted linear guide. Build empty, then `fit`, or load its state; it is called as `Guide` is.

    Args:
        quadratic: knows the natural coordinates w of the P scalars.
        channels: C of the latent field, at least 1.
        grid: its grid.
        observed: length V of the observed vectors together.
    """

    linear: Tensor
    directions: Tensor
    variance: Tensor
    rest: Tensor

    def __init__(self, quadratic: Quadratic, channels: int, grid: tuple[int, ...], observed: int) -> None:
        super().__init__()
        self.quadratic = quadratic
        self.channels, self.grid = channels, grid
        pixels = channels * math.prod(grid)
        count = min(_DIRECTIONS, pixels)
        shapes = {
            "linear": (1 + observed + quadratic.scalars, pixels),
            "directions": (pixels, count),
            "variance": (count,),
            "rest": (),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    def fit(self, parts: Parts, law: LinearLaw) -> None:
        """Fit to simulations: "u" (m, P), "field" (m, C, *grid), "vectors" (m, V), which tell of the data."""
        del law
        self._fit_linear(parts)
        left = parts.through(self._residual)
        components = Leading(self.directions.shape[1], centred=True)
        for rows in left.up_to(_ROWS).each("y"):
            components.add(rows)
        found = components.result()[1]
        self.directions.zero_()
        self.directions[:, : found.shape[1]] = found.float()
        told = left.through(self._along).joined()
        along = told["along"]
        variance, basis = torch.linalg.eigh(along.T @ along / len(along))
        self.variance.copy_(variance.clamp_min(_LEAST_PRIOR))
        self.directions.copy_(self.directions.double() @ basis)
        across = len(self.directions) - found.shape[1]
        missing = told["square"].mean() - along.square().sum(1).mean()
        self.rest.copy_((missing / max(1, across)).clamp_min(_LEAST_PRIOR))

    def _fit_linear(self, parts: Parts) -> None:
        step = math.prod(self.grid)  # a channel at a time: less memory
        columns = [slice(first, first + step) for first in range(0, self.linear.shape[1], step)]
        found = [least_squares() for _ in columns]
        for values in parts:
            told = torch.cat(
                [torch.ones(len(values["u"]), 1), values["vectors"], self.quadratic.natural(values["u"])], 1
            ).double()
            target = values["field"].flatten(1)
            for part, one in zip(columns, found, strict=True):
                one.add(told, target[:, part].double())
        for part, one in zip(columns, found, strict=True):
            self.linear[:, part] = one.solution().float()

    def _residual(self, part: Values) -> dict[str, Tensor]:
        """What vectors and scalars do not tell, "y" (m, pixels)."""
        return {"y": part["field"].flatten(1) - self._mean(part["vectors"], part["u"])}

    def _along(self, left: Values) -> dict[str, Tensor]:
        """Residuals along the directions, (m, K) float64, and the field's sum of squares."""
        return {"along": (left["y"] @ self.directions).double(), "square": left["y"].square().sum(1)}

    def _mean(self, vectors: Tensor, u: Tensor) -> Tensor:
        """Mean of the pixels given vectors and scalars, (B, pixels)."""
        return self.linear[0] + torch.cat([vectors, self.quadratic.natural(u)], 1) @ self.linear[1:]

    def told(self, data: Tensor) -> Tensor:
        """What the guide is told of data fields (B, C, *grid): nothing, (B, 0); vectors tell of them."""
        return data.new_zeros(len(data), 0)

    def posterior(self, prior: Normal, data_modes: Tensor) -> Normal:
        """The scalars given data: what vectors tell of them, see `Guide.posterior`."""
        del data_modes
        return prior

    def forward(self, field: Tensor, u: Tensor, data_modes: Tensor, vectors: Tensor, sigma: Tensor) -> Guess:
        """Denoise a field, given the scalars and vectors; see `Guide.forward`."""
        del data_modes
        told = self._mean(vectors, u)
        left = field.flatten(1) - told
        along = left @ self.directions
        noise = sigma.square()[:, None]
        gain = self.variance / (self.variance + noise)
        rest = self.rest / (self.rest + noise)
        across = rest * (left - along @ self.directions.T)
        w = told + (gain * along) @ self.directions.T + across
        return Guess(w.view_as(field), self._error(gain * noise, rest * noise))

    def expected(self, u: Tensor, data_modes: Tensor, vectors: Tensor) -> Expected:
        """The normal law of a field, given scalars and vectors; see `Guide.expected`."""
        del data_modes
        shape, count = (self.channels, *self.grid), len(self.variance)

        def apart(field: Tensor) -> Tensor:
            pixels = field.flatten(1)
            along = pixels @ self.directions
            return torch.cat([along, pixels - along @ self.directions.T], 1)

        def together(parts: Tensor) -> Tensor:
            return (parts[:, :count] @ self.directions.T + parts[:, count:]).unflatten(1, shape)

        sd = torch.cat([self.variance, self.rest.expand(len(self.directions))]).sqrt()
        return Expected(self._mean(vectors, u).unflatten(1, shape), sd, apart, together)

    def _error(self, along: Tensor, across: Tensor) -> Tensor:
        """Rms error of each channel, (B, C), of variances along (B, K) and across (B, 1)."""
        by_channel = self.directions.square().unflatten(0, (self.channels, -1)).mean(1)
        inside = along @ by_channel.T
        outside = 1.0 - by_channel.sum(1)
        return (inside + outside.clamp_min(0.0) * across).clamp_min(_LEAST_POSTERIOR).sqrt()


def make_guide(
    fields: tuple[Field, ...],
    quadratic: Quadratic,
    grid: tuple[int, ...],
    observed: int,
    *,
    nodes: int,
    share: Tensor | None,
) -> Guide | LinearGuide | None:
    """The guide that fits the latent fields: by rings of modes only where all are stationary."""
    channels = sum(field.channels for field in fields)
    if not channels:
        return None
    if by_modes(fields):
        return Guide(quadratic, channels, grid, nodes, share)
    return LinearGuide(quadratic, channels, grid, observed)
