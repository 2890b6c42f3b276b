"""The gradient of a step's loss: of the whole batch at once, or of pieces of it, here or on several devices.

The loss of a step is a mean over the N rows of its batch, L = sum_p (n_p / N) L_p with L_p the mean over the
n_p rows of piece p. Each of R processes has a share of the rows and goes through it in pieces; averaging
gradients over the processes, each must take R (n_p / N) L_p. Which rows there are depends on the step alone,
so that the loss curve does not depend on R or on the pieces but by rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sbikit.problem.errors import UnsupportedError
from sbikit.roles.team import Team, shares


@runtime_checkable
class Divisible(Protocol):
    """A loss that is a mean over rows of a batch, and can be had for some of them."""

    def rows(self, step: int) -> int:
        """How many rows the batch of a step has."""
        ...

    def of(self, step: int, first: int, count: int) -> Tensor:
        """The mean over rows `first` to `first + count - 1`; only their simulations are drawn."""
        ...


def gradients(
    network: nn.Module, loss: Callable[[int], Tensor], team: Team, at_once: int | None
) -> Callable[[int], Tensor]:
    """What puts a step's gradient into the network's weights, and gives this process's part of the loss.

    Args:
        network: what is trained.
        loss: step -> loss, `Divisible` where it is to be divided.
        team: the processes that share a step.
        at_once: most rows at once; None: the whole share.

    Raises:
        UnsupportedError: the loss is to be divided and cannot be.
    """
    if team.size == 1 and at_once is None:
        return _Whole(loss)
    if not isinstance(loss, Divisible):
        raise UnsupportedError(
            "This training cannot be divided among devices or into pieces.",
            where="devices, device_batch",
            expected="one device and the whole batch at once",
            got=f"{team.size} devices, at most {at_once or 'all'} simulations at once",
            fix="use --devices 1 and --set device_batch=null",
        )
    return _Divided(network, loss, team, at_once)


class _Whole:
    """The whole batch in one piece."""

    def __init__(self, loss: Callable[[int], Tensor]) -> None:
        self._loss = loss

    def __call__(self, step: int) -> Tensor:
        loss = self._loss(step)
        loss.backward()
        return loss.detach()


class _Divided:
    """This process's share, in pieces."""

    def __init__(self, network: nn.Module, loss: Divisible, team: Team, at_once: int | None) -> None:
        self._loss, self._team, self._at_once = loss, team, at_once
        self._module = team.together(_Part(network, loss))

    def __call__(self, step: int) -> Tensor:
        size, rows = self._team.size, self._loss.rows(step)
        first, count = shares(rows, size)[self._team.rank]
        # All processes must go through the network: one without rows takes a row with weight 0.
        pieces = _pieces(first, count, self._at_once) or [(0, 1, 0)]
        total = torch.zeros(())
        for index, (start, taken, counted) in enumerate(pieces):
            last = index == len(pieces) - 1
            with nullcontext() if last else self._team.apart(self._module):
                part = self._module(step, start, taken) * (size * counted / rows)
                part.backward()
            total = total.to(part.device) + part.detach() / size
        return total


class _Part(nn.Module):
    """The loss of rows as a module, so that those who watch its weights see them used."""

    def __init__(self, network: nn.Module, loss: Divisible) -> None:
        super().__init__()
        self.network = network
        self._loss = loss

    def forward(self, step: int, first: int, count: int) -> Tensor:
        return self._loss.of(step, first, count)


def _pieces(first: int, count: int, at_once: int | None) -> list[tuple[int, int, int]]:
    """(first, rows, rows that count) of each piece, as few and as even as can be."""
    if not count:
        return []
    number = -(-count // (at_once or count))
    return [(first + start, taken, taken) for start, taken in shares(count, number)]
