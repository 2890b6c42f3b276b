"""Plug-ins of this session: objects that somebody made and nobody registered.

Each has a name of its own, the class and a digest of its code and state, `Mine@3fa9c1d2`, by which a
configuration names it as it names one that is installed. Another process is given the objects themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sbikit.plugins.hookspecs import Offer
from sbikit.plugins.installed import Found, Kind, catalogue
from sbikit.problem.errors import PluginError

if TYPE_CHECKING:
    from sbikit.roles.plugin import Plugin

MARK = "@"
"""Between the class of a plug-in of a session and its digest."""


@dataclass(frozen=True)
class Held:
    """A plug-in of this session and its name.

    Args:
        kind: what it is.
        name: its name.
        plugin: the object.
        public: digest of its code and public state when it got its name.
    """

    kind: Kind
    name: str
    plugin: Plugin
    public: str

    def found(self) -> Found:
        """It as if it were on offer."""
        cls = type(self.plugin)
        lines = (cls.__doc__ or "").strip().splitlines()
        offer = Offer(self.name, f"{cls.__module__}:{cls.__qualname__}", lines[0] if lines else "")
        return Found(self.kind, offer, "this session", "")


_HELD: dict[tuple[Kind, str], Held] = {}


def held(kind: Kind, name: str) -> Held | None:
    """The plug-in of this session by this name, if there is one."""
    return _HELD.get((kind, name))


def held_names() -> tuple[str, ...]:
    """The names of all plug-ins of this session."""
    return tuple(name for _, name in _HELD)


def hold(plugins: Iterable[Held]) -> None:
    """Take plug-ins of another session into this one."""
    for one in plugins:
        _HELD[one.kind, one.name] = one


def holding(names: Iterable[tuple[Kind, str]]) -> tuple[Held, ...]:
    """Those of this session among names of plug-ins."""
    return tuple(_HELD[name] for name in names if name in _HELD)


def name_of(plugin: Plugin) -> str:
    """The name by which a configuration may name a plug-in: the one that it is installed by, or one of this
    session, which knows it from then on.

    An object keeps its name while it fills caches of its own, which are private, and gets another where its
    code or its public state becomes another.

    Raises:
        PluginError: it is no plug-in.
    """
    kind = kind_of(plugin)
    installed = _installed_name(kind, type(plugin))
    if installed:
        return installed
    from sbikit.plugins.code import digest

    public = digest(plugin, public=True)
    for one in _HELD.values():
        if one.plugin is plugin and one.public == public:
            return one.name
    name = f"{getattr(plugin, 'called', type(plugin).__name__)}{MARK}{digest(plugin)}"
    _HELD[kind, name] = Held(kind, name, plugin, public)
    return name


def kind_of(plugin: object) -> Kind:
    """Whether it is a simulator, an estimator, an exact sampler or a validator, or a class of such.

    Raises:
        PluginError: it is none of them.
    """
    from sbikit import roles

    bases: dict[Kind, type] = {
        "simulator": roles.Simulator,
        "estimator": roles.Estimator,
        "sampler": roles.ExactSampler,
        "validator": roles.Validator,
    }
    cls = plugin if isinstance(plugin, type) else type(plugin)
    for kind, base in bases.items():
        if issubclass(cls, base):
            return kind
    raise PluginError(
        "This is no plug-in.",
        where=_place(cls),
        expected=", ".join(f"an sbikit.{base.__name__}" for base in bases.values()),
        got=repr(plugin)[:80],
    )


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _installed_name(kind: Kind, cls: type) -> str:
    """What a class is installed as; "" where nobody offers it."""
    from sbikit.plugins.registry import resolve

    home = cls.__module__.partition(".")[0]
    for found in catalogue().of(kind):
        module, _, name = found.offer.target.partition(":")
        if (module.partition(".")[0], name) != (home, cls.__name__):
            continue
        try:
            if resolve(kind, found.offer.name) is cls:
                return found.offer.name
        except PluginError:  # two have this name, or it is broken
            continue
    return ""


def plugin_of(kind: Kind, plugin: object) -> Plugin:
    """A plug-in of the kind that is asked for; of a class, which is made with its defaults, too.

    Raises:
        PluginError: it is none.
    """
    found = kind_of(plugin)
    cls = plugin if isinstance(plugin, type) else type(plugin)
    if found != kind:
        raise PluginError(
            f"A {kind} is asked for, and this is a {found}.",
            where=_place(cls),
            expected=f"a {kind}, or the name of one",
            got=found,
        )
    if not isinstance(plugin, type):
        return cast("Plugin", plugin)
    try:
        return cast("Plugin", cls())
    except TypeError as error:
        raise PluginError(
            f"The {kind} {cls.__name__} cannot be made without arguments.",
            where=_place(cls),
            expected=f"a class that is made by {cls.__name__}(), or an object of it",
            got=str(error),
            fix="make the object, and give that",
        ) from error
