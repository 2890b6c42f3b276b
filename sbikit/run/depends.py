"""What of a configuration each stage depends on, and the refusal of a folder made with another one.

A stage depends on what the stages before it depend on, too: their outputs go into it. Files that options name
count by their content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sbikit.problem.errors import RunFolderError
from sbikit.run.config import RunConfig
from sbikit.storage.seals import file_digest

ELSEWHERE = ("device", "devices", "device_batch", "precision")
"""Where a run is computed is no part of what it is."""

_SIMULATED = ("simulator", "seed")
_FITTED = (*_SIMULATED, "estimator")
_DRAWN = (*_FITTED, "reference", "sampling")
_NEEDS: dict[str, tuple[str, ...]] = {
    "simulate": (*_SIMULATED, "sampling.observations"),
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
            yield from _paths(choice.options.model_dump(), name)


def _paths(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Path):
        yield name, file_digest(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _paths(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _paths(inner, f"{name}.{index}")


_ABSENT = object()
_THERE, _ASKED = "there", "asked for"


def differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    path: str = "",
    *,
    words: tuple[str, str] = (_THERE, _ASKED),
) -> list[str]:
    """What differs between two trees: "simulator.size: 32 there, 64 asked for"."""
    out: list[str] = []
    for key in [*old, *(k for k in new if k not in old)]:
        here = f"{path}{key}"
        there, asked = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if isinstance(there, Mapping) and isinstance(asked, Mapping):
            out += differences(there, asked, here + ".", words=words)
        elif isinstance(there, list) and isinstance(asked, list):
            out += differences(_numbered(there), _numbered(asked), here + ".", words=words)
        elif there != asked:
            out.append(f"{here}: {_brief(there)} {words[0]}, {_brief(asked)} {words[1]}")
    return out


def _numbered(items: list[Any]) -> dict[str, Any]:
    return {str(index): item for index, item in enumerate(items)}


def _brief(value: object) -> str:
    if value is _ABSENT:
        return "nothing"
    return str(value.get("name", value)) if isinstance(value, Mapping) else json.dumps(value)


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
