"""The sampler that `npe` learns: noise through a flow, or along a vector field, given the data's context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from sbikit import (
    Draws,
    Sampler,
    Simulator,
    Spec,
    Values,
    check_observation,
    derive_seed,
    draw_seeds,
    normals,
)
from sbikit.learning import Coordinates, damaged, describe_problem, read_checkpoint, write_checkpoint
from sbikit_npe.embedding import Embedding, Input, Reader
from sbikit_npe.flow import build_flow, build_vector_field
from sbikit_npe.options import NPEOptions
from sbikit_npe.vector_field import VectorField

_FORMAT = "npe 3"


class NPESampler(Sampler):
    """Draws from a flow.

    Args:
        simulator: knows prior and summaries.
        spec: the problem, with latent vectors alone.
        inputs: what the embedding net sees.
        options: the architecture.
        seed: fixes the initial weights.
    """

    def __init__(
        self, simulator: Simulator, spec: Spec, inputs: tuple[Input, ...], options: NPEOptions, seed: int
    ) -> None:
        self.spec = spec
        self.inputs = inputs
        self.options = options
        self.problem = describe_problem(simulator, spec)
        self.reader = Reader(simulator, spec)
        self.coordinates = Coordinates(simulator.prior, spec.vectors)
        self.device = torch.device("cpu")
        self.flow = self._build(seed)

    def _build(self, seed: int) -> Any:
        """The networks with the weights that they begin with."""
        options, row = self.options, sum(torch.Size(i.shape).numel() for i in self.inputs)
        embedding, size = _build_embedding(self.inputs, options, seed), self.coordinates.size
        if options.method == "npe":
            return build_flow(
                embedding,
                row=row,
                size=size,
                transforms=options.transforms,
                hidden=options.hidden,
                layers=options.layers,
                bins=options.bins,
                seed=derive_seed(seed, "flow"),
            )
        return build_vector_field(
            embedding,
            row=row,
            size=size,
            method=options.method,
            width=options.field_width,
            layers=options.field_layers,
            steps=options.solver_steps,
            seed=derive_seed(seed, "flow"),
        )

    def to(self, device: torch.device) -> NPESampler:
        """Move the networks to a device."""
        self.device = device
        self.flow.to(device)
        return self

    @torch.no_grad()
    def sample(self, observation: Values, n: int, *, seeds: NDArray[np.int64]) -> Draws:
        """See `Sampler.sample`; draw i of observation b depends on the observation and (seeds[b], i) alone.

        Raises:
            ObservationError: the observation does not fit the simulator, or there is not one seed for each.
        """
        check_observation(observation, self.spec, seeds)
        self.flow.eval()
        columns = []
        for b, seed in enumerate(seeds):
            one = {v.name: observation[v.name][b : b + 1] for v in self.spec.observables}
            noise = normals(draw_seeds(int(seed), "draws", 0, n), (self.coordinates.size,), self.device)
            columns.append(self._push(noise, self.reader.rows(one)))
        return Draws.unjudged(self.coordinates.decode(torch.stack(columns, 1)))

    def _push(self, noise: Tensor, row: Tensor) -> Tensor:
        """Noise (n, D) through the flow given one row (1, P)."""
        context: Tensor = self.flow.embedding_net(row.to(self.device))
        if isinstance(self.flow, VectorField):
            return self.flow.solve(noise, context).cpu()
        drawn: Tensor = self.flow.net(context.squeeze(0)).transform.inv(noise)
        return drawn.cpu()

    def write(self, path: Path) -> None:
        """Write weights, scales, and what they are to be built with."""
        parts = {"flow": self.flow.state_dict(), "coordinates": self.coordinates.state_dict()}
        header = {
            "problem": self.problem,
            "options": self.options.model_dump(),
            "inputs": [[i.name, list(i.shape), i.stationary, i.periodic] for i in self.inputs],
        }
        write_checkpoint(path, _FORMAT, parts, header)

    @staticmethod
    def read(path: Path, simulator: Simulator, spec: Spec) -> NPESampler:
        """Read what `write` wrote; its options say how the networks are built.

        Raises:
            CheckpointError: the file is missing, damaged or belongs to another problem.
        """
        kept = read_checkpoint(path, _FORMAT)
        kept.check_problem(describe_problem(simulator, spec))
        try:
            options = NPEOptions.model_validate(kept.header["options"])
            inputs = tuple(
                Input(str(name), tuple(int(n) for n in shape), bool(stationary), bool(periodic))
                for name, shape, stationary, periodic in kept.header["inputs"]
            )
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            raise damaged(path, error) from error
        sampler = NPESampler(simulator, spec, inputs, options, seed=0)
        kept.restore("flow", sampler.flow)
        kept.restore("coordinates", sampler.coordinates)
        return sampler


def _build_embedding(inputs: tuple[Input, ...], options: NPEOptions, seed: int) -> Embedding:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "embedding"))
        return Embedding(inputs, options.channels, options.context)
