"""The training stream as an estimator gets it: without the held-out one, and with its first draws kept.

Validators need scales and centres from the training stream. A simulation may take minutes, so the ones that
the fit has drawn serve.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sbikit.problem.errors import PluginError
from sbikit.roles.joint_draws import BEYOND_TRAINING, JointDraws
from sbikit.storage.kept import read_kept, write_kept

_AT_ONCE = 256  # draws a file: an interruption loses fewer; more files take longer


class TrainingStream:
    """A `JointDraws` whose held-out stream is refused.

    Args:
        simulations: where draws come from.
        kept: is given every draw.
    """

    def __init__(self, simulations: JointDraws, kept: FirstDraws | None = None) -> None:
        self.simulator, self.spec, self.seed = simulations.simulator, simulations.spec, simulations.seed
        self.size = simulations.size
        self._simulations, self._kept = simulations, kept

    def training(self, first: int, count: int) -> dict[str, Tensor]:
        """Draws `first` to `first + count - 1` of the training stream, each (count, *shape)."""
        draws = dict(self._simulations.training(first, count))
        if self._kept is not None:
            self._kept.add(first, draws)
        return draws

    def held_out(self, first: int, count: int) -> dict[str, Tensor]:
        """Refused.

        Raises:
            PluginError: always.
        """
        raise PluginError(
            "The estimator reads the held-out stream, which no estimator may see.",
            where=f"fit: simulations.held_out({first}, {count})",
            expected="simulations.training alone",
            fix="set draws of the training stream aside for validation",
        )


class FirstDraws:
    """The first draws of a stream, kept in files of a folder as they come, in whatever order.

    Args:
        folder: where; what it holds of an interrupted fit counts.
        identity: what the draws are made by: simulator, options and seed.
        most: how many are kept.
        reached: how far into the stream others have drawn who keep draws in the same folder.
    """

    def __init__(self, folder: Path, identity: str, most: int, reached: int = 0) -> None:
        self._folder, self._identity, self._most = folder, identity, most
        self._drawn = torch.zeros(most, dtype=torch.bool)
        self.reached = reached
        self._waiting: list[tuple[int, dict[str, Tensor]]] = []
        for first, draws in self._files():
            self._drawn[first : first + _length(draws)] = True

    def add(self, first: int, draws: Mapping[str, Tensor]) -> None:
        """Keep those of the draws `first`, `first + 1`, ..., each (count, *shape), that are wanted."""
        if first >= BEYOND_TRAINING:
            return
        self.reached = max(self.reached, first + _length(draws))
        last = min(first + _length(draws), self._most)
        if first >= last or bool(self._drawn[first:last].all()):
            return
        self._drawn[first:last] = True
        own = {name: value[: last - first].detach().cpu().clone() for name, value in draws.items()}
        self._waiting.append((first, own))
        if sum(_length(part) for _, part in self._waiting) >= _AT_ONCE:
            self.flush()

    def joined(self) -> dict[str, Tensor]:
        """The draws 0, 1, ... up to the first that is missing, each (M, *shape); {} if that is draw 0."""
        self.flush()
        parts: list[dict[str, Tensor]] = []
        end = 0
        for first, draws in self._files():
            if first <= end < first + _length(draws):
                parts.append({name: value[end - first :] for name, value in draws.items()})
                end = first + _length(draws)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}

    def complete(self, simulations: JointDraws) -> None:
        """Draw again what a resumed fit had drawn, and what was lost before it went on."""
        lost = (~self._drawn[: min(self.reached, self._most)]).nonzero().flatten().tolist()
        for first in range(0, len(lost), _AT_ONCE):
            # One piece from the first lost draw to the last of so many, with what of it is there.
            some = lost[first : first + _AT_ONCE]
            self.add(some[0], simulations.training(some[0], some[-1] - some[0] + 1))

    def flush(self) -> None:
        """Write what waits to be written."""
        for first, draws in _runs(self._waiting):
            write_kept(self._folder / f"{first:06d}.safetensors", draws, f"{self._identity} {first}")
        self._waiting = []

    def _files(self) -> list[tuple[int, dict[str, Tensor]]]:
        """Number of the first draw and draws of every whole file, in order."""
        found = []
        for path in sorted(self._folder.glob("*.safetensors")):
            draws = read_kept(path, f"{self._identity} {int(path.stem)}") if path.stem.isdigit() else None
            if draws is not None:
                found.append((int(path.stem), draws))
        return found


def _runs(parts: list[tuple[int, dict[str, Tensor]]]) -> list[tuple[int, dict[str, Tensor]]]:
    """The parts in order, those that follow one another joined."""
    runs: list[tuple[int, dict[str, Tensor]]] = []
    for first, draws in sorted(parts, key=lambda part: part[0]):
        if runs and runs[-1][0] + _length(runs[-1][1]) == first:
            start, before = runs.pop()
            runs.append((start, {name: torch.cat([before[name], draws[name]]) for name in before}))
        else:
            runs.append((first, draws))
    return runs


def _length(draws: Mapping[str, Tensor]) -> int:
    return len(next(iter(draws.values())))
