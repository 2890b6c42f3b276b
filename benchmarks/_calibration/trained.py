"""The run that is judged: made by `sbikit init` and `sbikit fit` where it is not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from _run_folder import opened, streams
from torch import Tensor

from _calibration.sizes import Sizes
from sbikit import OptionError
from sbikit.runs import Run
from sbikit.runs.config import load_config, read_config
from sbikit.runs.draft import Overrides
from sbikit.storage import object_digest, read_tensors, write_tensors

_AT_ONCE = 32  # held-out simulations between two marks of progress


def fit_apart(folder: Path) -> None:
    """`sbikit fit`, which goes on with what is there."""
    _sbikit("fit", str(folder))


def trained(
    folder: Path,
    preset: str,
    sizes: Sizes,
    settings: Sequence[str] = (),
    fit: Callable[[Path], None] = fit_apart,
) -> Run:
    """The run in a folder; what it lacks is made first.

    Args:
        folder: its place.
        preset: of the run, where it is not there at all.
        sizes: with settings of its own.
        settings: more, as `sbikit init` takes them after `--set`.
        fit: trains the run in a folder, or finds that it is trained.

    Raises:
        OptionError: the run is there, with other settings than those given.
    """
    if not (folder / "run.yaml").exists():
        more = [word for setting in settings for word in ("--set", setting)]
        _sbikit("init", str(folder), "--preset", preset, *_settings(sizes, preset), *more)
    _check(folder / "run.yaml", settings)
    fit(folder)
    return opened(folder)


def _check(file: Path, settings: Sequence[str]) -> None:
    """Refuse settings that a run does not have."""
    now, wanted = read_config(file), load_config("quick", file, Overrides(assignments=tuple(settings)))
    if now.tree() != wanted.tree():
        raise OptionError(
            "The run was made with other settings.",
            where=str(file),
            expected=", ".join(settings),
            fix="leave --set out to go on with the run, or choose another folder",
        )


def _settings(sizes: Sizes, preset: str) -> list[str]:
    """`--set` of those settings that the preset's plug-ins have."""
    chosen, words = load_config(preset), []
    for key, value in sizes.run.items():
        section, _, option = key.partition(".")
        if option in type(getattr(chosen, section).options).model_fields:
            words += ["--set", f"{key}={value}"]
    return words


def _sbikit(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "sbikit", *words], check=True, stdout=sys.stderr)


def identity(run: Run) -> str:
    """What draws of the trained sampler depend on."""
    return object_digest([run.config.simulator.tree(), run.config.seed, run.folder.ledger.key("fit")])


def held_out(path: Path, run: Run, count: int) -> dict[str, Tensor]:
    """Held-out draws of all variables, each (count, *shape), kept in a file."""
    key = object_digest([run.config.simulator.tree(), run.config.seed, count])
    if path.exists():
        values, header = read_tensors(path)
        if header["key"] == key:
            return values
    source, parts = streams(run), []
    with run.monitor.progress("simulating held-out observations", count) as advance:
        for first in range(0, count, _AT_ONCE):
            parts.append(source.held_out(first, min(_AT_ONCE, count - first)))
            advance(len(next(iter(parts[-1].values()))))
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    write_tensors(path, joined, {"key": key})
    return joined
