"""Draws of a sampler for many observations, a file a chunk, so that an interrupt costs one chunk at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sbikit.problem.copies import copied
from sbikit.problem.errors import RunFolderError
from sbikit.problem.seeds import draw_seeds
from sbikit.problem.spec import Spec, check_values
from sbikit.problem.variables import Values, count_numbers
from sbikit.roles.monitor import Monitor
from sbikit.roles.plugin import supports
from sbikit.roles.sampler import Draws, Sampler, SupportsBatches
from sbikit.roles.stored_draws import StoredDraws
from sbikit.roles.trust import Trust
from sbikit.storage.draws import DrawsInParts, Part, draws_key, read_draws, read_trust, write_draws
from sbikit.storage.seals import object_digest


@dataclass(frozen=True)
class Chunk:
    """`n` draws for each of the held-out observations `first` to `last - 1`, in one file.

    Args:
        path: the file.
        key: of the stages that the draws are made from; the file is valid only beside it.
        stream: what the draws are for; names their random numbers.
        first, last: the observations.
        n: draws an observation.
        batch: observations that the sampler takes together; as it likes where left out.
    """

    path: Path
    key: str
    stream: str
    first: int
    last: int
    n: int
    batch: int | None = None

    @property
    def size(self) -> int:
        """Number of draws."""
        return self.n * (self.last - self.first)

    def draw(self, sampler: Sampler, held_out: Values, seed: int) -> Draws:
        """The draws of the run `seed`: those for an observation depend on its number, not on the chunk."""
        if self.batch is not None and supports(sampler, SupportsBatches):
            sampler = sampler.in_batches(self.batch)
        observation = observed(held_out, sampler.spec, self.first, self.last)
        return draw(
            sampler, observation, self.n, draw_seeds(seed, self.stream, self.first, self.last - self.first)
        )

    def fault(self) -> str:
        """Why the file cannot be used; "" where it can. It is read as a whole, its checksum too."""
        if not self.path.exists():
            return "is missing"
        try:
            read_draws(self.path)
        except RunFolderError as error:
            return f"is damaged ({error.got})"
        return "" if draws_key(self.path) == self._mark else "is of other stages or other observations"

    def save(self, draws: Draws) -> None:
        """Write the file, all or nothing."""
        write_draws(self.path, draws, self._mark)

    def divided(self, sampler: SupportsBatches, spec: Spec, held_out: Values) -> list[Chunk]:
        """Chunks that are drawn to the bit as this one is: the batches that its sampler would make of it."""
        batch = sampler.batch_size(observed(held_out, spec, self.first, self.last))
        found = []
        for first in range(self.first, self.last, batch):
            last = min(first + batch, self.last)
            path = _path(self.path.parent, first, last)
            found.append(replace(self, path=path, first=first, last=last, batch=batch))
        return found

    @property
    def _mark(self) -> str:
        """What the file must have been made from, and for what: no other part can take its place."""
        return object_digest([self.key, self.stream, self.first, self.last, self.n])

    @property
    def part(self) -> Part:
        """The file as a part of all draws of this work."""
        return Part(self.path, self.first, self.last)

    def load(self) -> Draws:
        """The draws in the file."""
        return read_draws(self.path)

    def trust(self) -> tuple[Trust, ...]:
        """What the sampler says of them."""
        return read_trust(self.path)


@dataclass(frozen=True)
class Work:
    """Draws to make.

    Args:
        stream: what they are for.
        observations: how many of the held-out observations, from the first on.
        n: draws an observation.
        at_once: observations a chunk, at most; one at least, however large its draws are.
        spec: the problem, whose latents are drawn.
        largest: bytes a chunk.
    """

    stream: str
    observations: int
    n: int
    at_once: int
    spec: Spec
    largest: int

    def chunks(self, folder: Path, key: str) -> list[Chunk]:
        """The chunks of this work, in files under `folder`."""
        found = []
        each = bytes_a_draw(self.spec) * self.n
        at_once = max(1, min(self.at_once, self.largest // each))
        for first in range(0, self.observations, at_once):
            last = min(first + at_once, self.observations)
            path = _path(folder / self.stream, first, last)
            found.append(Chunk(path, key, self.stream, first, last, self.n))
        return found

    def stored(self, chunks: Sequence[Chunk]) -> StoredDraws:
        """The draws of all chunks, once they are done."""
        shapes = {v.name: (self.n, self.observations, *v.shape) for v in self.spec.latents}
        return DrawsInParts([chunk.part for chunk in chunks], shapes)


def _path(folder: Path, first: int, last: int) -> Path:
    return folder / f"{first:05d}-{last:05d}.safetensors"


def bytes_a_draw(spec: Spec) -> int:
    """What one draw of all latents takes."""
    return 4 * count_numbers(spec.latents)


@contextmanager
def remaining(
    monitor: Monitor, title: str, chunks: Sequence[Chunk]
) -> Iterator[tuple[list[Chunk], Callable[[int], None]]]:
    """The chunks that are not done yet, and what to call with the number of draws made."""
    missing = []
    for chunk in chunks:
        fault = chunk.fault()
        if fault and chunk.path.exists():
            monitor.say(f"{chunk.path} {fault}; it is drawn again")
        missing += [chunk] if fault else []
    total, left = (sum(chunk.size for chunk in some) for some in (chunks, missing))
    with monitor.progress(title, total, total - left) as advance:
        yield missing, advance


def draw(sampler: Sampler, observation: Values, n: int, seeds: NDArray[np.int64]) -> Draws:
    """Checked draws for observations (B, *shape), float32 on the CPU; the sampler gets copies of them.

    Raises:
        SpecError: they lack a variable, have a wrong shape, or are not finite.
    """
    draws = sampler.sample(copied(observation), n, seeds=seeds.copy())
    check_values(draws.values, sampler.spec.latents, (n, len(seeds)), f"{type(sampler).__name__}.sample")
    values = {v.name: draws.values[v.name].float().cpu().contiguous() for v in sampler.spec.latents}
    return Draws(values, draws.trust)


def observed(values: Values, spec: Spec, first: int, last: int) -> dict[str, Tensor]:
    """Rows `first` to `last - 1` of the observables: all that a sampler may see."""
    return {v.name: values[v.name][first:last] for v in spec.observables}
