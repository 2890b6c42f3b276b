"""A toy problem of a vector whose posterior is known: theta ~ N(mu, diag(s^2)), x = A theta + b + noise.

The posterior is normal with

    C = (diag(s^-2) + A^T N^-1 A)^-1,   m = C (s^-2 mu + A^T N^-1 (x - b)).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.laws import Normal
from sbikit.problem.prior import Prior
from sbikit.problem.seeds import normals
from sbikit.problem.spec import check_observation
from sbikit.problem.variables import Values, Vector
from sbikit.roles.sampler import Draws, Sampler
from sbikit.roles.simulator import LogDensity, Simulator


class GaussianVector(Simulator):
    """Two parameters seen through a linear map to three numbers with normal noise."""

    prior = Prior({"a": Normal(1.0, 0.5), "b": Normal(-2.0, 1.5)})
    outputs = (Vector("x", ("x1", "x2", "x3")),)
    observed = ("x",)

    matrix = torch.tensor([[1.0, 0.3], [-0.5, 1.0], [0.8, 0.6]], dtype=torch.float64)
    offset = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    noise_sd = torch.tensor([0.6, 0.9, 1.2], dtype=torch.float64)

    def simulate(self, parameters: Values, *, seeds: NDArray[np.int64]) -> dict[str, Tensor]:
        """x (B, 3) for theta (B, 2)."""
        return {"x": (self._mean(parameters["theta"]) + self.noise_sd * normals(seeds, (3,))).float()}

    def log_density(self, observation: Values) -> LogDensity:
        """The joint density of two white coordinates and x (B, 3)."""
        x = observation["x"].double()

        def log_prob(z: Tensor) -> Tensor:
            residual = (x - self._mean(self.prior.from_white(z))) / self.noise_sd
            return -0.5 * (z**2).sum(-1) - 0.5 * (residual**2).sum(-1)

        return LogDensity(2, log_prob, lambda z: {"theta": self.prior.from_white(z)}, 2)

    def exact_sampler(self) -> ExactVector:
        """A sampler of the exact posterior."""
        return ExactVector(self)

    def _mean(self, theta: Tensor) -> Tensor:
        terms = theta.double().unsqueeze(-2) * self.matrix  # a sum rounds alike in every batch
        return terms.sum(-1) + self.offset


class ExactVector(Sampler):
    """The exact posterior of a `GaussianVector`.

    Attributes:
        covariance: posterior covariance (2, 2), float64, the same for every observation.
    """

    def __init__(self, simulator: GaussianVector) -> None:
        self.spec = simulator.spec
        laws = [law for law in simulator.prior.laws.values() if isinstance(law, Normal)]
        self._prior_mean = torch.tensor([law.mean for law in laws], dtype=torch.float64)
        self._prior_weight = torch.tensor([law.sd**-2 for law in laws], dtype=torch.float64)
        self._offset = simulator.offset
        self._weighted = simulator.matrix.T / simulator.noise_sd**2
        self.covariance = torch.linalg.inv(torch.diag(self._prior_weight) + self._weighted @ simulator.matrix)

    def mean(self, observation: Values) -> Tensor:
        """Posterior mean (B, 2), float64, for x (B, 3)."""
        pull = ((observation["x"].double() - self._offset).unsqueeze(-2) * self._weighted).sum(-1)
        return (self.covariance * (self._prior_weight * self._prior_mean + pull).unsqueeze(-2)).sum(-1)

    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """Exact draws of theta (n, B, 2)."""
        check_observation(observation, self.spec, seeds)
        z = normals(seeds, (n, 2)).double().transpose(0, 1)
        root = torch.linalg.cholesky(self.covariance).T
        return Draws.unjudged({"theta": (self.mean(observation) + z @ root).float()})
