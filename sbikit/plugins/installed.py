"""Finding plug-ins: one small loop around pluggy over the entry points of group `sbikit`.

Each entry point gets a plug-in manager of its own, so that one that fails on import, misspells a
hook or returns nonsense is reported and the others work. Nothing heavy is imported.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, get_args

import pluggy

from sbikit.plugins import hookspecs
from sbikit.plugins.hookspecs import Offer, Pretrained

Kind: TypeAlias = Literal["simulator", "estimator", "sampler", "validator"]
KINDS: tuple[Kind, ...] = get_args(Kind)
GROUP = "sbikit"
HOOKS: dict[str, Kind] = {f"sbikit_{kind}s": kind for kind in KINDS}
PRETRAINED_HOOK = "sbikit_pretrained"


@dataclass(frozen=True)
class Found:
    """An offer and the distribution it comes from."""

    kind: Kind
    offer: Offer
    distribution: str
    version: str


@dataclass(frozen=True)
class FoundPretrained:
    """A fitted posterior on offer and the distribution it comes from."""

    pretrained: Pretrained
    distribution: str
    version: str


@dataclass(frozen=True)
class Problem:
    """An entry point, or a part of one, that cannot be used."""

    entry: str
    distribution: str
    message: str


@dataclass(frozen=True)
class Catalogue:
    """All that is installed."""

    found: tuple[Found, ...]
    problems: tuple[Problem, ...]
    pretrained: tuple[FoundPretrained, ...] = ()

    def of(self, kind: Kind) -> tuple[Found, ...]:
        """The offers of one kind, sorted by name."""
        return tuple(sorted((f for f in self.found if f.kind == kind), key=lambda f: f.offer.name))

    def clashes(self) -> dict[tuple[Kind, str], tuple[Found, ...]]:
        """Names of one kind that are offered more than once."""
        by_name: dict[tuple[Kind, str], tuple[Found, ...]] = {}
        for found in self.found:
            key = (found.kind, found.offer.name)
            by_name[key] = (*by_name.get(key, ()), found)
        return {key: offers for key, offers in by_name.items() if len(offers) > 1}

    def pretrained_as(self, name: str) -> tuple[FoundPretrained, ...]:
        """The fitted posteriors of this name."""
        return tuple(found for found in self.pretrained if found.pretrained.name == name)

    def pretrained_clashes(self) -> dict[str, list[str]]:
        """Names of fitted posteriors that are offered more than once -> the distributions that do."""
        names = {found.pretrained.name for found in self.pretrained}
        owners = {name: [found.distribution for found in self.pretrained_as(name)] for name in sorted(names)}
        return {name: homes for name, homes in owners.items() if len(homes) > 1}


@cache
def catalogue() -> Catalogue:
    """Look through the installed entry points, once."""
    books = [_read(entry) for entry in sorted(metadata.entry_points(group=GROUP), key=lambda e: e.name)]
    return Catalogue(
        tuple(found for book in books for found in book.found),
        tuple(problem for book in books for problem in book.problems),
        tuple(found for book in books for found in book.pretrained),
    )


def _read(entry: metadata.EntryPoint) -> Catalogue:
    """The offers of one entry point, and what is wrong with it."""
    distribution, version = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "")

    def problem(message: str) -> Problem:
        return Problem(entry.name, distribution, message)

    try:
        module = entry.load()
    except Exception as error:
        text = f"importing {entry.value!r} raised {type(error).__name__}: {error}"
        return Catalogue((), (problem(text),))
    found: list[Found] = []
    pretrained: list[FoundPretrained] = []
    problems = [problem(text) for text in _misspelt(module)]
    for hook in (*HOOKS, PRETRAINED_HOOK):
        try:
            offers = _call(module, hook)
        except Exception as error:
            problems.append(problem(f"{hook} raised {type(error).__name__}: {error}"))
            continue
        for offer in offers:
            wrong = _fault(hook, offer)
            if wrong:
                problems.append(problem(f"{hook} returned {offer!r}, {wrong}"))
            elif hook in HOOKS:
                found.append(Found(HOOKS[hook], offer, distribution, version))
            else:
                pretrained.append(FoundPretrained(offer, distribution, version))
    if not found and not pretrained and not problems:
        problems = [problem(f"{entry.value!r} offers nothing: is @hookimpl missing on its functions?")]
    return Catalogue(tuple(found), tuple(problems), tuple(pretrained))


def _fault(hook: str, offer: object) -> str:
    """What is wrong with something that a hook returned; "" where nothing is."""
    if hook in HOOKS:
        return "" if isinstance(offer, Offer) and ":" in offer.target else "where an Offer is expected"
    if not (isinstance(offer, Pretrained) and isinstance(offer.folder, Path)):
        return "where a Pretrained with a Path is expected"
    there = (offer.folder / "run.yaml").is_file()
    return "" if there else "and its folder has no run.yaml: was the folder left out of the wheel?"


def _call(module: ModuleType, hook: str) -> list[Any]:
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(_OneHook(module, hook))
    return [offer for offers in getattr(manager.hook, hook)() for offer in offers]


class _OneHook:
    """A module seen through one of its hooks: a misspelt neighbour does no harm."""

    def __init__(self, module: ModuleType, hook: str) -> None:
        if hook in _marked(module):
            setattr(self, hook, getattr(module, hook))


def _marked(module: ModuleType) -> list[str]:
    """Names of the functions of a module that `hookimpl` marked."""
    functions = inspect.getmembers(module, inspect.isroutine)
    return [name for name, function in functions if hasattr(function, f"{GROUP}_impl")]


def _misspelt(module: ModuleType) -> list[str]:
    from sbikit.problem.option_errors import nearest

    out, hooks = [], (*HOOKS, PRETRAINED_HOOK)
    for name in _marked(module):
        if name not in hooks:
            close = nearest(name, hooks) or "one of " + ", ".join(hooks)
            out.append(f"there is no hook {name!r}: did you mean {close}?")
    return out
