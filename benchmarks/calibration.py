"""The table of calibration of a preset: `python benchmarks/calibration.py FOLDER [--preset NAME] [--quick]`.

The run in FOLDER/run is judged; where it is not there it is made with the preset, first `sbikit init`, then
`sbikit fit`. On held-out observations of its seed, on which nothing was chosen:

    validators  mira, tarp (centres of the prior, made from the data, and uniform), sbc and coverage, every
                figure; the power of the draws over the truth's
    hmc         on the first of these observations, where the simulator has a log density: every figure of
                agreement; offsets of means beyond the floor, one-point quantiles, and the correlation of each
                parameter with what its map looks like less the exact one
    speed       joint draws a CPU second over hmc's effective ones, on one thread
    solver      how many network evaluations a draw needs

Each is a line with its standard error, what it is for an exact posterior, its floor and its goal, where it
has them. `--set simulator.n_gal=100` makes the run with that setting. All draws and figures are kept in
FOLDER, so the same command goes on where it was interrupted. How much is done is in `_calibration/sizes.py`,
or as `--observations`, `--draws`, `--compared` (with hmc) and `--only` say. `--quick` is a trial of all of it
in FOLDER/trial, at 32 pixels a side and with hardly any training, within ten minutes for the preset `quick`:
its figures are not results, and every line says so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from _calibration.beside import Beside
from _calibration.drawn import draw_all
from _calibration.judged import Judged
from _calibration.sizes import Sizes, sizes_of
from _calibration.trained import fit_apart, held_out, identity, trained
from _kept import kept_record
from _record import record
from _solved import MANY, solved, tell_solved
from _speed import speed, tell_speed

from sbikit import SbikitError, UnsupportedError
from sbikit.runs import Run
from sbikit.storage import object_digest

STEPS = ("validators", "hmc", "speed", "solver")
_OF_SDS, _OF_MEANS = 0.01, 0.02  # what a solver may get wrong: of the ratio of sds, and posterior sd


def tell_trial(name: str, *figures: float | None, **more: Any) -> None:
    """A figure that is no result."""
    record(f"trial, not a result: {name}", *figures, **more)  # type: ignore[arg-type]


def tell_rate(folder: Path, run: Run, sizes: Sizes, tell: Callable[..., Any]) -> None:
    """Joint draws a CPU second over hmc's."""
    key = object_digest([identity(run), repr(sizes.speed)])
    run.monitor.say("speed: draws on one thread")
    try:
        found = kept_record(folder / "speed.json", key, lambda: speed(run, sizes.speed, run.monitor))
        tell_speed(found, tell)
    except UnsupportedError as error:
        run.monitor.say(f"no speed is compared with hmc's: {error}")


def tell_evaluations(folder: Path, run: Run, sizes: Sizes, tell: Callable[..., Any]) -> None:
    """Errors of the sampler's own evaluations and of others, and the fewest that are good enough."""
    key = object_digest([identity(run), list(sizes.solver), "looks"])
    run.monitor.say(f"solver: draws beside those with {MANY} evaluations")
    try:
        found = kept_record(folder / "solver.json", key, lambda: list(solved(run, *sizes.solver)))
    except UnsupportedError as error:
        run.monitor.say(f"no evaluations are counted: {error}")
        return
    for one in found:
        tell_solved(one, tell)
    goal = f"sds within {_OF_SDS:g} and means within {_OF_MEANS:g} sd of those with {MANY}"
    for own in (one for one in found if one["own"]):
        name, count = own["latent"], own["evaluations"]
        tell(f"evaluations a draw of {name}", count, None, goal=goal, ok=_exact(own))
        enough = [one["evaluations"] for one in found if one["latent"] == name and _exact(one)]
        if enough:
            tell(f"fewest evaluations a draw of {name} that reach it, of those tried", min(enough), None)


def _exact(one: dict[str, Any]) -> bool:
    return abs(one["ratio"] - 1.0) <= _OF_SDS and one["shift"] <= _OF_MEANS


def main(arguments: Sequence[str] | None = None, fit: Callable[[Path], None] = fit_apart) -> None:
    """Do what is missing, and tell all.

    Args:
        arguments: those of the command line where left out.
        fit: see `trained`.
    """
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folder", type=Path)
    words.add_argument("--preset", default="quick", help="of the run, and of how much is done")
    words.add_argument("--quick", action="store_true", help="a trial, whose figures are no results")
    for name, what in (
        ("observations", "held-out ones"),
        ("draws", "for each"),
        ("compared", "with hmc, of these"),
    ):
        words.add_argument(f"--{name}", type=int, metavar="N", help=what)
    words.add_argument("--only", default=",".join(STEPS), metavar="STEPS", help="commas between")
    words.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the run")
    given = words.parse_args(arguments)
    chosen = given.only.split(",")
    if unknown := set(chosen) - set(STEPS):
        words.error(f"--only takes {', '.join(STEPS)}, not {', '.join(sorted(unknown))}")
    sizes = sizes_of(given.preset, quick=given.quick)
    wanted = {name: getattr(given, name) for name in ("observations", "draws", "compared")}
    sizes = replace(sizes, **{name: count for name, count in wanted.items() if count is not None})
    folder = given.folder / "trial" if sizes.trial else given.folder  # its run is no run of the preset
    tell = tell_trial if sizes.trial else record
    run = trained(folder / "run", given.preset, sizes, given.set, fit)
    values = held_out(folder / "held-out.safetensors", run, sizes.observations)
    if {"validators", "hmc"} & set(chosen):
        kept = draw_all(folder / "draws", run, values, sizes)
    if "validators" in chosen:
        judged = Judged(run, values, kept, folder / "judged", tell)
        judged.tell_all()
        judged.tell_power()
        judged.tell_raw()
    if "hmc" in chosen:
        Beside(run, values, kept, folder / "beside", sizes, tell).tell_all()
    if "speed" in chosen:
        tell_rate(folder, run, sizes, tell)
    if "solver" in chosen:
        tell_evaluations(folder, run, sizes, tell)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
    except subprocess.CalledProcessError as error:  # of sbikit, which has said why
        sys.exit(error.returncode)
    except SbikitError as error:
        sys.exit(str(error))
