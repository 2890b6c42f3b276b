"""Neural posterior estimation of the latent vectors; latent fields are marginalised out.

A conditional flow q(theta | x) is trained on joint draws by maximum likelihood, so q is the marginal
posterior of the vectors whether or not there are latent fields beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from sbikit import (
    Estimator,
    JointDraws,
    Monitor,
    Sampler,
    Simulator,
    Spec,
    UnsupportedError,
    Workspace,
    check_memory,
)
from sbikit.learning import fingerprint
from sbikit_npe.embedding import Input, Reader
from sbikit_npe.flow import load_posterior_nn
from sbikit_npe.options import NPEOptions
from sbikit_npe.sampler import NPESampler
from sbikit_npe.training import Pairs, train

# Simulations at once: more need more memory, fewer more calls. No result depends on it.
_CHUNK = 512
# Rows that set the scales of the embedding, which see them in one batch: each scale is known to 1.6 %,
# which training makes good. More need more memory.
_SCALING_ROWS = 2000


class NPE(Estimator[NPEOptions]):
    """Neural posterior estimation with a neural spline flow of sbi."""

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
        return self.options.simulations

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
        latents, rows, inputs = self._simulate(simulations, spec, monitor)
        sampler = NPESampler(simulations.simulator, spec, inputs, self.options, seed)
        sampler.coordinates.fit(latents)
        sampler.flow.embedding_net.fit_scales(rows[:_SCALING_ROWS])
        pairs = Pairs(sampler.coordinates.encode(latents), rows)
        identity = fingerprint(self.options.model_dump(), sampler.problem, simulations.seed, seed)
        train(
            sampler.to(workspace.device).flow,
            pairs,
            self.options,
            seed=seed,
            identity=identity,
            workspace=workspace,
            monitor=monitor,
        )
        return sampler

    def _simulate(
        self, simulations: JointDraws, spec: Spec, monitor: Monitor
    ) -> tuple[dict[str, Tensor], Tensor, tuple[Input, ...]]:
        """Training draws: latents, each (N, D), rows (N, P), and what the rows hold."""
        reader = Reader(simulations.simulator, spec)
        latents: dict[str, list[Tensor]] = {v.name: [] for v in spec.latents}
        rows = []
        total = self.options.simulations
        with monitor.progress("simulating", total) as advance:
            for first in range(0, total, _CHUNK):
                draws = simulations.training(first, min(_CHUNK, total - first))
                for name, parts in latents.items():
                    parts.append(draws[name])
                rows.append(reader.rows(draws))
                check_memory(
                    total * rows[0][0].numel(),
                    f"{total:,} simulations of {rows[0][0].numel():,} numbers each",
                    where="estimator.simulations",
                    fix="ask for fewer",
                )
                advance(len(rows[-1]))
        joined = {name: torch.cat(parts) for name, parts in latents.items()}
        return joined, torch.cat(rows), reader.inputs(draws)

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
