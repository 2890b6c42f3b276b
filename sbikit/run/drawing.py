"""Draws of a sampler for many observations, a file a chunk, so that an interrupt costs one chunk at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sbikit.problem.seeds import derive_seed
from sbikit.problem.spec import Spec, check_values
from sbikit.problem.variables import Values
from sbikit.roles.monitor import Monitor
from sbikit.roles.sampler import Sampler
from sbikit.run.runfolder import replacing


@dataclass(frozen=True)
class Chunk:
    """`n` draws for each of the held-out observations `first` to `last - 1`, in one file.

    Args:
        path: the file.
        key: of the stages that the draws are made from; the file is valid only beside it.
        stream: what the draws are for; names their random numbers.
        first, last: the observations.
        n: draws an observation.
    """

    path: Path
    key: str
    stream: str
    first: int
    last: int
    n: int

    @property
    def size(self) -> int:
        """Number of draws."""
        return self.n * (self.last - self.first)

    def draw(self, sampler: Sampler, held_out: Values, seed: int) -> dict[str, Tensor]:
        """The draws of the run `seed`, each (n, last - first, *shape)."""
        observation = observed(held_out, sampler.spec, self.first, self.last)
        return draw(sampler, observation, self.n, derive_seed(seed, self.stream, self.first))

    def metadata(self) -> dict[str, str]:
        """What was saved with the draws; {} where the file is missing or damaged."""
        try:
            with safe_open(self.path, "pt") as file:
                return dict(file.metadata() or {})
        except (OSError, SafetensorError):
            return {}

    def whole(self) -> bool:
        """Whether the file is there and belongs to this run's stages."""
        return self.metadata().get("key") == self.key

    def save(self, draws: Values, extra: Mapping[str, str] | None = None) -> None:
        """Write the file, all or nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save(self.path, draws, {"key": self.key, **(extra or {})})

    def load(self) -> dict[str, Tensor]:
        """The draws, each (n, last - first, *shape)."""
        return load_file(self.path)


@dataclass(frozen=True)
class Work:
    """Draws to make.

    Args:
        stream: what they are for.
        observations: how many of the held-out observations, from the first on.
        n: draws an observation.
        at_once: observations a chunk.
    """

    stream: str
    observations: int
    n: int
    at_once: int

    def chunks(self, folder: Path, key: str) -> list[Chunk]:
        """The chunks of this work, in files under `folder`."""
        found = []
        for first in range(0, self.observations, self.at_once):
            last = min(first + self.at_once, self.observations)
            path = folder / self.stream / f"{first:05d}-{last:05d}.safetensors"
            found.append(Chunk(path, key, self.stream, first, last, self.n))
        return found


@contextmanager
def remaining(
    monitor: Monitor, title: str, chunks: Sequence[Chunk]
) -> Iterator[tuple[list[Chunk], Callable[[int], None]]]:
    """The chunks that are not done yet, and what to call with the number of draws made."""
    missing = [chunk for chunk in chunks if not chunk.whole()]
    total, left = (sum(chunk.size for chunk in some) for some in (chunks, missing))
    with monitor.progress(title, total, total - left) as advance:
        yield missing, advance


def draw(sampler: Sampler, observation: Values, n: int, seed: int) -> dict[str, Tensor]:
    """Checked draws, each (n, B, *shape), for observations (B, *shape)."""
    draws = sampler.sample(observation, n, seed=seed)
    count = len(next(iter(observation.values())))
    check_values(draws, sampler.spec.latents, (n, count), f"{type(sampler).__name__}.sample")
    return {v.name: draws[v.name].float().cpu().contiguous() for v in sampler.spec.latents}


def observed(values: Values, spec: Spec, first: int, last: int) -> dict[str, Tensor]:
    """Rows `first` to `last - 1` of the observables: all that a sampler may see."""
    return {v.name: values[v.name][first:last] for v in spec.observables}


def joined(parts: Sequence[Values], axis: int) -> dict[str, Tensor]:
    """Each variable of all parts along `axis`."""
    return {name: torch.cat([part[name] for part in parts], axis) for name in parts[0]}


def save(path: Path, values: Values, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, all or nothing."""
    with replacing(path) as partial:
        save_file(dict(values), partial, metadata=metadata or {})


__all__ = ["Chunk", "Work", "draw", "joined", "observed", "remaining", "save"]
