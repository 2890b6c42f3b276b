"""Draws and figures of a long benchmark, kept in a folder so that an interrupted one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sbikit import Draws, Sampler, Values, draw_seeds
from sbikit.storage import read_draws, write_draws, write_json


def kept_figures(path: Path, make: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The figures in this file; made and written first where it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, make())
    return dict(json.loads(path.read_text()))


def kept_record(path: Path, key: str, make: Callable[[], Any]) -> Any:
    """What is in this file, plain JSON; made and written first where it is not there or has another key."""
    if path.exists():
        found = json.loads(path.read_text())
        if found["key"] == key:
            return found["record"]
    path.parent.mkdir(parents=True, exist_ok=True)
    made = make()
    write_json(path, {"key": key, "record": made})
    return made


def sampled(folder: Path, sampler: Sampler, observation: Values, n: int, seed: int, *, at_once: int) -> Draws:
    """Draws (n, B, *shape) for B observations, with what is said of them, in resumable steps."""
    parts = []
    count = len(next(iter(observation.values())))
    for first in range(0, count, at_once):
        some = {name: value[first : first + at_once] for name, value in observation.items()}

        path = folder / f"{first:05d}.safetensors"
        if not path.exists():
            seeds = draw_seeds(seed, folder.name, first, len(next(iter(some.values()))))
            write_draws(path, sampler.sample(some, n, seeds=seeds))
        parts.append(read_draws(path))
    return Draws.joined(parts)
