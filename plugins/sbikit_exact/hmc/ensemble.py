"""Hamiltonian Monte Carlo with all chains of several observations in one batch.

One transition (Duane et al. 1987, doi:10.1016/0370-2693(87)91197-X; Neal 2011, arXiv:1206.1901): momenta
p ~ N(0, 1), L steps of size e in the scaled coordinates y, in which the posterior is nearly N(0, 1),

    turn by e/2,   p += e g(y),   turn by e/2,

where a turn by a is (y, p) -> (y cos a + p sin a, p cos a - y sin a) and g(y) = grad log f(y) + y the force
that N(0, 1) lacks, and the end accepted with probability min(1, exp(H_0 - H_1)), H = -log f + |p|^2 / 2. What
is normal of the posterior is so followed exactly, whatever e and the dimension (Shahbaba et al. 2014,
doi:10.1007/s11222-012-9373-1; Beskos et al. 2011, doi:10.1016/j.spa.2011.06.003), better if kicks lie between
the turns than the other way round (Casas, Sanz-Serna and Shaw 2022, arXiv:2207.07516). Only the rest bounds
e, and the error of the scales: where a variance is taken for s times what it is, steps are stable as long as
cos e - (s - 1) (e / 2) sin e > -1. Together the steps turn a normal posterior by the angle u T, u uniform in
[1/2, 3/2] and new in every transition, so that no period of the motion can resonate with it (Mackenzie 1989,
doi:10.1093/biomet/76.2.369). Where the density offers a gradient near its own (`LogDensity.gradient`), chains
follow that one, in float32: steps stay reversible and keep volume, and acceptance by f makes up for the rest.

Each observation has its own scales, step size and so L, learned from all its chains during warm-up and fixed
afterwards; with its own random numbers, they make its draws the same whatever the others in the batch are.
u is common to the batch, so that its chains wait little for each other, and so the same for transition t of
all observations in all runs: if it came from a seed, draws would depend on who else is in the batch. It is
drawn without regard to the chains, and whatever it is a transition leaves the posterior as it is. g and the
acceptances that step sizes are tuned by are taken to a grid, for the same reason (`rounding`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import LogDensity, draw_seeds, uniforms
from sbikit_exact.density import STARTS, cannot_be_sampled
from sbikit_exact.hmc.motion import follow
from sbikit_exact.hmc.rounding import on_grid
from sbikit_exact.hmc.scales import RunningMoments, Scales
from sbikit_exact.hmc.sources import Sources
from sbikit_exact.hmc.step_size import StepSize
from sbikit_exact.hmc.target import Target
from sbikit_exact.options.hmc import HMCOptions

# Share of warm-up that searches for a step size; most steps of a path meanwhile (.8 radians at the first step
# size), and later, so that no transition takes for ever: paths are whole down to steps of .015.
_SEARCH, _SHORT, _LONG = 0.1, 8, 256
# Shares of warm-up after which scales are learned anew, from longer and longer windows as in Stan (Carpenter
# et al. 2017, doi:10.18637/jss.v076.i01); the last fifth tunes the step size to the last scales.
_WINDOWS = (0.15, 0.3, 0.5, 0.8)
_LONGEST_STEP = 1.0  # radians; stable where a variance is taken for up to 4.6 times what it is
# An energy error beyond it is no rounding (Hoffman and Gelman 2014, JMLR 15, 1593, section 3.1).
_DIVERGED = 1000.0


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


@dataclass(frozen=True)
class Moved:
    """What a transition was like.

    Args:
        acceptance: its probability, mean over the chains, (B,).
        error: size of the energy error, mean over the chains, (B,).
        energy: where the chains are now, (chains, B).
        diverged: (chains, B).
    """

    acceptance: Tensor
    error: Tensor
    energy: Tensor
    diverged: Tensor


class Ensemble:
    """The chains of B observations, started at standard normal coordinates.

    Args:
        density_of: the density of some of the observations, by their numbers.
        options: how to run.
        seeds: one an observation; its chains' random numbers come from it.
        device: where to compute.

    Attributes:
        gradients: what all chains of each observation have needed so far, (B,).

    Raises:
        SimulationError: the density is not finite at any of 100 starts.
    """

    def __init__(
        self,
        density_of: Callable[[list[int]], LogDensity],
        options: HMCOptions,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        self._options, self._device, self._transitions = options, device, 0
        self._target = target = Target(density_of, len(seeds))
        self._sources = Sources(seeds, options.chains, device)
        self._step = StepSize(len(seeds), options.target_accept, _LONGEST_STEP, device)
        scales = Scales.unit(len(seeds), target.size, target.parameters, device)
        self._scales = scales.to(target.dtype)
        self.gradients = torch.zeros(len(seeds), dtype=torch.int64, device=device)
        self._z, self._value = self._start()

    @property
    def count(self) -> int:
        """Observations."""
        return len(self._sources)

    def warm_up(self, advance: Callable[[int], None]) -> None:
        """Learn step sizes and scales.

        Args:
            advance: told the number of transitions of all chains after each.
        """
        total = self._options.warmup
        ends = [int(share * total) for share in _WINDOWS]
        moments = None
        for t in range(total):
            if t in ends:
                if moments is not None:
                    self._scales = moments.scales().to(self._target.dtype)
                target = self._target
                moments = RunningMoments(self.count, target.size, target.parameters, self._device)
                self._step.restart()
            searching = t < _SEARCH * total
            moved = self._transition(self._step.current, _SHORT if searching else _LONG)
            if searching:
                self._step.search(moved.error)
            else:
                self._step.update(moved.acceptance)
            if moments is not None:
                moments.add(self._z)
            advance(self._options.chains * self.count)

    def run(self, draws: int, advance: Callable[[int], None] | None = None) -> Trace:
        """Draw; see `Trace`. `advance` is as in `warm_up`."""
        shape = (self._options.chains, draws, self.count)
        z = torch.empty(*shape, self._target.size, dtype=torch.float32)
        energies, divergent = np.empty(shape), np.empty(shape, dtype=bool)
        for t in range(draws):
            moved = self._transition(self._step.mean, _LONG)
            z[:, t] = self._z.cpu()
            energies[:, t], divergent[:, t] = moved.energy.cpu().numpy(), moved.diverged.cpu().numpy()
            if advance is not None:
                advance(self._options.chains * self.count)
        return Trace(z, energies, divergent)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the observations that are left, by their places among these."""
        index = torch.tensor(rows, device=self._device)
        self._target.keep(rows)
        self._sources.keep(rows)
        self._step.select(index)
        self._scales = self._scales.select(index)
        self._z, self._value = self._z[:, index], self._value[:, index]
        self.gradients = self.gradients[index]

    def follow(self, z: Tensor, momenta: Tensor, step: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Follow the motion with the scales found so far; see `motion.follow`."""
        return follow(z, momenta, step, steps, scales=self._scales, gradient=self._target.gradient)

    def _start(self) -> tuple[Tensor, Tensor]:
        """Standard normal coordinates where density and gradient are finite, and the value there."""
        target = self._target
        z = self._sources.normals(target.size, target.dtype)
        wanted = torch.ones(self.count, dtype=torch.bool, device=self._device)
        for _ in range(STARTS):
            value = target.value(z)
            self.gradients += self._options.chains * wanted
            bad = ~torch.isfinite(value) | ~torch.isfinite(target.gradient(z)).all(-1)
            wanted = bad.any(0)
            if not bool(wanted.any()):
                return z, value
            rows = wanted.nonzero().flatten().tolist()
            again = z.clone()
            again[:, rows] = self._sources.normals(target.size, target.dtype, rows)
            z = torch.where(bad.unsqueeze(-1), again, z)
        raise cannot_be_sampled(f"not finite at any of {STARTS} starts.")

    def _transition(self, step: Tensor, longest: int) -> Moved:
        """Move all chains once.

        Args:
            step: step sizes (B,).
            longest: most steps.
        """
        path = self._path()
        steps = (path / step).ceil().clamp(1, longest)
        step = torch.minimum(step, path / steps)
        self.gradients += self._options.chains * steps.long()
        momenta = self._sources.normals(self._target.size, self._target.dtype)
        before = _energy(momenta, self._value)
        z, momenta = self.follow(self._z, momenta, step, steps)
        value = self._target.value(z)
        after = _energy(momenta, value)
        error = after - before
        probability = (-error).clamp(max=0.0).exp().nan_to_num(0.0)
        accepted = self._sources.uniforms() < probability
        self._z = torch.where(accepted.unsqueeze(-1), z, self._z)
        self._value = torch.where(accepted, value, self._value)
        diverged = ~(error < _DIVERGED)
        energy = torch.where(accepted, after, before)
        return Moved(on_grid(probability.mean(0)), on_grid(error.abs().mean(0)), energy, diverged)

    def _path(self) -> float:
        """The angle u T of the next transition; transition t has the same u in every run."""
        self._transitions += 1
        (u,) = uniforms(draw_seeds(0, "paths of hmc", self._transitions, 1), 1)[0]
        return float((0.5 + u) * self._options.path)


def _energy(momenta: Tensor, value: Tensor) -> Tensor:
    """H (chains, B), float64, of momenta (chains, B, size) and the log density (chains, B)."""
    return 0.5 * momenta.square().sum(-1, dtype=torch.float64) - value
