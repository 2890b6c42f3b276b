"""The contract checks of all kinds under one name, and as tests of pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from sbikit.problem.errors import PluginError
from sbikit.roles.estimator import Estimator
from sbikit.roles.monitor import Monitor
from sbikit.roles.plugin import Plugin
from sbikit.roles.sampler import ExactSampler
from sbikit.roles.simulator import Simulator
from sbikit.roles.validator import Validator
from sbikit.testing.estimators import check_estimator
from sbikit.testing.exact_samplers import check_exact_sampler
from sbikit.testing.simulators import check_simulator
from sbikit.testing.validators import check_validator


def check_plugin(plugin: Plugin | type[Plugin], *, monitor: Monitor | None = None) -> None:
    """Check a plug-in of any kind, by `check_simulator` and its like.

    Args:
        plugin: the object, or its class, which is made with its defaults.
        monitor: hears of what may be meant and may be a mistake.

    Raises:
        ContractError: the first promise found broken.
        PluginError: it is no plug-in.
    """
    made = plugin() if isinstance(plugin, type) else plugin
    if isinstance(made, Simulator):
        check_simulator(made, monitor=monitor)
    elif isinstance(made, Estimator):
        check_estimator(made, monitor=monitor)
    elif isinstance(made, ExactSampler):
        check_exact_sampler(made, monitor=monitor)
    elif isinstance(made, Validator):
        check_validator(made)
    else:
        raise PluginError(
            "This is no plug-in.",
            where=type(made).__name__,
            expected="a simulator, an estimator, an exact sampler or a validator",
            got=repr(made)[:80],
        )


def parametrize_with_checks(plugins: Iterable[Plugin | type[Plugin]]) -> Callable[[Any], Any]:
    """A decorator that makes one test of pytest for each plug-in::

        @parametrize_with_checks([Mine(), Mine(MineOptions(size=8)), MyEstimator])
        def test_contract(check):
            check()

    Args:
        plugins: objects, or classes that are made with their defaults.
    """
    import pytest

    cases = [pytest.param(partial(check_plugin, plugin), id=_called(plugin)) for plugin in plugins]
    return pytest.mark.parametrize("check", cases)


def _called(plugin: Plugin | type[Plugin]) -> str:
    """The class, and the options that were given."""
    if isinstance(plugin, type):
        return plugin.__name__
    options = getattr(plugin, "options", None)
    if options is None:
        return type(plugin).__name__
    fields = type(options).model_fields  # in their order: processes that share tests know these by name
    words = [f"{name}={getattr(options, name)}" for name in fields if name in options.model_fields_set]
    return type(plugin).__name__ + (f"({','.join(words)})" if words else "")
