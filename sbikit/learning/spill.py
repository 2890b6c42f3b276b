"""Rows that come once and are gone through several times: in memory where they fit, else in files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from sbikit.learning.checkpoint import damaged
from sbikit.learning.parts import Parts
from sbikit.problem.variables import Values
from sbikit.roles.monitor import Monitor, QuietMonitor
from sbikit.storage.tensors import read_tensors, write_tensors

# Numbers that are held in memory as one part, 268 MB, and of a part in files, 34 MB. What is made of a part
# takes several times its memory; smaller parts take more files and calls.
_HELD, _PART = 2**26, 2**23


class Spill:
    """Rows by name, added in order; files, if there are any, are removed when the block ends.

    Args:
        folder: where files may lie, there already; None: in a temporary folder of the system.
        held: numbers that are held in memory.
        part: numbers of a part in files.
        monitor: hears how far each pass through files is.
        title: what the passes are for.
    """

    def __init__(
        self,
        folder: Path | None,
        held: int = _HELD,
        part: int = _PART,
        *,
        monitor: Monitor | None = None,
        title: str = "reading",
    ) -> None:
        self._folder, self._most, self._part_size = folder, held, part
        self._monitor, self._title = monitor or QuietMonitor(), title
        self._rows = self._passes = 0
        self._waiting: list[dict[str, Tensor]] = []
        self._held = 0
        self._files: list[dict[str, Path]] = []
        self._place: Path | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, values: Values) -> None:
        """Further rows, each (m, *shape), of at most a part's size.

        Raises:
            OSError: they cannot be written.
        """
        self._waiting.append(dict(values))
        self._rows += len(next(iter(values.values())))
        self._held += sum(value.numel() for value in values.values())
        if self._held > (self._most if self._place is None else self._part_size):
            self._write()

    def parts(self, *names: str) -> Parts:
        """What was added; of these names alone where there are some, and nothing else is read then.

        Raises:
            CheckpointError: a file was damaged meanwhile, found when it is read.
        """
        if self._place is not None and self._waiting:
            self._write()
        if len(self._waiting) > 1:
            joined = Parts(lambda: iter(self._waiting)).joined()
            self._waiting = [joined]
        return Parts(lambda: self._go(names))

    def _go(self, names: tuple[str, ...]) -> Iterator[Values]:
        if not self._files:
            for values in self._waiting:
                yield {name: values[name] for name in names or values}
            return
        self._passes += 1
        with self._monitor.progress(f"{self._title}, pass {self._passes}", self._rows) as advance:
            for files in self._files:
                part = {name: _read(files[name]) for name in names or files}
                yield part
                advance(len(next(iter(part.values()))))

    def _write(self) -> None:
        if self._place is None:
            fresh = tempfile.TemporaryDirectory(prefix="parts.", dir=self._folder)
            self._place = Path(self._stack.enter_context(fresh))
        waiting, self._waiting, self._held = self._waiting, [], 0
        while waiting:
            some: list[dict[str, Tensor]] = []
            size = 0
            while waiting and (not some or size < self._part_size):
                some.append(waiting.pop(0))
                size += sum(value.numel() for value in some[-1].values())
            self._files.append({name: self._write_one(name, some) for name in some[0]})

    def _write_one(self, name: str, some: list[dict[str, Tensor]]) -> Path:
        assert self._place is not None
        path = self._place / f"{len(self._files):06d}.{len(list(self._place.iterdir())):06d}.safetensors"
        write_tensors(path, {"rows": torch.cat([values[name] for values in some])}, {})
        return path


def _read(path: Path) -> Tensor:
    try:
        return read_tensors(path)[0]["rows"]
    except (OSError, ValueError, KeyError) as error:
        raise damaged(path, error) from error
