"""An estimator learns a sampler from simulations."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import torch

from sbikit.problem.spec import Spec
from sbikit.roles.joint_draws import JointDraws
from sbikit.roles.monitor import Monitor, Workspace
from sbikit.roles.plugin import OptionsT_co, Plugin
from sbikit.roles.sampler import Sampler
from sbikit.roles.simulator import Simulator


class Estimator(Plugin[OptionsT_co]):
    """Learns a sampler from simulations."""

    def match(self, spec: Spec) -> Spec:
        """The part of `spec` that this estimator can infer, before any work is done.

        Raises:
            UnsupportedError: it can infer none of it.
        """
        return spec

    def draws_wanted(self) -> int | None:
        """How many training simulations a fit asks for where there is no end of them; None: unknown."""
        return None

    @abstractmethod
    def fit(self, simulations: JointDraws, *, seed: int, workspace: Workspace, monitor: Monitor) -> Sampler:
        """Learn the posterior. Goes on from what `workspace.folder` holds of an interrupted fit."""

    @abstractmethod
    def save(self, sampler: Sampler, folder: Path) -> None:
        """Write a fitted sampler: safetensors for weights, JSON for the rest."""

    @abstractmethod
    def load(self, folder: Path, simulator: Simulator, *, device: torch.device) -> Sampler:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the folder is damaged or belongs to another problem.
        """
