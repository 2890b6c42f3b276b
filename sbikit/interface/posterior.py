"""A posterior that takes observations as somebody has them at hand."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbikit.interface.draws import PosteriorDraws
from sbikit.interface.observed import batch_of
from sbikit.problem.bounds import bounds
from sbikit.problem.errors import OptionError, RunFolderError, UnsupportedError
from sbikit.roles.monitor import QuietMonitor
from sbikit.roles.plugin import supports
from sbikit.roles.sampler import Sampler
from sbikit.roles.simulator import Simulator, SupportsMasks
from sbikit.runs.folder import RunFolder
from sbikit.runs.given import check_given, conditional, spec_given
from sbikit.runs.new_data import draws_for, seeds_for
from sbikit.runs.work import summarised

_MOST = 10_000_000


class Posterior(Sampler):
    """The posterior of a simulator's latents given data: fitted, exact, or one that ships.

    `sbikit.fit`, `sbikit.run`, `sbikit.exact`, `sbikit.open_run` and `sbikit.pretrained` give one.

    Attributes:
        simulator: whose posterior it is.
        spec: what is inferred from what.
        name: of the estimator or the exact sampler.
        folder: the run folder of a fitted one; None of others.
    """

    def __init__(
        self,
        sampler: Sampler,
        simulator: Simulator,
        *,
        name: str,
        seed: int = 0,
        folder: Path | None = None,
        keep: object = None,
    ) -> None:
        self.simulator, self.spec, self.name = simulator, sampler.spec, name
        self.folder = folder
        self._sampler, self._seed, self._keep = sampler, seed, keep

    def sample(
        self,
        observation: Any,
        n: int = 1000,
        *,
        seed: int | None = None,
        seeds: NDArray[np.int64] | None = None,
    ) -> PosteriorDraws:
        """Draw from the posterior of one observation, or of each of many.

        Args:
            observation: variable -> array, of one observation (*shape), or of B of them (B, *shape); the
                array alone where one variable is observed. The axis of a single channel may be left out. A
                latent among them is taken for known: what is drawn is the posterior of the others given it.
            n: draws an observation.
            seed: fixes the draws, with the number of the observation; the run's where left out.
            seeds: (B,), one an observation, in place of `seed`.

        Raises:
            ObservationError: the observation does not fit the simulator, or is not finite.
            UnsupportedError: what draws cannot do so given these latents.
            OptionError: there cannot be so many draws, or they do not fit into memory.
        """
        if not 1 <= n <= _MOST:
            raise OptionError(
                "There cannot be so many draws.", where="n", expected=f"1 to {_MOST:,}", got=str(n)
            )
        masks = self.simulator.masks() if supports(self.simulator, SupportsMasks) else {}
        names = [
            v.name for v in self.spec.latents if isinstance(observation, Mapping) and v.name in observation
        ]
        sampler, spec = conditional(self._sampler, names, self.name), spec_given(self.simulator.spec, names)
        values, single = batch_of(observation, spec, masks)
        check_given(values, [spec[name] for name in names], self.simulator.prior, "observation")
        if seeds is None:
            count = len(next(iter(values.values())))
            seeds = seeds_for(self.name, self._seed if seed is None else seed, count)
        quiet, fixed = QuietMonitor(), np.asarray(seeds)
        found = draws_for(sampler, values, n, seeds=fixed, monitor=quiet, where="n")
        return PosteriorDraws(
            found.values,
            found.trust,
            spec=sampler.spec,
            observation={v.name: values[v.name] for v in sampler.spec.observables},
            bounds={v.name: bounds(v, self.simulator.prior) for v in sampler.spec.vectors},
            summaries=summarised(self.simulator, values),
            summarised=self.simulator.summarised,
            sampler=self.name,
            single=single,
        )

    def opened(self) -> RunFolder:
        """The run folder that a fitted posterior lies in.

        Raises:
            UnsupportedError: it was not fitted here.
            RunFolderError: the folder is damaged, or gone.
        """
        if self.folder is None:
            raise UnsupportedError(
                f"The posterior by {self.name!r} lies in no run folder.",
                expected="a posterior of sbikit.fit, sbikit.run or sbikit.open_run",
                got=repr(self),
            )
        return RunFolder.open(self.folder)

    def save(self, path: str | Path) -> Path:
        """Keep a fitted posterior as a run folder, which `sbikit.open_run` opens and the command line takes.

        Args:
            path: a folder that is not there yet.

        Raises:
            RunFolderError: there is something.
            UnsupportedError: the posterior was not fitted here.
        """
        target = Path(path)
        if target.exists():
            raise RunFolderError(
                "There is something where the posterior is to be kept; nothing was changed.",
                where=str(target),
                expected="a folder that is not there yet",
                fix="choose another path",
            )
        shutil.copytree(self.opened().path, target, ignore=shutil.ignore_patterns(".lock"))
        return target

    def __repr__(self) -> str:
        latents = ", ".join(v.name for v in self.spec.latents)
        seen = ", ".join(v.name for v in self.spec.measured)
        return f"p({latents} | {seen}) by {self.name}"
