"""The estimator `diffusion-transformer`."""

from __future__ import annotations

from dataclasses import replace
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
    Workspace,
    support_bounds,
)
from sbikit.learning import describe_problem, fingerprint, read_checkpoint, write_checkpoint
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.grids import common_grid
from sbikit_transformer.options import TransformerOptions
from sbikit_transformer.sampler import TransformerSampler
from sbikit_transformer.training import looked_at, train, wanted_of_law

_FORMAT = "diffusion-transformer 18"
# Of large maps most of what is written; it has a file of its own, since files that ship are of limited size.
_APART = "data_map.components.directions"


class DiffusionTransformer(Estimator[TransformerOptions]):
    """Transformer diffusion: of parameters given data, then of fields given both, their patches and the
    parameters being tokens of one sequence. Of vectors alone a perceptron stands in the transformer's place.
    """

    divides = True
    for_checks: ClassVar = {"steps": 50, "guide_simulations": 512, "evaluations": 8}

    def match(self, spec: Spec) -> Spec:
        """Everything, if the latent fields share a grid and lie in intervals.

        Raises:
            UnsupportedError: they do not.
        """
        common_grid(spec)
        for field in spec.fields:
            support_bounds(field.name, field.support)
        return spec

    def draws_wanted(self) -> int:
        """New ones at every step, those that fit the guide, those that teach what data tell, and those that
        never train.

        Where steps are measured, theirs are not counted: they take as long as is asked for, however slow
        simulations are.
        """
        o = self.options
        of_steps = (o.fixed_steps or 0) * o.batch
        return o.guide_simulations + wanted_of_law(o) + of_steps + looked_at(o)

    def fit(
        self, simulations: JointDraws, *, seed: int, workspace: Workspace, monitor: Monitor
    ) -> TransformerSampler:
        """Fit the guide, then train on the endless stream; see `sbikit.Estimator.fit`.

        Raises:
            CheckpointError: the checkpoint of an unfinished fit is damaged, or of another fit.
        """
        denoiser = self._denoiser(simulations.simulator)
        problem = describe_problem(simulations.simulator, denoiser.spec)
        train(
            denoiser,
            simulations,
            self.options,
            seed=seed,
            identity=fingerprint(self.options.model_dump(), problem, simulations.seed, seed),
            workspace=workspace,
            monitor=monitor,
        )
        return TransformerSampler(denoiser, self.options, workspace.device)

    def _denoiser(self, simulator: Simulator) -> Denoiser:
        o, spec = self.options, self.match(simulator.spec)
        with torch.random.fork_rng(devices=[]):  # layers draw weights when made; `reset` draws the real ones
            return Denoiser(
                simulator,
                spec,
                patch=o.patch,
                width=o.width,
                depth=o.depth,
                heads=o.heads,
                nodes=o.guide_nodes,
            )

    def save(self, sampler: Sampler, folder: Path) -> None:
        """Write `weights.safetensors` and, where maps have components, `components.safetensors`."""
        if not isinstance(sampler, TransformerSampler):
            raise TypeError(f"expected a TransformerSampler, got {type(sampler).__name__}")
        denoiser = sampler.denoiser
        header = {"problem": describe_problem(denoiser.simulator, denoiser.spec)}
        state = denoiser.state_dict()
        apart = {_APART: state.pop(_APART)}
        write_checkpoint(folder / "weights.safetensors", _FORMAT, {"denoiser": state}, header)
        if denoiser.data_map.components.count:
            write_checkpoint(folder / "components.safetensors", _FORMAT, {"denoiser": apart}, header)

    def load(self, folder: Path, simulator: Simulator, *, device: torch.device) -> TransformerSampler:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the folder is damaged or belongs to another problem.
        """
        problem = describe_problem(simulator, self.match(simulator.spec))
        kept = read_checkpoint(folder / "weights.safetensors", _FORMAT)
        kept.check_problem(problem)
        denoiser = self._denoiser(simulator)
        state = {_APART: denoiser.state_dict()[_APART], **kept.parts.get("denoiser", {})}
        if denoiser.data_map.components.count:
            apart = read_checkpoint(folder / "components.safetensors", _FORMAT)
            apart.check_problem(problem)
            state |= apart.parts.get("denoiser", {})
        replace(kept, parts={"denoiser": state}).restore("denoiser", denoiser)
        return TransformerSampler(denoiser, self.options, device)
