"""This process as a pool of one worker. A task with a limit of time runs in a process that can be ended."""

from __future__ import annotations

from collections import deque

from sbikit.workers.pool import Done, Function, Lost, Pool, Recipe, Task


class Here(Pool):
    """Tasks run one after the other when their results are taken.

    Args:
        recipe: how the function is made.
    """

    workers = 1

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._function: Function | None = recipe.here
        self._waiting: deque[Task] = deque()
        self._limited: Pool | None = None

    def give(self, task: Task, *, urgent: bool = False) -> None:
        """Add a task to those that wait, or put it before them."""
        if urgent:
            self._waiting.appendleft(task)
        else:
            self._waiting.append(task)

    def take(self, *, wait: bool = True) -> Done | Lost | None:
        """Run the first task that waits."""
        if not self._waiting or not wait:
            return None
        task = self._waiting.popleft()
        if task.seconds is not None:
            return self._take_limited(task)
        if self._function is None:
            self._function = self._recipe.make(*self._recipe.arguments)
        return Done(task, self._function(task.argument))

    def forget(self) -> None:
        """Drop what waits."""
        self._waiting.clear()

    def close(self) -> None:
        """End the process for tasks with a limit, if there is one."""
        if self._limited is not None:
            self._limited.close()
            self._limited = None

    def _take_limited(self, task: Task) -> Done | Lost | None:
        from sbikit.workers.processes import Processes

        if self._limited is None:
            self._limited = Processes(self._recipe, 1)
        self._limited.give(task)
        return self._limited.take()
