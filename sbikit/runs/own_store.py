"""The kept simulations of one run: where they are, what they must have been made by, and training draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from sbikit.learning.identity import describe_problem
from sbikit.plugins import registry
from sbikit.problem.errors import OptionError, StoreError
from sbikit.problem.option_errors import check_options
from sbikit.roles.plugin import supports, supports_by_class
from sbikit.roles.simulator import Simulator, SupportsGivenDraws
from sbikit.runs.config import Choice, RunConfig
from sbikit.runs.depends import chosen_by_content
from sbikit.runs.folder import RunFolder
from sbikit.runs.ledger import read_sealed_record
from sbikit.simulations.importing import DrawsFile
from sbikit.simulations.keeping import Asked, Kept, refuse_another_import
from sbikit.simulations.store import Store, exists
from sbikit.simulations.stored import Stored
from sbikit.simulations.stream import Simulations


def asked(folder: RunFolder, simulator: Simulator) -> Asked:
    """What a run wants to be kept."""
    config, given = folder.config, _given(folder, simulator)
    count = config.simulations.count or 0
    if gives_draws(config):
        most = 0 if given is None else given.draws
        count = min(most, count + config.sampling.observations) if count else most
    return Asked(
        path=folder.store,
        simulator=simulator,
        identity=identity(config.simulator, simulator, config.simulations.timeout),
        seed=config.seed,
        count=count,
        most=config.simulations.max_failures,
        timeout=config.simulations.timeout,
        given=given,
    )


def gives_draws(config: RunConfig) -> bool:
    """Whether the simulator cannot simulate, and has draws that were made elsewhere."""
    return supports_by_class(registry.resolve("simulator", config.simulator.name), SupportsGivenDraws)


def importing(folder: RunFolder, file: Path, count: int | None) -> tuple[RunFolder, int | None]:
    """The folder of a run that trains on imported draws, and how many it then keeps; None: all of them.

    Args:
        folder: of a run with a simulator, or with `table`, whose run.yaml then names the file.
        file: of named arrays.
        count: how many simulations are asked for; None: as many as the file holds.

    Raises:
        ObservationError: the file cannot be read, or holds no draws of the simulator.
        StoreError: others are kept already.
    """
    config = folder.config
    if gives_draws(config):
        tree = {**config.simulator.options.model_dump(mode="json"), "file": str(file)}
        options = check_options(type(config.simulator.options), tree, prefix=("simulator",))
        return folder.with_config(
            replace(config, simulator=replace(config.simulator, options=options))
        ), count
    simulator = cast(Simulator, registry.made("simulator", config.simulator.name, config.simulator.options))
    folder = folder.importing_from(file)
    wanted = asked(folder, simulator)
    if exists(wanted.path):
        refuse_another_import(wanted, Store.open(wanted.path, simulator, wanted.identity))
    most = 0 if wanted.given is None else wanted.given.draws
    return folder, most if count is None else count


def _given(folder: RunFolder, simulator: Simulator) -> DrawsFile | None:
    if not supports(simulator, SupportsGivenDraws):
        return None if folder.imports is None else DrawsFile.of(folder.imports, simulator)
    file = simulator.given_draws()
    if file is None:
        raise OptionError(
            "It is not known where the draws are.",
            where="simulator",
            expected="a file of named arrays",
            fix=f"sbikit simulate {folder.path} --import FILE",
        )
    return DrawsFile.of(file, simulator)


def identity(choice: Choice, simulator: Simulator, timeout: float | None) -> dict[str, Any]:
    """All that a draw depends on but its seed: what other runs must agree with to share it.

    Args:
        choice: of the simulator.
        simulator: the simulator.
        timeout: seconds after which a draw counts as failed; None: never.
    """
    found = registry.find("simulator", choice.name)
    return {
        "simulator": chosen_by_content(choice),
        "offered by": f"{found.distribution} {found.version}".strip(),
        "simulations": {"timeout": timeout},
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
    store = Store.open(wanted.path, stream.simulator, wanted.identity)
    held_out = folder.config.sampling.observations if gives_draws(folder.config) else None
    return Stored(store, stream, wanted.count, held_out=held_out)
