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
u is common to the batch, so that its chains wait little for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import LogDensity, SimulationError
from sbikit.problem.seeds import derive_seed, generator, uniforms
from sbikit_exact.adaptation import Moments, Scales, StepSize

_SEARCH = 0.1  # share of warm-up in which paths are short, until the step size is known
_WINDOWS = (0.15, 0.3, 0.5, 0.8)  # shares of warm-up after which scales are learned anew
_SHORT, _LONG = 8, 256  # most steps during the search, and later
_LONGEST_STEP = 1.0  # radians; stable where a variance is taken for up to 4.6 times what it is
_DIVERGED = 1000.0  # an energy error beyond it is no rounding
_STARTS = 100
_MADE = 64  # densities of smaller batches that are kept
_FEW = 0.75  # share of a batch that is still under way at which it is made smaller


@dataclass(frozen=True)
class Settings:
    """How to run the chains.

    Args:
        chains: chains an observation.
        warmup: transitions a chain that adapt and are dropped.
        path: T, the mean angle in radians by which a transition turns a normal posterior.
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


@dataclass(frozen=True)
class _Travels:
    """Observations on their way.

    Args:
        rows: which, (K,).
        steps: how many each takes, (K,).
        step: how long, (K,).
        scales: theirs.
    """

    rows: Tensor
    steps: Tensor
    step: Tensor
    scales: Scales

    def select(self, some: Tensor) -> _Travels:
        """Some of them, (K,) true or false."""
        return _Travels(self.rows[some], self.steps[some], self.step[some], self.scales.select(some))


def _put(ends: Sequence[Tensor], states: Sequence[Tensor], rows: Tensor) -> None:
    """Write states (chains, K, ...) to their rows of the ends (chains, B, ...)."""
    for end, state in zip(ends, states, strict=True):
        end[:, rows] = state


def _turned(y: Tensor, momenta: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """y and momenta turned by the angles e (K,)."""
    sine, cosine = e.sin().to(y.dtype).unsqueeze(-1), e.cos().to(y.dtype).unsqueeze(-1)
    return (y * cosine).addcmul_(momenta, sine), (momenta * cosine).addcmul_(y, -sine)


class Ensemble:
    """The chains of B observations, started at standard normal coordinates.

    Args:
        density_of: the density of some of the observations, by their numbers.
        settings: how to run.
        seeds: one an observation; its chains' random numbers come from it.
        path_seed: fixes the lengths of the paths, common to all observations.
        device: where to compute.

    Attributes:
        gradients: what all chains of each observation have needed so far, (B,).

    Raises:
        SimulationError: the density is not finite at any of 100 starts.
    """

    def __init__(
        self,
        density_of: Callable[[list[int]], LogDensity],
        settings: Settings,
        seeds: Sequence[int],
        path_seed: int,
        device: torch.device,
    ) -> None:
        self._density_of, self._settings = density_of, settings
        self._numbers = list(range(len(seeds)))
        self._made: dict[tuple[int, ...], LogDensity] = {}
        self._density = density = density_of(self._numbers)
        self._sources = [generator(seed, device) for seed in seeds]
        self._path_seed, self._device, self._transitions = path_seed, device, 0
        self._step = StepSize(len(seeds), settings.target_accept, _LONGEST_STEP, device)
        self._dtype = torch.float64 if density.gradient is None else torch.float32
        self._scales = Scales.unit(len(seeds), density.size, density.parameters, device).to(self._dtype)
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
        total = self._settings.warmup
        ends = [int(share * total) for share in _WINDOWS]
        moments = None
        for t in range(total):
            if t in ends:
                if moments is not None:
                    self._scales = moments.scales().to(self._dtype)
                moments = self._moments()
                self._step.restart()
            longest = _SHORT if t < _SEARCH * total else _LONG
            acceptance, _, _ = self._transition(self._step.current, longest)
            self._step.update(acceptance)
            if moments is not None:
                moments.add(self._z)
            advance(self._settings.chains * self.count)

    def run(self, draws: int, advance: Callable[[int], None] | None = None) -> Trace:
        """Draw; see `Trace`. `advance` is as in `warm_up`."""
        shape = (self._settings.chains, draws, self.count)
        z = torch.empty(*shape, self._density.size, dtype=torch.float32)
        energies, divergent = np.empty(shape), np.empty(shape, dtype=bool)
        for t in range(draws):
            _, energy, diverged = self._transition(self._step.mean, _LONG)
            z[:, t] = self._z.cpu()
            energies[:, t], divergent[:, t] = energy.cpu().numpy(), diverged.cpu().numpy()
            if advance is not None:
                advance(self._settings.chains * self.count)
        return Trace(z, energies, divergent)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the observations that are left, by their places among these."""
        index = torch.tensor(rows, device=self._device)
        self._numbers = [self._numbers[row] for row in rows]
        self._density = self._density_of(self._numbers)
        self._sources = [self._sources[row] for row in rows]
        self._step.select(index)
        self._scales = self._scales.select(index)
        self._z, self._value = self._z[:, index], self._value[:, index]
        self.gradients = self.gradients[index]

    def follow(self, z: Tensor, momenta: Tensor, step: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Follow the motion.

        Args:
            z: where the chains are, (chains, B, size).
            momenta: of the scaled coordinates, (chains, B, size).
            step: step sizes (B,).
            steps: how many each observation takes, at least 1, (B,).

        Returns:
            Coordinates and momenta at the end.
        """
        ends = [torch.empty_like(z), torch.empty_like(momenta)]
        travels = _Travels(torch.arange(len(steps), device=self._device), steps, step, self._scales)
        density = self._density
        y = travels.scales.from_coordinates(z)
        angle = torch.zeros_like(step)
        for i in range(int(steps.max())):
            going = travels.steps > i
            if int(going.sum()) <= _FEW * len(going):
                # Who has arrived leaves, so that nothing is computed for nothing.
                y, momenta = _turned(y, momenta, angle)
                _put(ends, (travels.scales.to_coordinates(y), momenta), travels.rows)
                travels = travels.select(going)
                y, momenta, angle = y[:, going], momenta[:, going], torch.zeros_like(travels.step)
                density = self._density_for(travels.rows.tolist())
            e = torch.where(i < travels.steps, travels.step, 0.0)  # or stays
            # Half a turn after the last kick and half a turn before the next are one.
            y, momenta = _turned(y, momenta, angle + 0.5 * e)
            gradient = self._steer(travels.scales.to_coordinates(y), density)
            force = travels.scales.to_scaled(gradient).add_(y)
            momenta.addcmul_(force, e.to(force.dtype).unsqueeze(-1))
            angle = 0.5 * e
        y, momenta = _turned(y, momenta, angle)
        _put(ends, (travels.scales.to_coordinates(y), momenta), travels.rows)
        return ends[0], ends[1]

    # --- inside -----------------------------------------------------------------------------

    def _density_for(self, rows: Sequence[int]) -> LogDensity:
        """The density of the observations in some places; once step sizes are fixed, few sets recur."""
        numbers = [self._numbers[row] for row in rows]
        key = tuple(numbers)
        if key not in self._made:
            if len(self._made) >= _MADE:
                self._made.clear()
            self._made[key] = self._density_of(numbers)
        return self._made[key]

    def _moments(self) -> Moments:
        return Moments(self.count, self._density.size, self._density.parameters, self._device)

    def _start(self) -> tuple[Tensor, Tensor]:
        """Standard normal coordinates where density and gradient are finite, and the value there."""
        z = self._normals()
        wanted = torch.ones(self.count, dtype=torch.bool, device=self._device)
        for _ in range(_STARTS):
            value = self._evaluate(z)
            self.gradients += self._settings.chains * wanted
            bad = ~torch.isfinite(value) | ~torch.isfinite(self._steer(z)).all(-1)
            wanted = bad.any(0)
            if not bool(wanted.any()):
                return z, value
            rows = wanted.nonzero().flatten().tolist()
            again = z.clone()
            again[:, rows] = self._normals(rows)
            z = torch.where(bad.unsqueeze(-1), again, z)
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
            longest: most steps.

        Returns:
            Mean acceptance (B,), energies (chains, B) and which diverged (chains, B).
        """
        self._transitions += 1
        (jitter,) = uniforms(np.array([derive_seed(self._path_seed, self._transitions)]), 1)[0]
        path = (0.5 + jitter) * self._settings.path
        steps = (path / step).ceil().clamp(1, longest)
        step = torch.minimum(step, path / steps)
        self.gradients += self._settings.chains * steps.long()
        momenta = self._normals()
        before = 0.5 * momenta.square().sum(-1, dtype=torch.float64) - self._value
        z, momenta = self.follow(self._z, momenta, step, steps)
        value = self._evaluate(z)
        after = 0.5 * momenta.square().sum(-1, dtype=torch.float64) - value
        error = after - before
        probability = (-error).clamp(max=0.0).exp().nan_to_num(0.0)
        accepted = self._uniforms() < probability
        self._z = torch.where(accepted.unsqueeze(-1), z, self._z)
        self._value = torch.where(accepted, value, self._value)
        diverged = ~(error < _DIVERGED)
        return probability.mean(0), torch.where(accepted, after, before), diverged

    def _steer(self, z: Tensor, density: LogDensity | None = None) -> Tensor:
        """The gradient that chains follow; not finite where there is none."""
        density = density or self._density
        if density.gradient is not None:
            return density.gradient(z)
        at = z.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(density.log_prob(at).sum(), at)
        return gradient

    def _evaluate(self, z: Tensor) -> Tensor:
        """Log density (chains, B), minus infinity where it is not finite."""
        with torch.no_grad():
            value = self._density.log_prob(z.double())
        return value.masked_fill(~torch.isfinite(value), -torch.inf)

    def _normals(self, rows: Sequence[int] | None = None) -> Tensor:
        """Standard normal numbers (chains, B, size), or for some observations, each from its own source."""
        shape = (self._settings.chains, self._density.size)
        sources = self._sources if rows is None else [self._sources[row] for row in rows]
        return torch.stack([self._draw(torch.randn, shape, source, self._dtype) for source in sources], 1)

    def _uniforms(self) -> Tensor:
        shape = (self._settings.chains,)
        sources = self._sources
        return torch.stack([self._draw(torch.rand, shape, source, torch.float64) for source in sources], 1)

    def _draw(
        self, law: Callable[..., Tensor], shape: tuple[int, ...], source: torch.Generator, dtype: torch.dtype
    ) -> Tensor:
        return law(shape, generator=source, dtype=dtype, device=self._device)
