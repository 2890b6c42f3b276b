"""Joint draws as the pairs that a flow is trained on, coordinates and rows; the sampler that they scale."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sbikit import JointDraws, Monitor, Spec, Values, Workspace, check_memory
from sbikit.learning import (
    FixedSet,
    KeptRows,
    Parts,
    Spill,
    describe_problem,
    fingerprint,
    validation_size,
)
from sbikit_npe.embedding import ROWS, Reader
from sbikit_npe.options import NPEOptions
from sbikit_npe.sampler import NPESampler
from sbikit_npe.training import COORDINATES, Held

# Simulations at once: more need more memory, fewer more calls. No result depends on it.
_CHUNK = 512
# Rows that set the scales of the embedding, which see them in one batch: each scale is known to 1.6 %,
# which training makes good. More need more memory.
_SCALING_ROWS = 2000
SIMULATIONS = 20_000  # of an endless stream
# Of a fixed set, draws that judge: they tell the loss to 1.6 % of its spread. More take time at every look.
_MOST_JUDGES = 4096
# Numbers of rows whose features are computed together, of an endless stream and of a fixed set, and of a part
# where there are more. Features take several times their memory.
_WHOLE, _HELD, _PART = 2**26, 2**23, 2**21


class Source:
    """Where pairs come from.

    Args:
        simulations: an endless stream or a fixed set.
        spec: the problem, with latent vectors alone.
        options: how many, and the architecture.
        seed: fixes initial weights and the order of the pairs.

    Attributes:
        identity: all that the fit depends on.
    """

    def __init__(self, simulations: JointDraws, spec: Spec, options: NPEOptions, seed: int) -> None:
        self._simulations, self._spec, self._options, self._seed = simulations, spec, options, seed
        problem = describe_problem(simulations.simulator, spec)
        self.identity = fingerprint(options.model_dump(), problem, simulations.seed, seed)
        self._reader = Reader(simulations.simulator, spec)

    def pairs(self, workspace: Workspace, monitor: Monitor) -> tuple[NPESampler, Held | FixedSet]:
        """A sampler with its scales, untrained, and what it is to be trained on."""
        size = self._simulations.size
        return self.drawn(workspace, monitor) if size is None else self.kept(size, workspace, monitor)

    def drawn(self, workspace: Workspace, monitor: Monitor) -> tuple[NPESampler, Held]:
        """Of an endless stream, held in memory; an interrupted fit kept those that it had.

        Raises:
            OptionError: there is no memory for as many.
            CheckpointError: what was kept is damaged, or of another fit.
        """
        o = self._options
        keys = {f"latent/{v.name}": v.name for v in self._spec.latents}
        total = SIMULATIONS if o.simulations is None else o.simulations

        def rest(done: int) -> Iterator[Values]:
            with monitor.progress("simulating", total, done) as advance:
                for first in range(done, total, _CHUNK):
                    draws = self._simulations.training(first, min(_CHUNK, total - first))
                    rows = self._reader.rows(draws)
                    check_memory(
                        total * rows[0].numel(),
                        f"{total:,} simulations of {rows[0].numel():,} numbers each",
                        where="estimator.simulations",
                        fix="ask for fewer, or keep simulations: those are read from the disk",
                    )
                    yield {**{key: draws[name] for key, name in keys.items()}, ROWS: rows}
                    advance(len(rows))

        kept = KeptRows(workspace.folder, "pairs", self.identity, writes=workspace.team.rank == 0)
        drawn = kept.joined(rest)
        latents = {name: drawn[key] for key, name in keys.items()}
        seen = drawn[ROWS]
        # Zeros in the shape of one observation tell what there is to see, and no simulation is made for it.
        sampler = self._sampler({v.name: torch.zeros(1, *v.shape) for v in self._spec.observables})
        sampler.coordinates.fit(latents)
        sampler.flow.embedding_net.fit_scales(_in_parts(seen[:_SCALING_ROWS]))
        pairs = {COORDINATES: sampler.coordinates.encode(latents), ROWS: seen}
        judges = validation_size(total, o.validation_fraction)
        return sampler, Held(pairs, judges=judges, batch=o.batch, seed=self._seed)

    def kept(self, size: int, workspace: Workspace, monitor: Monitor) -> tuple[NPESampler, FixedSet]:
        """Of a fixed set of `size` draws, read from where it is kept if it does not fit in memory."""
        o = self._options
        count = min(size, o.simulations or size)
        judges = min(validation_size(count, o.validation_fraction), _MOST_JUDGES)
        sampler = self._scaled(min(_SCALING_ROWS, count - judges), workspace)

        def prepare(draws: Values) -> dict[str, Tensor]:
            return {COORDINATES: sampler.coordinates.encode(draws), ROWS: self._reader.rows(draws)}

        pairs = FixedSet(
            self._simulations, count=count, judges=judges, batch=o.batch, seed=self._seed, prepare=prepare
        )
        number = f"all {count:,}" if count == size else f"{count:,} of {size:,}"
        noise = ", with other noise in each epoch" if pairs.fresh_noise else ""
        monitor.say(f"npe: training on {number} kept simulations{noise}; {judges:,} of them judge")
        return sampler, pairs

    def _sampler(self, draws: Values) -> NPESampler:
        inputs = self._reader.inputs(draws)
        return NPESampler(self._simulations.simulator, self._spec, inputs, self._options, self._seed)

    def _scaled(self, count: int, workspace: Workspace) -> NPESampler:
        """A sampler whose scales come from the first draws."""
        one = self._simulations.training(0, 1)
        sampler = self._sampler(one)
        at_once = max(1, min(_CHUNK, _PART // sum(value.numel() for value in one.values())))
        keys = {f"latent/{v.name}": v.name for v in self._spec.latents}
        with Spill(workspace.folder, held=_HELD, part=_PART) as spill:
            for first in range(0, count, at_once):
                draws = self._simulations.training(first, min(at_once, count - first))
                latents = {key: draws[name] for key, name in keys.items()}
                spill.add({**latents, ROWS: self._reader.rows(draws)})
            named = spill.parts(*keys).through(lambda part: {keys[key]: part[key] for key in keys})
            sampler.coordinates.fit_parts(named)
            sampler.flow.embedding_net.fit_scales(spill.parts(ROWS))
        return sampler


def _in_parts(rows: Tensor) -> Parts:
    """Rows (M, P) in one part, or in several where features of all of them take too much memory."""
    if rows.numel() <= _WHOLE:
        return Parts.held({ROWS: rows})
    some = rows.split(max(1, _PART // rows.shape[1]))
    return Parts(lambda: ({ROWS: part} for part in some))
