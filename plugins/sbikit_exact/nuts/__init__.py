"""The No-U-Turn sampler of nutpie on a torch log density, one observation after the other."""

from __future__ import annotations

from sbikit_exact.nuts.plugin import NUTS
from sbikit_exact.nuts.sampler import NUTSSampler
from sbikit_exact.options.nuts import NUTSOptions

__all__ = ["NUTS", "NUTSOptions", "NUTSSampler"]
