"""Are kept simulations safe, complete and cheap, and does training on them reach what the stream reaches?

    python benchmarks/keeping.py FOLDER [--quick] [--only PART]

Parts: kill (100 stores and runs killed with SIGKILL at random moments: same draws and posterior to the bit,
nothing lost, none drawn twice), fail (a tenth of the draws fail), worker (workers killed at work), slurm (a
job cancelled; where Slurm is installed), rate (draws a second by workers), overhead (of the store over plain
npy), memory (reading 1,000,000 draws of 128 px x 5 bins), start (from the first step to the full rate), toys
(known posteriors from 1,000 and 10,000 kept draws and from the stream). Kills are lines of
FOLDER/keeping.jsonl, and the same command goes on where it was interrupted; --quick ends in ten minutes.
Prints one figure a line.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import sys
from pathlib import Path

import torch
from _keeping import costs, simulators

PARTS = ("kill", "fail", "worker", "slurm", "rate", "overhead", "memory", "start", "toys")


def main() -> int:
    """Do what is asked for."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("folder", type=Path)
    words.add_argument("--quick", action="store_true", help="a tenth of the cases and sizes")
    words.add_argument("--only", choices=PARTS, action="append", help="this part alone; repeat for several")
    words.add_argument("--read", type=int, help=argparse.SUPPRESS)
    given = words.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    simulators.install_simulators(folder / "site")
    if given.read:
        costs.read_all(folder, given.read)
        return 0
    for part in given.only or PARTS:
        _RUN[part](folder, given.quick)
    return 0


def _kill(folder: Path, quick: bool) -> None:
    from _faults.runs import heat_up
    from _keeping.kills import killed
    from _record import record

    heat_up()
    results = folder / "keeping.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    done = {one["case"]: one for one in map(json.loads, lines)}
    count = 10 if quick else 100
    with results.open("a") as file:
        for case in range(count):
            if case not in done:
                done[case] = {"case": case, **killed(folder, case)}
                file.write(json.dumps(done[case]) + "\n")
                file.flush()
    well = sum(bool(done[case]["well"]) for case in range(count))
    twice = sum(int(done[case]["twice"]) for case in range(count))
    record("kills after which all is the same to the bit", well, None, goal=f"{count}", ok=well == count)
    record("kept draws that were drawn again", twice, None, goal="0", ok=twice == 0)


def _fail(folder: Path, quick: bool) -> None:
    from _keeping.failures import failing

    failing(folder, 2_000 if quick else 20_000)


def _worker(folder: Path, quick: bool) -> None:
    from _keeping.failures import killed_workers

    killed_workers(10 if quick else 50)


def _slurm(folder: Path, quick: bool) -> None:
    from _keeping.failures import cancelled_job

    cancelled_job(folder)


def _rate(folder: Path, quick: bool) -> None:
    costs.rates(250 if quick else 2_500)


def _overhead(folder: Path, quick: bool) -> None:
    costs.overhead(folder, 100 if quick else 400, 11 if quick else 41)


def _memory(folder: Path, quick: bool) -> None:
    costs.memory(folder, 10_000 if quick else 1_000_000)


def _start(folder: Path, quick: bool) -> None:
    from _keeping.training import start

    start(folder, 2_000 if quick else 20_000)


def _toys(folder: Path, quick: bool) -> None:
    from _keeping.training import toys

    toys((1_000,) if quick else (1_000, 10_000))


_RUN = {
    "kill": _kill,
    "fail": _fail,
    "worker": _worker,
    "slurm": _slurm,
    "rate": _rate,
    "overhead": _overhead,
    "memory": _memory,
    "start": _start,
    "toys": _toys,
}

if __name__ == "__main__":
    sys.exit(main())
