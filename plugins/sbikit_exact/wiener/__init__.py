"""Independent exact draws where a simulator's fields can be integrated out (`sbikit.MarginalDensity`)."""

from __future__ import annotations

from sbikit_exact.options.wiener import WienerOptions
from sbikit_exact.wiener.plugin import Wiener
from sbikit_exact.wiener.sampler import WienerSampler

__all__ = ["Wiener", "WienerOptions", "WienerSampler"]
