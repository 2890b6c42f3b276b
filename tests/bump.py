"""A bump at an unknown place, seen with noise: a problem that is nothing but where things are.

    d_i = exp(-|x_i - c|^2 / (2 w^2)) + noise e_i,    c = (position n, n/2, ...),    position ~ U(0.1, 0.9)

on a grid of any dimension, n pixels along the first axis, along which the bump moves. The exact posterior is
one over the position, on a grid of positions. It is seen as a field or as a vector of the same numbers.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import Field, Prior, Simulator, Uniform, Values, Vector, normals

NODES = 1601


class Bump(Simulator):
    """See above; with `latent` the bump without noise is inferred, too.

    Args:
        grid: pixels along each axis.
        kind: "field" or "vector": what the data are declared as.
        stationary: what they are declared as; it is not true.
        latent: whether the bump is inferred, too.
    """

    observed = ("data",)

    def __init__(
        self,
        grid: tuple[int, ...] = (48,),
        *,
        kind: str = "field",
        stationary: bool = False,
        latent: bool = False,
        width: float = 3.0,
        noise: float = 0.5,
        channels: int = 1,
    ) -> None:
        super().__init__()
        self.prior = Prior({"position": Uniform(0.1, 0.9)})
        self.grid, self.width, self.noise, self.channels = grid, width, noise, channels
        field = Field("bump", grid, channels, stationary=stationary, periodic=stationary)
        labels = tuple(f"d{i}" for i in range(channels * math.prod(grid)))
        data = replace(field, name="data", latex="d") if kind == "field" else Vector("data", labels)
        self.outputs = (field, data) if latent else (data,)

    def mean(self, position: Tensor) -> Tensor:
        """The bump (B, channels, *grid) at positions (B,)."""
        axes = [torch.arange(n, dtype=torch.float64) + 0.5 for n in self.grid]
        mesh = torch.meshgrid(*axes, indexing="ij")
        square = sum((x - n / 2) ** 2 for x, n in zip(mesh[1:], self.grid[1:], strict=True))
        shape = (-1, *(1,) * len(self.grid))
        along = (mesh[0] - position.double().view(shape) * self.grid[0]) ** 2
        one = torch.exp(-(along + square) / (2 * self.width**2))
        return one[:, None].expand(-1, self.channels, *self.grid)

    def simulate(self, parameters: Values, *, seeds: NDArray) -> dict[str, Tensor]:
        bump = self.mean(parameters["theta"][:, 0])
        data = bump + self.noise * normals(seeds, tuple(bump.shape[1:])).double()
        shape = next(v for v in self.outputs if v.name == "data").shape
        made = {"data": data.reshape(-1, *shape).float()}
        return made | {"bump": bump.float()} if len(self.outputs) == 2 else made

    def exact(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and sd of the position, (B,), given data (B, ...)."""
        position = torch.linspace(0.1, 0.9, NODES, dtype=torch.float64)
        model = self.mean(position).flatten(1)
        square = torch.cdist(data.double().flatten(1), model).square()
        weight = torch.softmax(-0.5 * square / self.noise**2, 1)
        mean = weight @ position
        return mean, (weight @ position.square() - mean.square()).clamp_min(0.0).sqrt()
