"""Draws and figures of a long benchmark, kept in a folder so that an interrupted one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sbikit import Sampler, Values


def kept_draws(path: Path, make: Callable[[], Values]) -> dict[str, Tensor]:
    """The draws in this file; made and written first where it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file({name: value.contiguous() for name, value in make().items()}, partial)
        partial.rename(path)
    return load_file(path)


def kept_figures(path: Path, make: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The figures in this file; made and written first where it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(make()))
        partial.rename(path)
    return dict(json.loads(path.read_text()))


def sampled(
    folder: Path, sampler: Sampler, observation: Values, n: int, seed: int, *, at_once: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Draws (n, B, *shape) for B observations, and which of them can be trusted, in resumable steps.

    Returns:
        The draws, and per observation `trusted` (B,), `ess` (B,), the smallest effective sample size of a
        parameter, and `seconds` (B,).
    """
    parts = []
    count = len(next(iter(observation.values())))
    for first in range(0, count, at_once):
        some = {name: value[first : first + at_once] for name, value in observation.items()}

        def make(some: Values = some, first: int = first) -> Values:
            draws = dict(sampler.sample(some, n, seed=seed + first))
            found = getattr(sampler, "diagnostics", ())
            trusted = [one.trustworthy for one in found]
            draws["trusted"] = torch.tensor(trusted or [True] * len(next(iter(some.values()))))
            draws["ess"] = torch.tensor([min(getattr(one, "ess_bulk", (n,))) for one in found] or [float(n)])
            draws["seconds"] = torch.tensor([one.seconds for one in found] or [0.0])
            return draws

        parts.append(kept_draws(folder / f"{first:05d}.safetensors", make))
    told = ("trusted", "ess", "seconds")
    draws = {k: torch.cat([part[k] for part in parts], 1) for k in parts[0] if k not in told}
    return draws, {k: torch.cat([part[k] for part in parts]) for k in told}
