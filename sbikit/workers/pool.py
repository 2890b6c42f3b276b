"""What a pool of workers is: tasks are given, results are taken as they are done, in any order.

A task that outlasts its limit, or ends its worker again and again, comes back as lost; the worker is
replaced. What a worker's function raises is raised where results are taken.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

Function = Callable[[Any], Any]
"""What a worker does: the argument of a task -> its result; both are sent between processes by pickle."""


@dataclass(frozen=True)
class Recipe:
    """How a worker makes its function, once.

    Args:
        make: a function or class of a module; it is sent by name.
        arguments: what it is called with.
        here: the function, where this process has it already; it is never sent.
    """

    make: Callable[..., Function]
    arguments: tuple[Any, ...] = ()
    here: Function | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Task:
    """One call of a worker's function.

    Args:
        key: what the caller knows it by.
        argument: what the function is called with.
        seconds: it is given up where it takes longer; None: never.
        lives: it is given up where so many workers have died of it.
    """

    key: Any
    argument: Any
    seconds: float | None = None
    lives: int = 3


@dataclass(frozen=True)
class Done:
    """A task and its result."""

    task: Task
    value: Any


@dataclass(frozen=True)
class Lost:
    """A task without a result.

    Args:
        task: the task.
        why: it outlasted its limit, or its workers died.
        words: the same with the particulars.
        seconds: how long it was tried.
    """

    task: Task
    why: Literal["timeout", "died"]
    words: str
    seconds: float


class Pool(ABC):
    """Workers that share one recipe. Use it as a context manager: at the end no process of it is left.

    Attributes:
        workers: how many tasks run at the same time.
    """

    workers: int

    @property
    def room(self) -> int:
        """How many tasks to give before one is taken: enough that no worker waits, and no more."""
        return 2 * self.workers

    @abstractmethod
    def give(self, task: Task, *, urgent: bool = False) -> None:
        """Add a task to those that wait, or put it before them."""

    @abstractmethod
    def take(self, *, wait: bool = True) -> Done | Lost | None:
        """A result; None where there is none yet and `wait` is false, or nothing was given.

        Raises:
            Exception: what the function raised.
        """

    @abstractmethod
    def forget(self) -> None:
        """Drop what waits, and the results of what runs."""

    @abstractmethod
    def close(self) -> None:
        """End all workers, whatever they do."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Done | Lost]:
        """Results of all tasks, in any order; no more than `room` of them are under way."""
        source, under_way, more = iter(tasks), 0, True
        try:
            while True:
                while more and under_way < self.room:
                    task = next(source, None)
                    if more := task is not None:
                        self.give(task)
                        under_way += 1
                result = self.take() if under_way else None
                if result is None:
                    return
                under_way -= 1
                yield result
        finally:
            if under_way:
                self.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
