"""What of a configuration each stage depends on, and the refusal of a folder made with another one.

A stage depends on what the stages before it depend on, too: their outputs go into it. Files that options name
count by their content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sbikit.problem.errors import RunFolderError
from sbikit.runs.config import Choice, RunConfig
from sbikit.storage.seals import file_digest

_LARGE = 2**26  # bytes of a file that takes long to read

ELSEWHERE = ("device", "devices", "device_batch", "precision", "workers", "cluster")
"""Where a run is computed is no part of what it is."""

_SIMULATED = ("simulator", "seed", "simulations.timeout")
_FITTED = (*_SIMULATED, "simulations.count", "estimator")
_DRAWN = (*_FITTED, "reference", "sampling")
_NEEDS: dict[str, tuple[str, ...]] = {
    "simulate": (*_SIMULATED, "sampling.observations"),
    "keep": _SIMULATED,  # more of the same may be added
    "fit": _FITTED,
    "reference": (
        *_SIMULATED,
        "reference",
        "sampling.reference_draws",
        "sampling.reference_observations",
    ),
    "sample": _DRAWN,
    "validate": (*_DRAWN, "validators"),
    "report": (*_DRAWN, "validators"),
}


def depends_on(config: RunConfig, stage: str) -> dict[str, Any]:
    """The part of a configuration that a stage depends on, as plain values that JSON can hold."""
    tree = config.tree()
    part = {key: _at(tree, key) for key in _NEEDS[stage]}
    files = {name: digest for name, digest in _files(config) if name.startswith(tuple(part))}
    found: dict[str, Any] = json.loads(json.dumps({**part, "content of": files} if files else part))
    return found


def _at(tree: Mapping[str, Any], key: str) -> Any:
    section, _, name = key.partition(".")
    return tree[section][name] if name else tree[section]


def _files(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Option -> digest of the file that it names, for every option that is a path."""
    chosen = {"simulator": config.simulator, "estimator": config.estimator, "reference": config.reference}
    chosen |= {f"validators.{index}": choice for index, choice in enumerate(config.validators)}
    for name, choice in chosen.items():
        if choice is not None:
            for option, path in paths_in(choice.options.model_dump(), name):
                yield option, _digest(path)


def chosen_by_content(choice: Choice) -> dict[str, Any]:
    """A plug-in's name and options, with the digest of its content in the place of every file."""
    tree = choice.tree()
    for name, path in paths_in(choice.options.model_dump(), ""):
        *above, last = name.removeprefix(".").split(".")
        node: Any = tree
        for key in above:
            node = node[int(key) if isinstance(node, list) else key]
        node[int(last) if isinstance(node, list) else last] = f"file of content {_digest(path)}"
    found: dict[str, Any] = json.loads(json.dumps(tree))
    return found


def paths_in(value: Any, name: str) -> Iterator[tuple[str, Path]]:
    """Every path among options, nested ones too, with the keys down to it after `name`."""
    if isinstance(value, Path):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from paths_in(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from paths_in(inner, f"{name}.{index}")


def _digest(path: Path) -> str:
    """Of a large file once a process, as long as its size and time of change are the same."""
    if path.is_file() and (found := path.stat()).st_size > _LARGE:
        return _large_digest(path, found.st_size, found.st_mtime_ns)
    return file_digest(path)


@lru_cache(maxsize=64)
def _large_digest(path: Path, size: int, changed: int) -> str:
    del size, changed
    return file_digest(path)


def another_configuration(path: Path, stage: str, wrong: list[str]) -> RunFolderError:
    """The refusal of a folder whose stage was done, or begun, with another configuration.

    Args:
        path: the run folder.
        stage: its name.
        wrong: what differs, see `differences`.
    """
    return RunFolderError(
        f"run.yaml is not what the stage {stage!r} of this folder was made with; nothing was changed.",
        where=str(path / "run.yaml"),
        expected="the configuration that the stage was made with",
        got="; ".join(wrong),
        fix="put the value back; or make a new run with another --out; or, to drop what was made and do it "
        "and all that follows again: --redo",
    )
