"""Finding plug-ins: one small loop around pluggy over the entry points of group `sbikit`.

Each entry point gets a plug-in manager of its own, so that one that fails on import, misspells a
hook or returns nonsense is reported and the others work. Nothing heavy is imported.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Literal, TypeAlias, get_args

import pluggy

from sbikit.plugins import hookspecs
from sbikit.plugins.hookspecs import Offer

Kind: TypeAlias = Literal["simulator", "estimator", "sampler", "validator"]
KINDS: tuple[Kind, ...] = get_args(Kind)
GROUP = "sbikit"
HOOKS: dict[str, Kind] = {f"sbikit_{kind}s": kind for kind in KINDS}


@dataclass(frozen=True)
class Found:
    """An offer and the distribution it comes from."""

    kind: Kind
    offer: Offer
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


@cache
def catalogue() -> Catalogue:
    """Look through the installed entry points, once."""
    found: list[Found] = []
    problems: list[Problem] = []
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda e: e.name):
        new, wrong = _read(entry)
        found += new
        problems += wrong
    return Catalogue(tuple(found), tuple(problems))


def _read(entry: metadata.EntryPoint) -> tuple[list[Found], list[Problem]]:
    """The offers of one entry point, and what is wrong with it."""
    distribution, version = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "")

    def problem(message: str) -> Problem:
        return Problem(entry.name, distribution, message)

    try:
        module = entry.load()
    except Exception as error:
        return [], [problem(f"importing {entry.value!r} raised {type(error).__name__}: {error}")]
    found: list[Found] = []
    problems = [problem(text) for text in _misspelt(module)]
    for hook, kind in HOOKS.items():
        try:
            offers = _call(module, hook)
        except Exception as error:
            problems.append(problem(f"{hook} raised {type(error).__name__}: {error}"))
            continue
        wrong = [offer for offer in offers if not isinstance(offer, Offer) or ":" not in offer.target]
        problems += [problem(f"{hook} returned {w!r} where an Offer is expected") for w in wrong]
        found += [Found(kind, offer, distribution, version) for offer in offers if offer not in wrong]
    if not found and not problems:
        problems = [problem(f"{entry.value!r} offers nothing: is @hookimpl missing on its functions?")]
    return found, problems


def _call(module: ModuleType, hook: str) -> list[Offer]:
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

    out = []
    for name in _marked(module):
        if name not in HOOKS:
            close = nearest(name, HOOKS) or "one of " + ", ".join(HOOKS)
            out.append(f"there is no hook {name!r}: did you mean {close}?")
    return out
