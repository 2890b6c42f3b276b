"""Finding plug-ins: one small loop around pluggy over the entry points of group `sbikit`.

Each entry point gets a plug-in manager of its own, so that one that fails on import, misspells a
hook or returns nonsense is reported and the others work. Nothing heavy is imported: an offer's
class is imported when its name is chosen.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args, overload

import pluggy

from sbikit.plugins import hookspecs
from sbikit.plugins.hookspecs import Offer
from sbikit.problem.errors import OptionError, PluginError

if TYPE_CHECKING:
    from sbikit.roles.estimator import Estimator
    from sbikit.roles.monitor import Monitor
    from sbikit.roles.plugin import Plugin
    from sbikit.roles.sampler import Sampler
    from sbikit.roles.simulator import Simulator
    from sbikit.roles.validator import Validator

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


# --- from a name to a class -----------------------------------------------------------------


def find(kind: Kind, name: str) -> Found:
    """The offer of this name.

    Raises:
        PluginError: there is none, or there are two.
    """
    _check_kind(kind)
    book = catalogue()
    matches = [f for f in book.of(kind) if f.offer.name == name]
    if not matches:
        raise not_found(book, kind, name)
    if len(matches) > 1:
        owners = " and ".join(f"{f.distribution} ({f.offer.target})" for f in matches)
        raise PluginError(
            f"Two distributions offer a {kind} named {name!r}.",
            where=owners,
            expected="one offer a name",
            fix=f"uninstall one of them: pip uninstall {matches[-1].distribution}",
        )
    return matches[0]


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise PluginError("There is no such kind of plug-in.", expected=", ".join(KINDS), got=repr(kind))


def not_found(book: Catalogue, kind: Kind | None, name: str) -> PluginError:
    """The refusal of a name that is offered by nobody.

    Args:
        book: all that is installed.
        kind: what was asked for; None for any kind.
        name: the name asked for.
    """
    from sbikit.problem.option_errors import nearest

    what = kind or "plug-in"
    broken = [p for p in book.problems if _about(p, name)]
    if broken:
        return PluginError(
            f"The plug-in {name!r} is installed but broken: {broken[0].message}",
            where=f"entry point {broken[0].entry!r} of {broken[0].distribution}",
            expected=f"an offer of the {what} {name!r}",
            fix="mend or reinstall that distribution; `sbikit plugins` lists what works",
        )
    elsewhere = [f.kind for f in book.found if f.offer.name == name]
    names = sorted(f.offer.name for f in book.found if kind in (None, f.kind))
    close = nearest(name, names)
    lame = ", ".join(sorted({p.entry for p in book.problems}))
    return PluginError(
        f"There is no {what} named {name!r}"
        + (f"; that is the name of {_what(elsewhere[0])}." if elsewhere else "."),
        expected=", ".join(names) or f"no {what} is installed",
        got=name,
        fix=_advice(elsewhere, name, close) + (f" (broken: {lame}; see `sbikit plugins`)" if lame else ""),
    )


def _about(problem: Problem, name: str) -> bool:
    """Whether a broken entry point is the likely home of `name`."""
    plain = name.replace("_", "-")
    return plain == problem.entry.replace("_", "-") or problem.distribution in (f"sbikit-{plain}", plain)


def _what(kind: Kind) -> str:
    words = {"sampler": "a reference sampler, which needs no training", "estimator": "an estimator"}
    return words.get(kind, f"a {kind}")


def _advice(elsewhere: list[Kind], name: str, close: str) -> str:
    flags = {"simulator": "--sim", "estimator": "--estimator", "validator": "--validator"}
    if "sampler" in elsewhere:
        return f"use it beside an estimator: --reference {name}"
    if elsewhere:
        return f"use it as {flags[elsewhere[0]]} {name}"
    return f"did you mean {close!r}?" if close else "see `sbikit plugins`"


def resolve(kind: Kind, name: str) -> type[Plugin]:
    """Import the class behind a name.

    Raises:
        PluginError: the name is unknown or clashes, an extra is missing, the import fails, or the
            class is not of this kind.
    """
    found = find(kind, name)
    module_name, _, class_name = found.offer.target.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module_name.partition(".")[0]:
            raise missing_library(found, error) from error
        raise _broken(found, error) from error
    except Exception as error:
        raise _broken(found, error) from error
    _check_class(found, cls)
    return cast("type[Plugin]", cls)


def _broken(found: Found, error: Exception) -> PluginError:
    return PluginError(
        f"The {found.kind} {found.offer.name!r} cannot be imported: {type(error).__name__}: {error}",
        where=_home(found),
        fix="mend or reinstall that distribution",
    )


def _home(found: Found) -> str:
    return f"{found.offer.target} of {found.distribution}"


def missing_library(found: Found, error: ModuleNotFoundError) -> PluginError:
    """The refusal when a plug-in's own library is not installed."""
    extra = found.offer.extra
    library = (error.name or found.distribution).partition(".")[0]
    package = f"'{found.distribution}[{extra}]'" if extra else library
    return PluginError(
        f"The {found.kind} {found.offer.name!r} needs {error.name!r}, which is not installed.",
        where=_home(found),
        fix=f"pip install {package}",
    )


def _check_class(found: Found, cls: object) -> None:
    from sbikit.roles import plugin as interfaces

    base = getattr(interfaces, found.kind.capitalize())
    needed = (interfaces.Plugin, base) if found.kind == "sampler" else (base,)
    if isinstance(cls, type) and all(issubclass(cls, parent) for parent in needed):
        return
    names = [f"sbikit.{parent.__name__}" for parent in needed]
    raise PluginError(
        f"The {found.kind} {found.offer.name!r} is no sbikit.{base.__name__}.",
        where=_home(found),
        expected=f"a subclass of {' and '.join(names)}",
        got=repr(cls),
    )


# --- from a name to an object ---------------------------------------------------------------


def build(
    kind: Kind,
    name: str,
    options: Mapping[str, Any],
    *,
    simulator: Simulator | None = None,
    monitor: Monitor | None = None,
) -> Any:
    """Make a plug-in from its options.

    Args:
        kind: what it is.
        name: its name.
        options: option -> value; defaults are filled in.
        simulator: the simulator of a sampler; None for the other kinds.
        monitor: where a sampler whose `__init__` has a `monitor` reports; None: nowhere.

    Raises:
        PluginError: see `resolve`.
        OptionError: an option is unknown or wrong, or a sampler lacks its simulator.
    """
    from sbikit.problem.option_errors import check_options

    cls = resolve(kind, name)
    checked = check_options(cls.Options, options, prefix=(kind,))
    if kind != "sampler":
        return cls(checked)
    if simulator is None:
        raise OptionError(
            f"The sampler {name!r} draws from the density of a simulator, and none was given.",
            expected="simulator=...",
            fix=f'sbikit.load("sampler", "{name}", simulator=sbikit.load("simulator", ...))',
        )
    make = cast("Callable[..., Sampler]", cls)
    if monitor is not None and "monitor" in inspect.signature(make).parameters:
        return make(simulator, checked, monitor=monitor)
    return make(simulator, checked)


@overload
def load(kind: Literal["simulator"], name: str, **options: Any) -> Simulator: ...
@overload
def load(kind: Literal["estimator"], name: str, **options: Any) -> Estimator: ...
@overload
def load(kind: Literal["validator"], name: str, **options: Any) -> Validator: ...
@overload
def load(kind: Literal["sampler"], name: str, *, simulator: Simulator, **options: Any) -> Sampler: ...
def load(kind: Kind, name: str, *, simulator: Simulator | None = None, **options: Any) -> Any:
    """Make an installed plug-in: `sbikit.load("simulator", "lognormal", size=32)`.

    Args:
        kind: "simulator", "estimator", "sampler" or "validator".
        name: its name, as `sbikit plugins` lists it.
        simulator: for a sampler, the simulator whose posterior it draws from.
        options: options of the plug-in, as `sbikit plugins show NAME` lists them.

    Raises:
        PluginError: the name is unknown, broken or clashing, or an extra is missing.
        OptionError: an option is unknown, of the wrong type or out of range.
    """
    if simulator is not None and kind != "sampler":
        raise OptionError(f"Only a sampler takes a simulator; {name!r} is a {kind}.", fix="leave it out")
    return build(kind, name, options, simulator=simulator)
