"""A fixed number of joint draws in memory, as a store would give them."""

from __future__ import annotations

from torch import Tensor

from sbikit import PluginError, Simulations, Simulator, Values


class KeptDraws:
    """The first draws of a training stream, and no more."""

    def __init__(self, simulator: Simulator, size: int, seed: int = 0) -> None:
        stream = Simulations(simulator, seed)
        self.simulator, self.spec, self.seed = simulator, simulator.spec, seed
        self.size: int | None = size
        self.values = stream.training(0, size)
        self.read: list[tuple[int, int]] = []

    def training(self, first: int, count: int) -> dict[str, Tensor]:
        assert self.size is not None
        if first < 0 or first + count > self.size:
            raise PluginError(f"There are {self.size} draws.", got=f"{first} to {first + count - 1}")
        self.read.append((first, count))
        return {name: value[first : first + count].clone() for name, value in self.values.items()}

    def held_out(self, first: int, count: int) -> Values:
        raise PluginError("An estimator reads the held-out stream.")
