r"""The guide of fields that are not stationary: the exact joint denoiser of one normal law.

With u the latent scalars, y the latent fields in working coordinates and v the observed vectors, among them
the leading principal components of the data, the model fitted to training simulations is

    (u, y) = A (1, v) + r,    r ~ N(0, C),    C = B S B^T + s (1 - B B^T).

B holds the axes of u and the leading directions of the fields' residuals, S is the covariance of r along
them, and s the mean variance of a pixel across them. Nothing in it assumes that one place is like another.
Given a noisy state x = (u, y) + sigma e the mean is A (1, v) + C (C + sigma^2)^-1 (x - A (1, v)).

What it leaves out, all that is not linear, costs accuracy of the starting point, never correctness of what is
learned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sbikit import Field, Values
from sbikit.learning import Leading, Parts
from sbikit_transformer.guide import Guess, Guide, correlations
from sbikit_transformer.polynomials import least_squares

# Directions of the fields' residuals: more follow finer structure, and cost memory and time a step.
_DIRECTIONS = 64
# Rows that find them. More take more memory.
_ROWS = 1024
# Least variances, in units of a scalar's or a pixel's own: of what never varies, and after the noise is
# known. Both are far below what a network of float32 resolves.
_LEAST_PRIOR = 1e-8
_LEAST_POSTERIOR = 1e-10


class LinearGuide(torch.nn.Module):
    """A fitted linear guide. Build empty, then `fit`, or load its state; it is called as `Guide` is.

    Args:
        scalars: P.
        channels: C of the latent field, at least 1.
        grid: its grid.
        observed: length V of the observed vectors together.
    """

    rings = None
    linear: Tensor
    directions: Tensor
    basis: Tensor
    variance: Tensor
    rest: Tensor

    def __init__(self, scalars: int, channels: int, grid: tuple[int, ...], observed: int) -> None:
        super().__init__()
        self.scalars, self.channels, self.grid = scalars, channels, grid
        pixels = channels * math.prod(grid)
        count = min(_DIRECTIONS, pixels)
        shapes = {
            "linear": (1 + observed, scalars + pixels),
            "directions": (pixels, count),
            "basis": (scalars + count, scalars + count),
            "variance": (scalars + count,),
            "rest": (),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    def fit(self, parts: Parts) -> None:
        """Fit to simulations: "u" (m, P), "field" (m, C, *grid), "vectors" (m, V), which tell of the data."""
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
        self.basis.copy_(basis)
        across = len(self.directions) - found.shape[1]
        missing = told["square"].mean() - along[:, self.scalars :].square().sum(1).mean()
        self.rest.copy_((missing / max(1, across)).clamp_min(_LEAST_PRIOR))

    def _fit_linear(self, parts: Parts) -> None:
        step = self.scalars + math.prod(self.grid)  # a channel at a time: less memory
        columns = [slice(first, first + step) for first in range(0, self.linear.shape[1], step)]
        found = [least_squares() for _ in columns]
        for values in parts:
            constant = torch.cat([torch.ones(len(values["u"]), 1), values["vectors"]], 1).double()
            target = torch.cat([values["u"], values["field"].flatten(1)], 1)
            for part, one in zip(columns, found, strict=True):
                one.add(constant, target[:, part].double())
        for part, one in zip(columns, found, strict=True):
            self.linear[:, part] = one.solution().float()

    def _residual(self, part: Values) -> dict[str, Tensor]:
        """What the observed vectors do not tell, "u" (m, P) and "y" (m, pixels)."""
        told = self._told(part["vectors"])
        left_y = part["field"].flatten(1) - told[:, self.scalars :]
        return {"u": part["u"] - told[:, : self.scalars], "y": left_y}

    def _along(self, left: Values) -> dict[str, Tensor]:
        """Residuals along scalars and directions, (m, P + K) float64, and the field's sum of squares."""
        along = torch.cat([left["u"], left["y"] @ self.directions], 1).double()
        return {"along": along, "square": left["y"].square().sum(1)}

    def _told(self, vectors: Tensor) -> Tensor:
        """Mean of scalars and pixels given the observed vectors, (B, P + pixels)."""
        return self.linear[0] + vectors @ self.linear[1:]

    def forward(self, u: Tensor, field: Tensor, data_modes: Tensor, vectors: Tensor, sigma: Tensor) -> Guess:
        """Denoise a state whose noise has level `sigma` in every scalar and pixel; see `Guide.forward`."""
        told = self._told(vectors)
        left_u, left_y = u - told[:, : self.scalars], field.flatten(1) - told[:, self.scalars :]
        along_y = left_y @ self.directions
        noise = sigma.square()[:, None]
        gain = self.variance / (self.variance + noise)
        rest = self.rest / (self.rest + noise)
        along = (torch.cat([left_u, along_y], 1) @ self.basis * gain) @ self.basis.T
        across = rest * (left_y - along_y @ self.directions.T)
        mean = told[:, : self.scalars] + along[:, : self.scalars]
        w = told[:, self.scalars :] + along[:, self.scalars :] @ self.directions.T + across
        covariance = (self.basis * (gain * noise)[:, None, :]) @ self.basis.T
        of_scalars = covariance[:, : self.scalars, : self.scalars]
        sd = of_scalars.diagonal(dim1=-2, dim2=-1).clamp_min(_LEAST_POSTERIOR).sqrt()
        error = self._error(covariance[:, self.scalars :, self.scalars :], rest * noise)
        return Guess(mean, sd, correlations(of_scalars, sd), w.view_as(field), error)

    def _error(self, along: Tensor, across: Tensor) -> Tensor:
        """Rms error of each channel, (B, C), of covariances along (B, K, K) and variances across (B, 1)."""
        by_channel = self.directions.unflatten(0, (self.channels, -1))
        overlap = by_channel.mT @ by_channel / by_channel.shape[1]
        inside = torch.einsum("bij,cij->bc", along, overlap)
        outside = 1.0 - overlap.diagonal(dim1=-2, dim2=-1).sum(-1)
        return (inside + outside.clamp_min(0.0) * across).clamp_min(_LEAST_POSTERIOR).sqrt()


def make_guide(
    fields: tuple[Field, ...], scalars: int, grid: tuple[int, ...], observed: int, nodes: int
) -> Guide | LinearGuide:
    """The guide that fits the latent fields: by rings of modes only where all are stationary."""
    channels = sum(field.channels for field in fields)
    if all(field.stationary for field in fields):
        return Guide(scalars, channels, grid, observed, nodes)
    return LinearGuide(scalars, channels, grid, observed)
