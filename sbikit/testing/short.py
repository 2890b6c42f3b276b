"""A plug-in at the budget that it declares for its own checks.

Shapes, seeds and files are the same promises after a second of training as after an hour. What is short
enough and still learns or mixes, the plug-in alone knows: its class says so in `for_checks`.
"""

from __future__ import annotations

from typing import Any, TypeVar

from sbikit.problem.errors import OptionError
from sbikit.problem.option_errors import check_options
from sbikit.roles.plugin import Plugin
from sbikit.testing.promises import sbikit_errors_are_broken_promises

PluginT = TypeVar("PluginT", bound=Plugin[Any])


def short(plugin: PluginT) -> PluginT:
    """The plug-in with its `for_checks` in place of the defaults of options that were not given.

    Where they do not go together with what was given, nothing is replaced: a longer check is right, too.

    Raises:
        ContractError: `for_checks` names unknown options or values that are out of range.
    """
    cls = type(plugin)
    if not cls.for_checks:
        return plugin
    where = f"{cls.__name__}.for_checks"
    with sbikit_errors_are_broken_promises(where):
        check_options(cls.Options, cls.for_checks, prefix=(where,))
    given = plugin.options.model_dump(mode="json", include=plugin.options.model_fields_set)
    try:
        return cls(check_options(cls.Options, {**cls.for_checks, **given}))
    except OptionError:
        return plugin


__all__ = ["short"]
