"""Seven problems of sbibm, of vectors alone, as its code defines them (release 1.1.0).

theta is (B, P) and x is (B, D) everywhere. What comes with it are ten observations of each, and 10,000 draws
from the exact posterior of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import binom
from torch import Tensor

from sbikit import LogNormal, Prior, Simulator, Uniform, Values, Vector, normals

OBSERVATIONS = 10  # that come with sbibm

_INPUTS = 9  # lags of bernoulli_glm
_POPULATION, _DAYS, _EVERY, _TESTED = 1e6, 160, 17, 1000  # of sir
_STEPS_A_DAY = 4


def folder() -> Path:
    """Where sbibm is installed; it is not imported, since that needs much else.

    Raises:
        SystemExit: it is not.
    """
    try:
        return Path(str(distribution("sbibm").locate_file("sbibm/tasks")))
    except PackageNotFoundError as error:
        raise SystemExit(
            "sbibm is not installed, whose reference posteriors are read: pip install --no-deps sbibm"
        ) from error


def _names(letter: str, count: int) -> tuple[str, ...]:
    return tuple(f"{letter}{i + 1}" for i in range(count))


class _Task(Simulator):
    """From theta and standard normal numbers to x."""

    observed = ("x",)
    noise: int  # normal numbers a draw

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """See `sbikit.Simulator.simulate`."""
        theta = parameters["theta"].double()
        return {"x": self.data(theta, normals(seeds, (self.noise,)).double()).float()}

    def data(self, theta: Tensor, white: Tensor) -> Tensor:
        """x of theta (B, P) and normal numbers (B, noise), both of double precision."""
        raise NotImplementedError


class GaussianLinear(_Task):
    """A normal prior, and a mean that is measured."""

    prior = Prior.normal(dict.fromkeys(_names("theta", 10), 0.0), 0.1 * np.eye(10), name="theta")
    outputs = (Vector("x", _names("x", 10)),)
    noise = 10

    def data(self, theta: Tensor, white: Tensor) -> Tensor:
        return theta + math.sqrt(0.1) * white


class GaussianLinearUniform(GaussianLinear):
    """The same in a box."""

    prior = Prior({name: Uniform(-1.0, 1.0) for name in _names("theta", 10)})


class GaussianMixture(_Task):
    """A mean that is measured with one of two errors."""

    prior = Prior({name: Uniform(-10.0, 10.0) for name in _names("theta", 2)})
    outputs = (Vector("x", _names("x", 2)),)
    noise = 3

    def data(self, theta: Tensor, white: Tensor) -> Tensor:
        return theta + torch.where(white[:, 2:] > 0, 1.0, 0.1) * white[:, :2]


class TwoMoons(_Task):
    """Two crescents."""

    prior = Prior({name: Uniform(-1.0, 1.0) for name in _names("theta", 2)})
    outputs = (Vector("x", _names("x", 2)),)
    noise = 2

    def data(self, theta: Tensor, white: Tensor) -> Tensor:
        angle = math.pi * (torch.special.ndtr(white[:, 0]) - 0.5)
        radius = 0.1 + 0.01 * white[:, 1]
        first, second = theta.unbind(-1)
        moved = torch.stack([-(first + second).abs(), second - first], -1) / math.sqrt(2.0)
        return torch.stack([radius * angle.cos() + 0.25, radius * angle.sin()], -1) + moved


class Slcp(_Task):
    """Four points of a normal law: a simple likelihood, a complex posterior."""

    prior = Prior({name: Uniform(-3.0, 3.0) for name in _names("theta", 5)})
    outputs = (Vector("x", _names("x", 8)),)
    noise = 8

    def data(self, theta: Tensor, white: Tensor) -> Tensor:
        white = white.unflatten(-1, (4, 2))
        return (theta[:, None, :2] + torch.einsum("bij,bkj->bki", factor(theta), white)).flatten(1)


def covariance(theta: Tensor) -> Tensor:
    """Of the points of slcp, (B, 2, 2)."""
    first, second = theta[:, 2] ** 2, theta[:, 3] ** 2
    between = theta[:, 4].tanh() * first * second
    rows = [first**2 + 1e-6, between, between, second**2 + 1e-6]
    return torch.stack(rows, -1).unflatten(-1, (2, 2))


def factor(theta: Tensor) -> Tensor:
    """Lower triangular, (B, 2, 2), whose product with its transpose is the covariance."""
    return torch.linalg.cholesky(covariance(theta))


class BernoulliGlm(_Task):
    """Spikes of a neuron that sees a white stimulus, by their number and their correlation with it."""

    outputs = (Vector("x", _names("x", 1 + _INPUTS)),)
    noise = 100

    @property
    def prior(self) -> Prior:  # type: ignore[override]
        """Normal, of second differences that are small."""
        return _smooth()

    def data(self, theta: Tensor, white: Tensor) -> Tensor:
        spikes = (torch.special.ndtr(white) < (theta @ _design().mT).sigmoid()).double()
        return spikes @ _design()


@cache
def _smooth() -> Prior:
    n = _INPUTS
    difference = np.eye(n) - np.eye(n, k=-1)
    by = difference @ difference + np.diag(np.sqrt(np.arange(n) / n))
    precision = np.zeros((n + 1, n + 1))
    precision[0, 0], precision[1:, 1:] = 0.5, by.T @ by
    return Prior.normal(dict.fromkeys(_names("theta", n + 1), 0.0), np.linalg.inv(precision), name="theta")


@cache
def _stimulus() -> Tensor:
    """White noise (100,), of numpy's old generator with the seed 42, in single precision."""
    drawn = np.random.RandomState(42).randn(100)
    return torch.tensor(drawn.astype(np.float32)).double()


@cache
def _lagged() -> Tensor:
    """The last nine values of the stimulus at each moment, (100, 9); before it there were zeros."""
    padded = torch.cat([torch.zeros(_INPUTS - 1, dtype=torch.float64), _stimulus()])
    return padded.unfold(0, _INPUTS, 1).flip(-1)


@cache
def _design() -> Tensor:
    """What the weights are multiplied with, (100, 10); spikes, too, for the statistics that suffice."""
    return torch.cat([torch.ones(100, 1, dtype=torch.float64), _lagged()], 1)


class Sir(_Task):
    """Infected ones of a thousand that are tested, every 17 days of an epidemic."""

    prior = Prior({"beta": LogNormal(0.4, 0.5), "gamma": LogNormal(0.125, 0.2)}, name="theta")
    outputs = (Vector("x", _names("x", 10)),)
    noise = 10

    def data(self, theta: Tensor, white: Tensor) -> Tensor:
        return torch.from_numpy(binom.ppf(ndtr(white.numpy()), _TESTED, infected(theta).numpy()))


def infected(theta: Tensor) -> Tensor:
    """Share of the population (B, 10) at days 0, 17, ..., 153, by Runge and Kutta of fourth order."""
    beta, gamma = theta.double().unbind(-1)

    def slope(state: Tensor) -> Tensor:
        new, over = beta * state[0] * state[1], gamma * state[1]
        return torch.stack([-new, new - over])

    state = torch.stack([torch.full_like(beta, 1 - 1 / _POPULATION), torch.full_like(beta, 1 / _POPULATION)])
    step, found = 1.0 / _STEPS_A_DAY, []
    for number in range(_DAYS * _STEPS_A_DAY):
        if number % (_EVERY * _STEPS_A_DAY) == 0:
            found.append(state[1])
        one = slope(state)
        two = slope(state + 0.5 * step * one)
        three = slope(state + 0.5 * step * two)
        four = slope(state + step * three)
        state = state + step / 6.0 * (one + 2.0 * two + 2.0 * three + four)
    return torch.stack(found, -1).clamp(0.0, 1.0)


TASKS: dict[str, Callable[[], Simulator]] = {
    "two_moons": TwoMoons,
    "slcp": Slcp,
    "gaussian_mixture": GaussianMixture,
    "gaussian_linear": GaussianLinear,
    "gaussian_linear_uniform": GaussianLinearUniform,
    "bernoulli_glm": BernoulliGlm,
    "sir": Sir,
}


def reference(task: str, number: int) -> tuple[Tensor, Tensor]:
    """Observation `number`, 1 to 10, (D,), and draws from its exact posterior (10000, P)."""
    place = folder() / task / "files" / f"num_observation_{number}"
    x = np.loadtxt(place / "observation.csv", delimiter=",", skiprows=1)
    draws = np.loadtxt(place / "reference_posterior_samples.csv.bz2", delimiter=",", skiprows=1)
    return torch.tensor(x).float(), torch.tensor(draws).float()
