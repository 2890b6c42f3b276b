"""Simulations that are drawn once and kept, from Python."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sbikit.interface.asking import AnySimulator, Temporary, choice_of, monitor, simulator_of
from sbikit.plugins.session import held
from sbikit.problem.errors import OptionError
from sbikit.problem.variables import Values
from sbikit.runs.own_store import identity
from sbikit.simulations.keeping import Asked, Kept, keep
from sbikit.simulations.store import Store
from sbikit.simulations.stored import Stored
from sbikit.simulations.stream import Simulations
from sbikit.simulations.trying import simulating
from sbikit.storage.files import PARTIAL
from sbikit.workers.places import open_pool, read_place

_FEWEST, _MOST = 2, 1_000_000_000


class KeptSimulations:
    """A fixed number of joint draws of a simulator, in a store on the disk.

    It is a `JointDraws`, so an estimator may be fitted to it directly, too. `sbikit.simulate` makes it.

    Attributes:
        simulator: what they are draws of.
        spec: its problem.
        seed: of the store.
        size: how many draws are good.
        count: how many were asked for.
        failures: in which way draws failed -> how many.
        store: the folder that they lie in.
        timeout: seconds after which a draw counted as failed; None: never.
        max_failures: the share of draws that might fail.
    """

    def __init__(self, asked: Asked, store: Store, kept: Kept, temporary: Temporary | None = None) -> None:
        self.simulator, self.spec, self.seed = asked.simulator, asked.simulator.spec, store.seed
        self.store, self.timeout, self.max_failures = asked.path, asked.timeout, asked.most
        self.count, self.failures = kept.count, dict(kept.failures)
        self.size: int | None = kept.good
        self._temporary = temporary
        self._stored = Stored(store, Simulations(asked.simulator, store.seed), asked.count)

    def training(self, first: int, count: int) -> Values:
        """Draws `first` to `first + count - 1`, each (count, *shape)."""
        return self._stored.training(first, count)

    def held_out(self, first: int, count: int) -> Values:
        """New draws that no estimator is fitted to, each (count, *shape)."""
        return self._stored.held_out(first, count)

    def arrays(self, first: int = 0, count: int | None = None) -> dict[str, NDArray[np.float32]]:
        """Good draws as arrays, each (count, *shape).

        Args:
            first: number of the first one.
            count: how many; all from there on where left out.
        """
        found = self.training(first, len(self) - first if count is None else count)
        return {name: value.numpy() for name, value in found.items()}

    @property
    def temporary(self) -> bool:
        """Whether the store ends with this object."""
        return self._temporary is not None

    def copy_to(self, path: Path) -> None:
        """Copy the store to a path where nothing is yet: all of it or nothing."""
        partial = path.with_name(f"{path.stem}.{os.getpid()}{PARTIAL}{path.suffix}")
        try:
            shutil.copytree(self.store, partial)
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def __len__(self) -> int:
        return self.size or 0

    def __repr__(self) -> str:
        failed = sum(self.failures.values())
        names = ", ".join(v.name for v in (*self.spec.latents, *self.spec.observables))
        return f"{len(self):,} draws of {names}" + (f"; {failed:,} more failed" if failed else "")


def simulate(
    simulator: AnySimulator,
    count: int,
    *,
    seed: int = 0,
    store: str | Path | None = None,
    workers: int = 1,
    cluster: str | None = None,
    max_failures: float = 0.1,
    timeout: float | None = None,
    progress: bool = True,
) -> KeptSimulations:
    """Draw parameters, fields and data together, and keep them.

    Draw i depends on (seed, i) alone. A store that is there already is gone on with: what is in it is not
    drawn again, and a call that was interrupted loses next to nothing.

    Args:
        simulator: an object, its class, or the name of one that is installed.
        count: how many draws are tried, from the first one on.
        seed: of a store that is not there yet.
        store: folder to keep them in; a temporary one where left out, which ends with what is returned.
        workers: processes of this machine.
        cluster: a dask cluster in their place, as `--cluster` of the command line.
        max_failures: share of draws that may fail, which are left out.
        timeout: seconds after which a draw counts as failed; None: never.
        progress: whether progress is shown.

    Raises:
        SimulationError: more draws fail than may; the good ones are kept.
        StoreError: the store holds something else.
        OptionError: an argument is out of range.
        PluginError: it is no simulator.
    """
    if not _FEWEST <= count <= _MOST:
        raise OptionError(
            "So many simulations cannot be kept.",
            where="sbikit.simulate(count=...)",
            expected=f"a whole number from {_FEWEST} to {_MOST:,}",
            got=str(count),
        )
    made = simulator_of(simulator)
    temporary = Temporary() if store is None else None
    path = temporary.path / "simulations.zarr" if temporary else Path(str(store))
    choice = choice_of("simulator", made)
    asked = Asked(
        path=path,
        simulator=made,
        identity=identity(choice, made, timeout),
        seed=seed,
        count=count,
        most=max_failures,
        timeout=timeout,
    )
    place, shown = read_place(workers, cluster or "", where="cluster"), monitor(progress)
    recipe = simulating(made, by_options=held("simulator", choice.name) is None)
    kept = keep(asked, lambda: open_pool(place, recipe, shown), shown)
    return KeptSimulations(asked, Store.open(path, made, asked.identity), kept, temporary)
