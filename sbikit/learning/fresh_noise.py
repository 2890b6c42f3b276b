"""Other noise on kept draws: their observables are drawn anew, epoch by epoch, where the simulator can."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sbikit.problem.copies import copied
from sbikit.problem.errors import SimulationError, UnsupportedError
from sbikit.problem.gaps import filled
from sbikit.problem.seeds import draw_seeds
from sbikit.problem.spec import Spec
from sbikit.problem.variables import Values, Variable
from sbikit.roles.plugin import supports
from sbikit.roles.simulator import Simulator, SupportsObserve


class FreshNoise:
    """Draws the observables of kept draws anew; that of draw i in an epoch depends on (seed, epoch, i) alone.

    Args:
        simulator: its `observe` adds the noise.
        spec: the whole problem of the simulator.
        seed: fixes the noise.
    """

    def __init__(self, simulator: SupportsObserve, spec: Spec, seed: int) -> None:
        self._simulator, self._spec, self._seed = simulator, spec, seed

    @staticmethod
    def offered(simulator: Simulator, draws: Values, seed: int) -> FreshNoise | None:
        """Of a simulator that can with its options, as one of `draws`, each (B, *shape), shows; else None."""
        if not supports(simulator, SupportsObserve):
            return None
        noise = FreshNoise(simulator, simulator.spec, seed)
        try:
            noise({name: value[:1] for name, value in draws.items()}, torch.zeros(1, dtype=torch.long), 1)
        except UnsupportedError:
            return None
        return noise

    def __call__(self, draws: Values, numbers: Tensor, epoch: int) -> dict[str, Tensor]:
        """The draws (B, *shape) of these numbers (B,) as an epoch sees them.

        Raises:
            SimulationError: what comes back is missing, of the wrong shape or not finite.
        """
        stream = f"fresh noise/{epoch}"
        seeds = np.concatenate([draw_seeds(self._seed, stream, i, 1) for i in numbers.tolist()])
        latents = {v.name: draws[v.name] for v in self._spec.latents}
        observed = self._simulator.observe(copied(latents), seeds=seeds)
        found = {v.name: self._checked(observed, v, draws) for v in self._spec.measured}
        return {**draws, **filled(found, self._spec.measured)}

    def _checked(self, observed: Values, variable: Variable, draws: Values) -> Tensor:
        name = variable.name
        expected, found = tuple(draws[name].shape), observed.get(name)
        value = None if found is None else torch.as_tensor(found).detach().float()
        if value is None or tuple(value.shape) != expected or not _usable(value, variable):
            raise SimulationError(
                f"{type(self._simulator).__name__}.observe returned no usable {name!r}.",
                where=f"{type(self._simulator).__name__}.observe",
                expected=f"finite numbers of shape {expected}",
                got="nothing" if value is None else _described(value),
                fix="mend it, or leave `observe` out of the simulator: kept draws then keep their noise",
            )
        return value


def _usable(value: Tensor, variable: Variable) -> bool:
    good = value.isfinite() if variable.fill is None else ~value.isinf()
    return bool(good.all())


def _described(value: Tensor) -> str:
    return f"shape {tuple(value.shape)}, {int((~value.isfinite()).sum())} values not finite"
