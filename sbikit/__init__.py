"""sbikit: joint posteriors of fields and parameters from simulations, with proof of calibration.

Names are imported on first use, so that `import sbikit` and the command line start at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "sbikit.hookspecs": ("Offer", "hookimpl"),
    "sbikit.options": ("Options",),
    "sbikit.errors": (
        "SbikitError",
        "OptionError",
        "PluginError",
        "SpecError",
        "UnsupportedError",
        "SimulationError",
        "RunFolderError",
        "CheckpointError",
        "ObservationError",
        "DeviceError",
    ),
    "sbikit.variables": (
        "Values",
        "Variable",
        "Vector",
        "Field",
        "Spec",
        "check_observation",
        "check_values",
    ),
    "sbikit.prior": ("Law", "Uniform", "Normal", "TruncatedNormal", "LogNormal", "Prior"),
    "sbikit.interfaces": (
        "Plugin",
        "Simulator",
        "LogDensity",
        "SupportsLogDensity",
        "SupportsObserve",
        "SupportsSummaries",
        "SupportsFloor",
        "SupportsDiagnostics",
        "Trust",
        "Sampler",
        "Estimator",
        "Monitor",
        "QuietMonitor",
        "Validator",
        "Comparison",
        "Evidence",
        "Metric",
        "Curve",
        "Report",
    ),
    "sbikit.simulations": ("Simulations",),
    "sbikit.registry": ("load",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604

if TYPE_CHECKING:
    from sbikit.errors import (  # noqa: F401
        CheckpointError,
        DeviceError,
        ObservationError,
        OptionError,
        PluginError,
        RunFolderError,
        SbikitError,
        SimulationError,
        SpecError,
        UnsupportedError,
    )
    from sbikit.hookspecs import Offer, hookimpl  # noqa: F401
    from sbikit.interfaces import (  # noqa: F401
        Comparison,
        Curve,
        Estimator,
        Evidence,
        LogDensity,
        Metric,
        Monitor,
        Plugin,
        QuietMonitor,
        Report,
        Sampler,
        Simulator,
        SupportsDiagnostics,
        SupportsFloor,
        SupportsLogDensity,
        SupportsObserve,
        SupportsSummaries,
        Trust,
        Validator,
    )
    from sbikit.options import Options  # noqa: F401
    from sbikit.prior import Law, LogNormal, Normal, Prior, TruncatedNormal, Uniform  # noqa: F401
    from sbikit.registry import load  # noqa: F401
    from sbikit.simulations import Simulations  # noqa: F401
    from sbikit.variables import Field, Spec, Values, Variable, Vector, check_observation, check_values  # noqa: F401


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sbikit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
