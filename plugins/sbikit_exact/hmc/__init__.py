"""Hamiltonian Monte Carlo in torch, with the chains of many observations in one batch."""

from __future__ import annotations

from sbikit_exact.hmc.plugin import HMC
from sbikit_exact.hmc.sampler import HMCSampler
from sbikit_exact.options.hmc import HMCOptions

__all__ = ["HMC", "HMCOptions", "HMCSampler"]
