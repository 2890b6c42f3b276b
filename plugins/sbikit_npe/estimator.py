"""Neural posterior estimation of the latent vectors; latent fields are marginalised out.

A conditional flow q(theta | x) is trained on joint draws by maximum likelihood, so q is the marginal
posterior of the vectors whether or not there are latent fields beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch

from sbikit import (
    Estimator,
    JointDraws,
    Monitor,
    Sampler,
    Simulator,
    Spec,
    UnsupportedError,
    Workspace,
)
from sbikit.learning import SharedDraws
from sbikit_npe.flow import load_posterior_nn
from sbikit_npe.options import NPEOptions
from sbikit_npe.pairs import SIMULATIONS, Source
from sbikit_npe.sampler import NPESampler
from sbikit_npe.training import train


class NPE(Estimator[NPEOptions]):
    """Neural posterior estimation with a neural spline flow or a vector field of sbi."""

    divides = True
    for_checks: ClassVar = {"simulations": 1000, "steps": 200}

    def match(self, spec: Spec) -> Spec:
        """The marginal problem of the latent vectors.

        Raises:
            UnsupportedError: there is no latent vector.
        """
        if not spec.vectors:
            raise UnsupportedError(
                "The estimator 'npe' infers vectors, and this problem has none to infer.",
                where="estimator 'npe'",
                expected="at least one latent vector",
                got=", ".join(v.name for v in spec.latents) + " (fields)",
                fix="use --estimator diffusion-transformer, which infers fields",
            )
        return spec.select(*(v.name for v in spec.vectors))

    def draws_wanted(self) -> int:
        """Those that are held in memory."""
        return SIMULATIONS if self.options.simulations is None else self.options.simulations

    def fit(
        self, simulations: JointDraws, *, seed: int, workspace: Workspace, monitor: Monitor
    ) -> NPESampler:
        """Learn the posterior; see `Estimator.fit`.

        Raises:
            UnsupportedError: the problem has no latent vector.
            PluginError: sbi is not installed.
            CheckpointError: the checkpoint of an unfinished fit is damaged, or of another fit.
        """
        load_posterior_nn()
        spec = self.match(simulations.spec)
        dropped = [v.name for v in simulations.spec.latents if v not in spec.latents]
        if dropped:
            monitor.say(f"npe: marginalised over {', '.join(dropped)}; only vectors are inferred")
        if workspace.precision != torch.float32:
            monitor.say("npe: trained in float32: splines need it")
        if simulations.size is None:  # what is kept is read by threads, and by each process itself
            simulations = SharedDraws(simulations, workspace.team)
        source = Source(simulations, spec, self.options, seed)
        sampler, pairs = source.pairs(workspace, monitor)
        for module in (sampler.coordinates, sampler.flow):
            workspace.team.agree(module)
        train(
            sampler.to(workspace.device).flow,
            pairs,
            self.options,
            identity=source.identity,
            seed=seed,
            workspace=workspace,
            monitor=monitor,
        )
        return sampler

    def save(self, sampler: Sampler, folder: Path) -> None:
        """Write `npe.safetensors`.

        Raises:
            UnsupportedError: the sampler is not from this estimator.
        """
        if not isinstance(sampler, NPESampler):
            raise UnsupportedError(
                "The estimator 'npe' can only save its own samplers.",
                expected="NPESampler",
                got=type(sampler).__name__,
            )
        sampler.write(folder / "npe.safetensors")

    def load(self, folder: Path, simulator: Simulator, *, device: torch.device) -> NPESampler:
        """Read what `save` wrote; its options, not this estimator's, say how the networks are built.

        Raises:
            CheckpointError: the folder is damaged or belongs to another problem.
            PluginError: sbi is not installed.
        """
        spec = self.match(simulator.spec)
        return NPESampler.read(folder / "npe.safetensors", simulator, spec).to(device)
