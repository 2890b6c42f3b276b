"""What chains have given, in bounded memory: scalars of every draw, coordinates of evenly spaced ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbikit import LogDensity, Spec
from sbikit_exact.chains import judged
from sbikit_exact.diagnostics import ChainDiagnostics, diagnose
from sbikit_exact.hmc.ensemble import Trace

_CONVERTED_AT_ONCE = 2**22  # coordinates, 32 MiB in float64: more takes memory, less pays for more calls


class Record:
    """What the chains of some observations have given so far.

    Args:
        trace: the first run.
        density: of these observations.
        spec: the latents.
        device: where the density computes.

    Attributes:
        z: the coordinates kept, (chains, K, B, size), float32; K is the length of the first run.
    """

    def __init__(self, trace: Trace, density: LogDensity, spec: Spec, device: torch.device) -> None:
        self._spec, self._device = spec, device
        self.z = trace.z
        self._kept, self._stride = trace.z.shape[1], 1
        self._energies, self._divergent = trace.energies, trace.divergent
        self._labels, self._scalars = self._judged(trace, density)

    @property
    def draws(self) -> int:
        """Transitions a chain."""
        return self._energies.shape[1]

    def keep(self, rows: list[int]) -> None:
        """Go on with some observations."""
        self.z, self._scalars = self.z[:, :, rows], self._scalars[rows]
        self._energies, self._divergent = self._energies[..., rows], self._divergent[..., rows]

    def extend(self, run: Callable[[int], Trace], more: int, density: LogDensity) -> None:
        """Add `more` transitions a chain, as many as there are unless they are the last.

        Args:
            run: gives the next transitions.
            more: how many.
            density: of the observations that are left.
        """
        # Runs no longer than the first, so that no more is held than what is kept twice.
        longest = self._stride * max(1, self._kept // self._stride)
        z, scalars, energies, divergent = [self.z], [self._scalars], [self._energies], [self._divergent]
        for done in range(0, more, longest):
            trace = run(min(longest, more - done))
            z.append(trace.z[:, self._stride - 1 :: self._stride].contiguous())
            scalars.append(self._judged(trace, density)[1])
            energies.append(trace.energies)
            divergent.append(trace.divergent)
        self.z = _evenly(torch.cat(z, 1), self._kept)
        self._stride *= 2
        self._scalars = np.concatenate(scalars, -1)
        self._energies, self._divergent = np.concatenate(energies, 1), np.concatenate(divergent, 1)

    def _judged(self, trace: Trace, density: LogDensity) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """What convergence is judged on; see `judged`."""
        rows = max(1, _CONVERTED_AT_ONCE // trace.z[:, :1].numel())
        parts = [judged(density, z.to(self._device).double(), self._spec) for z in trace.z.split(rows, 1)]
        return parts[0][0], np.concatenate([values for _, values in parts], -1)

    def diagnose(self, i: int, gradients: int, seconds: float) -> ChainDiagnostics:
        """Judge one observation."""
        return diagnose(
            self._labels,
            self._scalars[i],
            self._energies[..., i],
            self._divergent[..., i],
            gradients=gradients,
            seconds=seconds,
        )


def _evenly(z: Tensor, count: int) -> Tensor:
    """`count` of the draws of (chains, draws, ...), the last ones of as many equal stretches."""
    return z[:, (torch.arange(1, count + 1) * z.shape[1]) // count - 1]
