"""The kept simulations of one run: where they are, what they must have been made by, and training draws."""

from __future__ import annotations

from typing import Any

from sbikit.learning.identity import describe_problem
from sbikit.plugins import registry
from sbikit.problem.errors import StoreError
from sbikit.roles.simulator import Simulator
from sbikit.run.config import RunConfig
from sbikit.run.depends import simulator_by_content
from sbikit.run.folder import RunFolder
from sbikit.run.ledger import read_sealed_record
from sbikit.simulations.keeping import Asked, Kept
from sbikit.simulations.store import Store
from sbikit.simulations.stored import Stored
from sbikit.simulations.stream import Simulations


def asked(folder: RunFolder, simulator: Simulator) -> Asked:
    """What a run wants to be kept."""
    config = folder.config
    return Asked(
        path=folder.store,
        simulator=simulator,
        identity=identity(config, simulator),
        seed=config.seed,
        count=config.simulations.count or 0,
        most=config.simulations.max_failures,
        timeout=config.simulations.timeout,
    )


def identity(config: RunConfig, simulator: Simulator) -> dict[str, Any]:
    """All that a draw depends on but its seed: what other runs must agree with to share it."""
    found = registry.find("simulator", config.simulator.name)
    return {
        "simulator": simulator_by_content(config),
        "offered by": f"{found.distribution} {found.version}",
        "simulations": {"timeout": config.simulations.timeout},
        "problem": describe_problem(simulator, simulator.spec),
    }


def record(kept: Kept) -> dict[str, Any]:
    """What simulations.json holds: what is trained on them is trained anew where this is another."""
    return {
        "count": kept.count,
        "good": kept.good,
        "failures": dict(kept.failures),
        "content": kept.content,
    }


def kept_size(folder: RunFolder) -> int | None:
    """How many good simulations the stage `keep` has kept; None where the run keeps none."""
    return None if folder.config.simulations.count is None else int(read_sealed_record(folder.kept)["good"])


def fault(folder: RunFolder, simulator: Simulator) -> str:
    """Why the store does not hold what the stage `keep` has left in it; "" where it does."""
    wanted, recorded = asked(folder, simulator), read_sealed_record(folder.kept)
    if recorded.get("count") != wanted.count:
        return f"{recorded.get('count', 0)} simulations were kept, and {wanted.count} are asked for"
    try:
        store = Store.open(wanted.path, simulator, wanted.identity)
        same = record(Kept.of(store, wanted.count)) == recorded
    except StoreError as error:
        return f"{wanted.path}: {error.message.rstrip('.')}"
    return "" if same else f"{wanted.path} holds other simulations, or fewer"


def stored(folder: RunFolder, stream: Simulations) -> Stored:
    """The training draws that the stage `keep` has kept, and held-out draws of the run's own stream.

    Raises:
        StoreError: they are there no longer.
    """
    why = fault(folder, stream.simulator)
    if why:
        raise StoreError(
            f"The simulations that were kept are not there any more: {why}.",
            where=str(folder.store),
            fix=f"sbikit simulate {folder.path} draws them again, and the same",
        )
    wanted = asked(folder, stream.simulator)
    return Stored(Store.open(wanted.path, stream.simulator, wanted.identity), stream, wanted.count)
