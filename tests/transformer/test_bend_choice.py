"""How wide the bend of a declared bound is: the guide's score tells, and that score is a log density."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import Field, Normal, Prior, Simulations, Simulator, Values, normals
from sbikit.fields import Rings
from sbikit_transformer.bounds import soften, stretch
from sbikit_transformer.constants import fit_constants
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.linear_model import LinearModel

N = 8


class LogNormal(Simulator):
    """A field exp(g) - 1 of smooth normal g whose bound is declared, seen with noise."""

    prior = Prior({"a": Normal(0.0, 1.0)})

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.noise = noise
        white = {"stationary": True, "periodic": True}
        self.outputs = (Field("y", (N, N), **white), Field("d", (N, N), **white))
        self.observed = ("d",)

    def simulate(self, parameters: Values, *, seeds: NDArray) -> dict[str, Tensor]:
        one, other = normals(seeds, (2, 1, N, N)).unbind(1)
        smooth = (one + 0.4 * one.roll(1, -1) + 0.4 * one.roll(1, -2)) / 1.15
        y = torch.exp(0.3 * smooth + 0.05 * parameters["theta"][:, :, None, None]) - 1.0
        return {"y": y, "d": y + self.noise * other}

    def floor(self, parameters: Values) -> dict[str, Tensor]:
        return {"y": torch.full((*parameters["theta"].shape[:-1], 1), -1.0)}


def fitted(noise: float) -> Denoiser:
    simulator = LogNormal(noise)
    denoiser = Denoiser(simulator, simulator.spec, patch=4, width=16, depth=1, heads=2, nodes=16)
    fit_constants(denoiser, [Simulations(simulator, 0).training(0, 1024)])
    return denoiser


def softness(noise: float) -> float:
    return float(fitted(noise).field_map.softness[0])


def test_data_that_tell_little_ask_for_a_wide_bend_and_sharp_ones_for_a_narrow_one() -> None:
    """The prior of the logarithm is normal; so is the posterior of the field itself where data are sharp."""
    weak, sharp = softness(3.0), softness(0.02)
    assert weak >= 8.0
    assert sharp <= 0.25


def test_of_data_that_tell_nearly_all_the_guide_errs_as_little_as_they_do() -> None:
    """Of a pixel of deviation .3 seen with noise .02 the posterior's deviation is the noise's; of the mean of
    the map, which goes with the parameter, the guide knows less.
    """
    noise = 0.02
    denoiser = fitted(noise)
    assert denoiser.guide is not None
    values = Simulations(denoiser.simulator, 1).training(0, 256)
    u = denoiser.coordinates.encode(values)
    maps, vectors = denoiser.data_map.maps_and_vectors(denoiser.data_map.seen(values))
    modes = denoiser.guide.told(maps[:, denoiser.data_channel])
    mean = denoiser.guide.expected(u, modes, vectors).mean
    error = denoiser.decode((mean, u))["y"] - values["y"]
    error -= error.mean((-2, -1), keepdim=True)
    assert 0.95 * noise < float(error.square().mean().sqrt()) < 1.05 * noise


@pytest.mark.parametrize("high", [math.inf, 3.0])
def test_the_stretch_is_the_derivative(high: float) -> None:
    x = torch.linspace(-0.99, 2.9, 50, dtype=torch.float64, requires_grad=True)
    low, c = torch.tensor(-1.0).double(), torch.tensor(0.4).double()
    (slope,) = torch.autograd.grad(soften(x, low, c, high).sum(), x)
    torch.testing.assert_close(stretch(x.detach(), low, c, high), slope)


def test_the_log_density_is_that_of_scipy() -> None:
    """y ~ N(0, p) and d = y + n, white: of every pixel N(d p / (p + s^2), p s^2 / (p + s^2))."""
    rings, p, s = Rings.shells((4, 5)), 1.7, 0.6
    variance = torch.tensor([p, s**2])[:, None].expand(1, 2, len(rings))
    model = LinearModel(variance, torch.ones(1, 1, len(rings)))
    y, d = torch.randn(2, 1, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    found = model.log_density((rings.transform(y), rings.transform(d)), rings)
    gain = p / (p + s**2)
    of_pixels = scipy.stats.norm(gain * d.numpy(), s * math.sqrt(gain)).logpdf(y.numpy())
    constant = 0.5 * math.log(2.0 * math.pi) * 20
    np.testing.assert_allclose(found.numpy(), of_pixels.sum() + constant, rtol=1e-5)
