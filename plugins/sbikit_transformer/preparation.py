"""What is fitted before the networks train: constants and guide, and what simulations teach.

An interrupted fit keeps both, the second as it comes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from sbikit import (
    Alone,
    JointDraws,
    Monitor,
    Team,
    Values,
    Workspace,
    derive_seed,
    generator,
    shares,
)
from sbikit.learning import KeptRows, SharedDraws, read_checkpoint, write_checkpoint
from sbikit_transformer.constants import fit_constants
from sbikit_transformer.denoiser import Denoiser
from sbikit_transformer.teaching import ALONG, FEATURES, GUIDED, TOLD, numbers_of_law, teach, teach_shapes

# Simulations at once for the guide: more need more memory, fewer more calls. No result depends on it. Of
# twice as many numbers arrays are above 32 MiB, taken from the system and given back each time: 6 % longer.
_CHUNK, _CHUNK_NUMBERS = 512, 2**21
# What more simulations tell, in numbers, is kept in half precision: a float16 holds standardised numbers to
# 1/2000 of them, below the least ridge that laws of so many have.
_WHOLE_NUMBERS = 2**29
_FORMAT = "diffusion-transformer constants 3"


class Reading:
    """Simulations in chunks, with progress, which `monitor` hears of.

    Args:
        denoiser: of their problem.
        simulations: each process of the team has its own.
        monitor: is told how far it is.
        team: processes that read together.
    """

    def __init__(
        self, denoiser: Denoiser, simulations: JointDraws, monitor: Monitor, team: Team | None = None
    ) -> None:
        spec = denoiser.spec
        numbers = sum(math.prod(v.shape) for v in (*spec.latents, *spec.observables))
        self._at_once = max(1, min(_CHUNK, _CHUNK_NUMBERS // numbers))
        self._simulations, self.monitor, self._team = simulations, monitor, team or Alone()

    def __call__(self, what: str, first: int, count: int, done: int = 0) -> Iterator[Values]:
        """Training draws from `first` on, `count` of them but for those that are done, for something."""
        shared = SharedDraws(self._simulations, self._team)
        return (shared.training(at, some) for at, some in self._chunks(what, first, count, done))

    def shares(self, what: str, first: int, count: int, done: int) -> Iterator[tuple[Values, int, int]]:
        """Of each of these chunks the draws that are this process's, how many these are, and how many there
        are in all: what has none gets one all the same, which tells shapes.
        """
        for at, some in self._chunks(what, first, count, done):
            start, own = shares(some, self._team.size)[self._team.rank]
            yield self._simulations.training(at + start if own else at, own or 1), own, some

    def _chunks(self, what: str, first: int, count: int, done: int) -> Iterator[tuple[int, int]]:
        verb = "reading" if self._simulations.size is not None else "simulating"
        with self.monitor.progress(f"{verb} for {what}", count, done) as advance:
            for at in range(first + done, first + count, self._at_once):
                some = min(self._at_once, first + count - at)
                yield at, some
                advance(some)


class Preparation:
    """Fits a denoiser but for its networks.

    Args:
        denoiser: on the CPU.
        read: simulations, which all processes of the workspace's team read together.
        identity: of the fit, see `fingerprint`.
        workspace: where what is done is kept.
    """

    def __init__(self, denoiser: Denoiser, read: Reading, identity: str, workspace: Workspace) -> None:
        self._denoiser, self._read, self._identity = denoiser, read, identity
        self._folder, self._team = workspace.folder, workspace.team
        self._writes = workspace.team.rank == 0

    def fit_constants(self, count: int) -> None:
        """Constants and guide, to the first `count` simulations.

        Raises:
            CheckpointError: what is kept of them is damaged, or of another fit.
        """
        path = None if self._folder is None else self._folder / "constants.safetensors"
        if path is not None and path.exists():
            kept = read_checkpoint(path, _FORMAT)
            kept.check_identity(self._identity)
            kept.restore("denoiser", self._denoiser)
            return
        simulations = self._read("the Gaussian guide", 0, count)
        fit_constants(self._denoiser, simulations, self._folder, self._read.monitor)
        self._team.agree(self._denoiser)  # each teaches a share of what data tell
        if path is not None and self._writes:
            header = {"identity": self._identity}
            write_checkpoint(path, _FORMAT, {"denoiser": self._denoiser.state_dict()}, header)

    def teaching(self, first: int, count: int) -> Values:
        """What `count` simulations from `first` on teach, see `teach`; each process has a share of the work,
        and all of what it gives.

        Raises:
            CheckpointError: what is kept of it is damaged, or of another fit.
        """

        short = count * numbers_of_law(self._denoiser) > _WHOLE_NUMBERS

        def rest(done: int) -> Iterator[Values]:
            for values, own, size in self._read.shares("what data tell", first, count, done):
                rows = teach(self._denoiser, values, guided=done < GUIDED)
                if short:
                    rows[TOLD] = rows[TOLD].to(torch.float16)
                yield {name: self._team.join(value[:own]) for name, value in rows.items()}
                done += size

        return KeptRows(self._folder, "told", self._identity, writes=self._writes).joined(rest)

    def fit_shape_errors(self, first: int, count: int) -> None:
        """The guide's errors along shapes, to `count` simulations from `first` on, once the law is learned.

        Raises:
            CheckpointError: what is kept of them is damaged, or of another fit.
        """
        if (errors := self._denoiser.shape_errors) is None:
            return
        rows = self.teaching_shapes(first, count)
        errors.fit(
            zip(*(rows[name].unbind(1) for name in (FEATURES, ALONG)), strict=True), self._read.monitor
        )

    def teaching_shapes(self, first: int, count: int) -> Values:
        """What `count` simulations from `first` on teach of them, see `teach_shapes`; as `teaching`."""
        shape = (self._denoiser.field_map.channels, *self._denoiser.grid)

        def rest(done: int) -> Iterator[Values]:
            for values, own, size in self._read.shares("the guide's errors", first, count, done):
                start, _ = shares(size, self._team.size)[self._team.rank]
                source = generator(derive_seed(0, "shape errors", done))
                noise = torch.randn(size, *shape, generator=source)
                own_noise = noise[start : start + own] if own else noise[:1]
                rows = teach_shapes(self._denoiser, values, own_noise)
                yield {name: self._team.join(value[:own]) for name, value in rows.items()}
                done += size

        return KeptRows(self._folder, "shapes", self._identity, writes=self._writes).joined(rest)
