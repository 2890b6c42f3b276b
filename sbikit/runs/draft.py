"""A configuration in the making: what presets, files and the command line say, each value with its origin.

Naming another plug-in in a section drops what earlier sources set for the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from sbikit.plugins.installed import Kind, catalogue
from sbikit.problem.errors import OptionError
from sbikit.problem.option_errors import Path as Keys
from sbikit.problem.option_errors import dotted, nearest
from sbikit.storage.yaml_files import Located, parse_value, read_yaml

SECTIONS: dict[str, Kind] = {"simulator": "simulator", "estimator": "estimator", "reference": "sampler"}
"""Sections that choose one plug-in, and its kind."""


@dataclass(frozen=True)
class Overrides:
    """What the command line says; None and () leave the configuration as it is."""

    simulator: str | None = None
    estimator: str | None = None
    validators: tuple[str, ...] = ()
    reference: str | None = None
    seed: int | None = None
    device: str | None = None
    devices: int | None = None
    simulations: int | None = None
    store: str | None = None
    workers: int | None = None
    cluster: str | None = None
    assignments: tuple[str, ...] = ()


def presets() -> dict[str, Path]:
    """Name -> file of every preset."""
    folder = resources.files("sbikit.runs") / "presets"
    return {Path(str(f)).stem: Path(str(f)) for f in folder.iterdir() if str(f).endswith(".yaml")}


def read_preset(name: str) -> Located:
    """Read a preset.

    Raises:
        OptionError: there is none of this name.
    """
    known = presets()
    if name not in known:
        close = nearest(name, known)
        raise OptionError(
            f"There is no preset {name!r}.",
            where="--preset",
            expected=", ".join(sorted(known)),
            got=name,
            fix=f"did you mean {close!r}?" if close else "",
        )
    return read_yaml(known[name], f"preset {name}")


class Draft:
    """A configuration in the making, with the origin of every value."""

    def __init__(self, start: Located) -> None:
        self.tree = start.tree
        self.origins = start.origins

    def merge(self, layer: Located) -> None:
        """Lay another source on top."""
        for section in SECTIONS:
            self._switch(section, layer.tree.get(section))
        self._merge(self.tree, layer.tree)
        self.origins.update(layer.origins)

    def override(self, overrides: Overrides) -> None:
        """Lay the command line on top."""
        so_far = self._validators()
        flags: dict[str, Any] = {}
        origins: dict[Keys, str] = {}
        for section, flag, name in (
            ("simulator", "--sim", overrides.simulator),
            ("estimator", "--estimator", overrides.estimator),
            ("reference", "--reference", overrides.reference),
        ):
            if name is not None:
                flags[section] = {"name": name}
                origins[section,] = origins[section, "name"] = flag
        for key in ("seed", "device", "devices", "workers", "cluster"):
            if (value := getattr(overrides, key)) is not None:
                flags[key] = value
                origins[key,] = f"--{key}"
        kept = {"count": ("--simulations", overrides.simulations), "store": ("--store", overrides.store)}
        for key, (flag, value) in kept.items():
            if value is not None:
                flags.setdefault("simulations", {})[key] = value
                origins["simulations", key] = flag
        if overrides.validators:
            flags["validators"] = [so_far.get(name, {"name": name}) for name in overrides.validators]
            origins["validators",] = "--validator"
        self.merge(Located(flags, origins))
        self.bring_along(so_far)
        for assignment in overrides.assignments:
            self.assign(assignment)

    def assign(self, assignment: str) -> None:
        """Lay one `--set key=value` on top.

        Raises:
            OptionError: it is no assignment, or the key leads nowhere.
        """
        label = f"--set {assignment}"
        key, equals, text = assignment.partition("=")
        keys = key.strip().split(".")
        if not equals or not all(keys):
            raise OptionError(
                "This is no assignment.", where=label, expected="key=value, for example simulator.size=64"
            )
        self.put(keys, parse_value(text, label), label)

    def put(self, keys: list[str], value: Any, label: str) -> None:
        """Lay one value on top.

        Args:
            keys: down to it; a number picks from a list.
            value: the value.
            label: where it was written.

        Raises:
            OptionError: the keys lead nowhere.
        """
        if len(keys) == 2 and keys[1] == "name" and keys[0] in SECTIONS:
            self.merge(Located({keys[0]: {"name": value}}, {(keys[0], "name"): label}))
            return
        path = self._put(keys, value, label)
        self._forget(path)
        self.origins[path] = label

    def locate(self, path: Keys) -> str:
        """Where the value at `path`, or the nearest section around it, was written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return f"{self.origins[path[:length]]} ({dotted(path)})"
        return dotted(path)

    def bring_along(self, so_far: Mapping[str, dict[str, Any]] | None = None) -> None:
        """Choose the validators that compare with a reference, where there is one.

        Args:
            so_far: name -> name and options of validators that a flag has left out; they keep their options.
        """
        reference, validators = self.tree.get("reference"), self.tree.get("validators", [])
        if not (isinstance(reference, Mapping) and "name" in reference and isinstance(validators, list)):
            return
        named = self._validators()
        origin = f"{self.locate(('reference', 'name'))}, which brings it along"
        brought = [found.offer.name for found in catalogue().of("validator") if found.offer.with_reference]
        for name in dict.fromkeys(name for name in brought if name not in named):
            self.origins["validators", len(validators)] = origin
            validators = [*validators, dict((so_far or {}).get(name, {"name": name}))]
            self.tree["validators"] = validators

    def _validators(self) -> dict[str, dict[str, Any]]:
        """The validators chosen so far, by name."""
        given = self.tree.get("validators")
        found = [one for one in (given if isinstance(given, list) else ()) if isinstance(one, dict)]
        return {one["name"]: one for one in found if isinstance(one.get("name"), str)}

    def _switch(self, section: str, new: Any) -> None:
        """Drop the options of a plug-in that gives way to another."""
        old = self.tree.get(section)
        if not (isinstance(new, Mapping) and isinstance(old, dict)):
            return
        if new.get("name", old.get("name")) != old.get("name"):
            self.tree[section] = {}
            self._forget((section,))

    def _merge(self, base: dict[str, Any], layer: Mapping[str, Any], path: Keys = ()) -> None:
        for key, value in layer.items():
            here = (*path, key)
            if isinstance(value, Mapping) and isinstance(base.get(key), dict):
                self._merge(base[key], value, here)
            else:
                self._forget(here)
                base[key] = value

    def _put(self, keys: list[str], value: Any, label: str) -> Keys:
        """Set the value at `keys`, where a number picks from a list; gives the path."""
        node: Any = self.tree
        path: Keys = ()
        for key in keys[:-1]:
            step = _step(node, key, path, label)
            if isinstance(node, dict) and node.get(step) is None:
                node[step] = {}
            node, path = node[step], (*path, step)
        last = _step(node, keys[-1], path, label)
        node[last] = value
        return (*path, last)

    def _forget(self, path: Keys) -> None:
        for known in [k for k in self.origins if k[: len(path)] == path]:
            del self.origins[known]


def _step(node: Any, key: str, path: Keys, label: str) -> str | int:
    """The key as it indexes this node."""
    if isinstance(node, dict):
        return key
    if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
        return int(key)
    listed = isinstance(node, list)
    raise OptionError(
        f"{dotted((*path, key))} leads nowhere.",
        where=label,
        expected=f"a number below {len(node)} after {dotted(path)}" if listed else f"{dotted(path)} alone",
        got=key,
    )
