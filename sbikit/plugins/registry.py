"""From a plug-in's name to its class, which is imported now and not before, and to an object."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from sbikit.problem.errors import PluginError

if TYPE_CHECKING:
    from sbikit.problem.options import Options
    from sbikit.roles.estimator import Estimator
    from sbikit.roles.plugin import Plugin
    from sbikit.roles.sampler import ExactSampler
    from sbikit.roles.simulator import Simulator
    from sbikit.roles.validator import Validator
from sbikit.plugins.installed import KINDS, Catalogue, Found, FoundPretrained, Kind, Problem, catalogue
from sbikit.plugins.session import MARK, held, held_names


def find(kind: Kind, name: str) -> Found:
    """The offer of this name.

    Raises:
        PluginError: there is none, or there are two.
    """
    _check_kind(kind)
    mine = held(kind, name)
    if mine is not None:
        return mine.found()
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


def find_pretrained(name: str) -> FoundPretrained:
    """The fitted posterior of this name.

    Raises:
        PluginError: there is none, or there are two.
    """
    from sbikit.problem.option_errors import nearest

    book = catalogue()
    matches = book.pretrained_as(name)
    if not matches:
        names = sorted({found.pretrained.name for found in book.pretrained})
        close = nearest(name, names)
        lame = ", ".join(sorted({p.entry for p in book.problems}))
        raise PluginError(
            f"There are no pretrained weights named {name!r}.",
            where="--pretrained",
            expected=", ".join(names) or "none are installed",
            got=name,
            fix=(f"did you mean {close!r}?" if close else "train them: `sbikit run`, see its --preset")
            + (f" (broken: {lame}; see `sbikit plugins`)" if lame else ""),
        )
    if len(matches) > 1:
        owners = [found.distribution for found in matches]
        raise PluginError(
            f"Pretrained weights named {name!r} are offered twice.",
            where=" and ".join(owners),
            expected="one offer a name",
            fix=f"uninstall one of them: pip uninstall {owners[-1]}",
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
    if MARK in name:
        cls = name.partition(MARK)[0]
        others = [one for one in held_names() if one.startswith(cls + MARK)]
        return PluginError(
            f"The {what} {name!r} is an object that was made in Python, and is not known here.",
            expected="the object, of the same code and state",
            got=f"{' and '.join(others)}, of other code or state" if others else "its name alone",
            fix=f"open the folder from Python, where it is: sbikit.open_run(folder, {cls}()); or publish it "
            "as a plug-in: `sbikit plugins new`",
        )
    broken = [p for p in book.problems if _about(p, name)]
    if broken:
        return PluginError(
            f"The plug-in {name!r} is installed but broken: {broken[0].message}",
            where=f"entry point {broken[0].entry!r} of {broken[0].distribution}",
            expected=f"an offer of the {what} {name!r}",
            fix="mend or reinstall that distribution; `sbikit plugins` lists what works",
        )
    elsewhere = [f.kind for f in book.found if f.offer.name == name]
    if book.pretrained_as(name) and not elsewhere:
        return PluginError(
            f"There is no {what} named {name!r}; that is the name of pretrained weights.",
            got=name,
            fix=f"draw from them: sbikit sample --pretrained {name}",
        )
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
    mine = held(kind, name)
    if mine is not None:
        return type(mine.plugin)
    found = find(kind, name)
    cls = _imported(found, found.offer.target)
    _check_class(found, cls)
    plugin = cast("type[Plugin]", cls)
    if found.offer.options and plugin.Options is not _imported(found, found.offer.options):
        raise PluginError(
            f"The {kind} {name!r} has other options than its offer says.",
            where=_home(found),
            expected=f"{found.offer.options}, as the class in brackets",
            got=f"{plugin.Options.__module__}:{plugin.Options.__qualname__}",
            fix="mend Offer(options=...), or leave it out",
        )
    return plugin


def options_of(kind: Kind, name: str) -> type[Options]:
    """The options of a plug-in, without importing it where its offer says where they are.

    Raises:
        PluginError: see `resolve`.
    """
    if held(kind, name) is None:
        found = find(kind, name)
        if found.offer.options:
            return cast("type[Options]", _imported(found, found.offer.options))
    return resolve(kind, name).Options


def _imported(found: Found, target: str) -> object:
    """What stands at "module:name".

    Raises:
        PluginError: an extra is missing, or the import fails.
    """
    module_name, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module_name.partition(".")[0]:
            raise missing_library(found, error) from error
        raise _broken(found, error) from error
    except Exception as error:
        raise _broken(found, error) from error


def made(kind: Kind, name: str, options: Options) -> Plugin:
    """The plug-in of a name, with options that are checked already; the object itself where this session has
    one of that name.

    Raises:
        PluginError: see `resolve`; or the object was made with other options.
    """
    mine = held(kind, name)
    if mine is None:
        return resolve(kind, name)(options)
    own = getattr(mine.plugin, "options", None)
    if isinstance(own, type(options)) and own.model_dump() != options.model_dump():
        raise PluginError(
            f"The {kind} {name!r} is an object, which has the options that it was made with.",
            where=", ".join(key for key, value in options if getattr(own, key) != value),
            expected=str(own),
            got=str(options),
            fix="make it with these options, or give its name where it is installed",
        )
    return mine.plugin


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
    from sbikit import roles

    names: dict[Kind, str] = {
        "simulator": "Simulator",
        "estimator": "Estimator",
        "sampler": "ExactSampler",
        "validator": "Validator",
    }
    base = getattr(roles, names[found.kind])
    if isinstance(cls, type) and issubclass(cls, base):
        return
    raise PluginError(
        f"The {found.kind} {found.offer.name!r} is no sbikit.{base.__name__}.",
        where=_home(found),
        expected=f"a subclass of sbikit.{base.__name__}",
        got=repr(cls),
    )


@overload
def load(kind: Literal["simulator"], name: str, **options: Any) -> Simulator: ...


@overload
def load(kind: Literal["estimator"], name: str, **options: Any) -> Estimator: ...


@overload
def load(kind: Literal["sampler"], name: str, **options: Any) -> ExactSampler: ...


@overload
def load(kind: Literal["validator"], name: str, **options: Any) -> Validator: ...


def load(kind: Kind, name: str, **options: Any) -> Any:
    """Make an installed plug-in: `sbikit.load("simulator", "lognormal", size=32)`.

    Args:
        kind: "simulator", "estimator", "sampler" or "validator".
        name: its name, as `sbikit plugins` lists it.
        options: options of the plug-in, as `sbikit plugins show NAME` lists them; defaults are filled in.

    Raises:
        PluginError: the name is unknown, broken or clashing, or an extra is missing.
        OptionError: an option is unknown, of the wrong type or out of range.
    """
    from sbikit.problem.option_errors import check_options

    cls = resolve(kind, name)
    return cls(check_options(cls.Options, options, prefix=(kind,)))
