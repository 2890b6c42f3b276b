"""Hamiltonian Monte Carlo with all chains of several observations in one batch.

One transition (Duane et al. 1987, doi:10.1016/0370-2693(87)91197-X; Neal 2011, arXiv:1206.1901): momenta
p ~ N(0, 1), L leapfrog steps of size e in the scaled coordinates y,

    p += e/2 grad log f(y),   y += e p,   p += e/2 grad log f(y),

and the end accepted with probability min(1, exp(H_0 - H_1)), H = -log f + |p|^2 / 2. L is common to the
batch, so that no chain waits for another: L = u T / e with u uniform in [1/2, 3/2] anew in every transition,
which no period of the motion can resonate with (Mackenzie 1989, doi:10.1093/biomet/76.2.369), e the mean step
size of the batch and T the path in posterior standard deviations. Each observation has its own step size and
scales, learned from all its chains during warm-up and fixed afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import LogDensity, SimulationError
from sbikit.seeds import derive_seed, generator, uniforms
from sbikit_hmc.adaptation import Moments, Scales, StepSize

_SEARCH = 0.1  # share of warm-up in which paths are short, until the step size is known
_WINDOWS = (0.15, 0.3, 0.5, 0.8)  # shares of warm-up after which scales are learned anew
_SHORT, _LONG = 8, 256  # most steps during the search, and later
_DIVERGED = 1000.0  # an energy error beyond it is no rounding
_STARTS = 100


@dataclass(frozen=True)
class Settings:
    """How to run the chains.

    Args:
        chains: chains an observation.
        warmup: transitions a chain that adapt and are dropped.
        path: mean length of a transition's path in posterior standard deviations.
        target_accept: acceptance rate that the step size is tuned to.
    """

    chains: int
    warmup: int
    path: float
    target_accept: float


@dataclass(frozen=True)
class Trace:
    """Draws after warm-up.

    Args:
        z: (chains, draws, B, size), float32.
        energies: (chains, draws, B).
        divergent: (chains, draws, B).
    """

    z: Tensor
    energies: NDArray[np.float64]
    divergent: NDArray[np.bool_]


class Ensemble:
    """The chains of B observations, started at standard normal coordinates.

    Args:
        density: of these observations.
        settings: how to run.
        seeds: one an observation; its chains' random numbers come from it.
        path_seed: fixes the lengths of the paths, common to all observations.
        device: where to compute.

    Attributes:
        gradients: taken so far by all chains of one observation.

    Raises:
        SimulationError: the density is not finite at any of 100 starts.
    """

    def __init__(
        self,
        density: LogDensity,
        settings: Settings,
        seeds: Sequence[int],
        path_seed: int,
        device: torch.device,
    ) -> None:
        self._density, self._settings = density, settings
        self._sources = [generator(seed, device) for seed in seeds]
        self._path_seed, self._device, self._transitions = path_seed, device, 0
        self._step = StepSize(len(seeds), settings.target_accept, device)
        self._scales = Scales.unit(len(seeds), density.size, density.parameters, device)
        self.gradients = 0
        self._z, self._value, self._gradient = self._start()

    @property
    def count(self) -> int:
        """Observations."""
        return len(self._sources)

    def warm_up(self, advance: Callable[[int], None]) -> None:
        """Learn step sizes and scales.

        Args:
            advance: told the number of transitions of all chains after each.
        """
        total = self._settings.warmup
        ends = [int(share * total) for share in _WINDOWS]
        moments = None
        for t in range(total):
            if t in ends:
                if moments is not None:
                    self._scales = moments.scales()
                moments = self._moments()
                self._step.restart()
            longest = _SHORT if t < _SEARCH * total else _LONG
            acceptance, _, _ = self._transition(self._step.current, longest)
            self._step.update(acceptance)
            if moments is not None:
                moments.add(self._z)
            advance(self._settings.chains * self.count)

    def run(self, draws: int, advance: Callable[[int], None]) -> Trace:
        """Draw; see `Trace`."""
        shape = (self._settings.chains, draws, self.count)
        z = torch.empty(*shape, self._density.size, dtype=torch.float32)
        energies, divergent = np.empty(shape), np.empty(shape, dtype=bool)
        for t in range(draws):
            _, energy, diverged = self._transition(self._step.mean, _LONG)
            z[:, t] = self._z.cpu()
            energies[:, t], divergent[:, t] = energy.cpu().numpy(), diverged.cpu().numpy()
            advance(self._settings.chains * self.count)
        return Trace(z, energies, divergent)

    def keep(self, rows: Sequence[int], density: LogDensity) -> None:
        """Go on with some observations, whose density this is."""
        index = torch.tensor(rows, device=self._device)
        self._density = density
        self._sources = [self._sources[row] for row in rows]
        self._step.select(index)
        self._scales = self._scales.select(index)
        self._z, self._gradient = self._z[:, index], self._gradient[:, index]
        self._value = self._value[:, index]

    # --- inside -----------------------------------------------------------------------------

    def _moments(self) -> Moments:
        return Moments(self.count, self._density.size, self._density.parameters, self._device)

    def _start(self) -> tuple[Tensor, Tensor, Tensor]:
        """Standard normal coordinates where the density is finite, and value and gradient there."""
        z = self._normals()
        value, gradient = self._evaluate(z)
        for _ in range(_STARTS):
            bad = ~torch.isfinite(value)
            if not bool(bad.any()):
                return z, value, gradient
            z = torch.where(bad.unsqueeze(-1), self._normals(), z)
            value, gradient = self._evaluate(z)
        raise SimulationError(
            f"The log density cannot be sampled: not finite at any of {_STARTS} starts.",
            where="log_density of the simulator",
            expected="finite values and gradients at coordinates drawn from N(0, 1)",
            fix="mend log_density there",
        )

    def _transition(self, step: Tensor, longest: int) -> tuple[Tensor, Tensor, Tensor]:
        """Move all chains once.

        Args:
            step: step sizes (B,).
            longest: most leapfrog steps.

        Returns:
            Mean acceptance (B,), energies (chains, B) and which diverged (chains, B).
        """
        self._transitions += 1
        (jitter,) = uniforms(np.array([derive_seed(self._path_seed, self._transitions)]), 1)[0]
        mean_step = float(step.log().mean().exp())
        steps = min(longest, max(1, math.ceil((0.5 + jitter) * self._settings.path / mean_step)))
        e, momenta = step.unsqueeze(-1), self._normals()
        before = 0.5 * momenta.square().sum(-1) - self._value
        z, gradient, value = self._z, self._gradient, self._value
        for _ in range(steps):
            momenta = momenta + 0.5 * e * self._scales.to_scaled(gradient)
            z = z + self._scales.to_coordinates(e * momenta)
            value, gradient = self._evaluate(z)
            momenta = momenta + 0.5 * e * self._scales.to_scaled(gradient)
        after = 0.5 * momenta.square().sum(-1) - value
        error = after - before
        probability = (-error).clamp(max=0.0).exp().nan_to_num(0.0)
        accepted = self._uniforms() < probability
        self._z = torch.where(accepted.unsqueeze(-1), z, self._z)
        self._gradient = torch.where(accepted.unsqueeze(-1), gradient, self._gradient)
        self._value = torch.where(accepted, value, self._value)
        diverged = ~(error < _DIVERGED)
        return probability.mean(0), torch.where(accepted, after, before), diverged

    def _evaluate(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log density (chains, B), minus infinity where there is none, and its gradient, 0 there."""
        self.gradients += len(z)
        at = z.detach().requires_grad_()
        with torch.enable_grad():
            value = self._density.log_prob(at)
            (gradient,) = torch.autograd.grad(value.sum(), at)
        value = value.detach()
        bad = ~(torch.isfinite(value) & torch.isfinite(gradient).all(-1))
        return value.masked_fill(bad, -torch.inf), gradient.masked_fill(bad.unsqueeze(-1), 0.0)

    def _normals(self) -> Tensor:
        """Standard normal numbers (chains, B, size), those of an observation from its own source."""
        shape = (self._settings.chains, self._density.size)
        rows = [self._draw(torch.randn, shape, source) for source in self._sources]
        return torch.stack(rows, 1)

    def _uniforms(self) -> Tensor:
        shape = (self._settings.chains,)
        return torch.stack([self._draw(torch.rand, shape, source) for source in self._sources], 1)

    def _draw(self, law: Callable[..., Tensor], shape: tuple[int, ...], source: torch.Generator) -> Tensor:
        return law(shape, generator=source, dtype=torch.float64, device=self._device)
