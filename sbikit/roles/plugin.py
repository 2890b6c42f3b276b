"""What every plug-in is: something made from options, which are checked once and stay typed."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, get_args

from typing_extensions import TypeIs, TypeVar

from sbikit.problem.options import Options as BaseOptions

OptionsT_co = TypeVar("OptionsT_co", bound=BaseOptions, default=BaseOptions, covariant=True)
CapabilityT = TypeVar("CapabilityT")


class Plugin(ABC, Generic[OptionsT_co]):
    """Anything made from options: `class Mine(Simulator[MineOptions])`, or without brackets if it has none.

    The brackets set the class's `Options`, the model that options are checked by, and the type of `options`.

    Attributes:
        for_checks: option -> value, of an estimator or an exact sampler: what contract checks use in place of
            the default where the option is not given, so that they end in a minute. Short work keeps the same
            promises as long work. See `sbikit.testing`.
    """

    Options: ClassVar[type[BaseOptions]] = BaseOptions
    for_checks: ClassVar[Mapping[str, Any]] = {}
    options: OptionsT_co

    def __init_subclass__(cls, **words: Any) -> None:
        super().__init_subclass__(**words)
        for base in cls.__dict__.get("__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, BaseOptions):
                    cls.Options = argument

    def __init__(self, options: OptionsT_co | None = None) -> None:
        self.options = self.Options() if options is None else options  # type: ignore[assignment]


def supports(plugin: object, capability: type[CapabilityT]) -> TypeIs[CapabilityT]:
    """Whether a plug-in has a capability, such as `sbikit.SupportsFloor`.

    A capability is had by class: a method that one instance has and another of its class has not is none.
    Nor is an attribute of that name that cannot be called.
    """
    return supports_by_class(type(plugin), capability)


def supports_by_class(plugin: type[object], capability: type[object]) -> bool:
    """The same of a class of plug-ins."""
    names = [name for name in vars(capability) if not name.startswith("_")]
    return all(callable(getattr(plugin, name, None)) for name in names)


__all__ = ["OptionsT_co", "Plugin", "supports"]
