"""The stage that keeps training simulations, in a store of the run folder or one that many runs share.

Its output is simulations.json: how many draws are kept and good, and a digest of them all, so that what is
trained on them is trained anew where they are others. Where the store lies is no part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sbikit.problem.errors import StoreError
from sbikit.runs.job import Run
from sbikit.runs.own_store import asked, record
from sbikit.simulations import keeping
from sbikit.simulations.failing import failing_in_store, failing_in_streams
from sbikit.simulations.store import Store, exists
from sbikit.storage.files import write_json
from sbikit.storage.seals import sealed


def keep(run: Run) -> Sequence[Path]:
    """The store, filled; simulations.json; failed-draws.json, which no other stage but the report reads."""
    wanted = asked(run.folder, run.simulator)
    kept = keeping.keep(wanted, run.lend_workers, run.monitor)
    failed = sum(kept.failures.values())
    run.monitor.say(
        f"keep: {kept.good} simulations in {wanted.path}" + (f", {failed} more failed" if failed else "")
    )
    if kept.good < 2:
        raise StoreError("No two simulations are good.", where=str(wanted.path), fix="keep more of them")
    run.folder.failed_draws.unlink(missing_ok=True)
    if failed:
        store = Store.open(wanted.path, wanted.simulator, wanted.identity)
        write_json(
            run.folder.failed_draws, sealed(failing_in_store(store, run.simulator.prior, wanted.count))
        )
    write_json(run.folder.kept, sealed(record(kept)))
    return [run.folder.kept]


def mend(run: Run) -> None:
    """Read all that is kept; draws that are not as they were written count as missing from then on."""
    wanted = asked(run.folder, run.simulator)
    if exists(wanted.path):
        keeping.mend(wanted, run.monitor)


def note_left_out(run: Run) -> None:
    """left-out.json: which draws of the endless streams failed, for the report."""
    run.folder.left_out_noted.unlink(missing_ok=True)
    if run.left_out.failed:
        found = failing_in_streams(run.left_out, run.simulator.prior)
        write_json(run.folder.left_out_noted, sealed(found))
